//! The reader whom `audit find --to` asks for, and whether a record's pseudonyms can be held against him.

use crate::{
    audit::pseudonym::{PREFIX, Pseudonyms, bare, reader},
    mail::record::MailRecord,
};

/// A reader, or a part of an address.
pub(super) struct Sought {
    /// As it was typed, in lower case.
    text: String,
    /// The whole address in the form in which two of them are compared; none for a part of one.
    reader: Option<String>,
    /// What stands for him, by each key.
    pub(super) pseudonyms: Vec<String>,
    /// The names of these keys.
    keys: Vec<String>,
}

/// Why it is unknown whether a pseudonym stands for the reader who was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Uncompared {
    /// A part of an address was asked for.
    Part,
    /// There is no key.
    NoKey,
    /// It was made by a key that is not here.
    OtherKey,
    /// It was made by an earlier build, which does not say by which key.
    UnknownKey,
}

impl Sought {
    pub(super) fn of(to: &str, pseudonyms: &Pseudonyms) -> Self {
        Self { text: to.to_lowercase(), reader: reader(to), pseudonyms: pseudonyms.of(to), keys: pseudonyms.keys() }
    }

    /// Whether a mail went to him, as far as can be told.
    pub(super) fn is_of(&self, mail: &MailRecord) -> bool {
        mail.to.iter().any(|path| self.is(path))
    }

    /// A part of an address, or the same reader, by his address or by what stands for it.
    fn is(&self, path: &str) -> bool {
        let same = || self.reader.is_some() && reader(path) == self.reader;
        path.to_lowercase().contains(&self.text) || self.pseudonyms.iter().any(|name| path.contains(name)) || same()
    }

    /// Why it is unknown whether a mail went to him; none where it is known.
    pub(super) fn uncompared(&self, mail: &MailRecord) -> Option<Uncompared> {
        mail.to.iter().filter_map(|path| self.why(bare(path).strip_prefix(PREFIX)?, &mail.recipients_key)).min()
    }

    fn why(&self, hidden: &str, key: &str) -> Option<Uncompared> {
        let asked = self.reader.as_deref().unwrap_or_else(|| bare(&self.text));
        // What was asked for stands as it is in a pseudonym, too.
        if asked.starts_with(['@']) || asked.starts_with(PREFIX) {
            return None;
        }
        let domain = hidden.rsplit_once('@').map_or("", |(_, domain)| domain);
        let Some((_, asked)) = asked.rsplit_once('@') else { return Some(Uncompared::Part) };
        match domain.strip_prefix(asked) {
            // Somebody else, whoever that is.
            None => None,
            Some("") if self.keys.is_empty() => Some(Uncompared::NoKey),
            Some("") if key.is_empty() => Some(Uncompared::UnknownKey),
            Some("") if self.keys.iter().any(|known| known == key) => None,
            Some("") => Some(Uncompared::OtherKey),
            Some(_) => Some(Uncompared::Part),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    use super::*;
    use crate::{edit::tag::Key, mail::Record};

    fn pseudonyms(letters: &[u8]) -> Pseudonyms {
        Pseudonyms::by(&letters.iter().map(|letter| Key::parse(&BASE64.encode([*letter; 32])).unwrap()).collect::<Vec<_>>())
    }

    /// A mail to these, whose record was written with this key or, without one, holds the addresses.
    fn mail(to: &[&str], key: &[u8]) -> MailRecord {
        let json = r#"{"type":"mail","v":1,"time":"2026-11-25T20:17:26.120Z","id":"1a","from":"<a@b.test>","to":[],"size":8,"decision":"pass","observed":false}"#;
        let Some(Record::Mail(mut mail)) = Record::read(json.as_bytes()) else { panic!() };
        mail.to = to.iter().map(|to| (*to).to_owned()).collect();
        let mask = pseudonyms(key).mask(&mail.to);
        mask.mail(&mut mail);
        *mail
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let bob = "<bob@corp.example>";
        let name = pseudonyms(&[1]).of(bob).pop().unwrap();
        let is = (true, None);
        let other = (false, None);
        let unknown = |why| (false, Some(why));
        for (asked, keys, to, written, wanted) in [
            ("bob@corp.example", &[1][..], &[bob][..], &[1][..], is),
            ("Bob+x@CORP.example", &[2, 1], &[bob], &[1], is),
            ("ann@corp.example", &[1], &[bob], &[1], other),
            ("ann@corp.example", &[1], &[bob], &[2], unknown(Uncompared::OtherKey)),
            ("ann@corp.example", &[], &[bob], &[2], unknown(Uncompared::NoKey)),
            ("bob@corp.example", &[], &[bob], &[], is),
            ("ann@corp.example", &[], &[bob], &[], other),
            // Of another domain, and of one that begins alike.
            ("bob@corp.test", &[], &[bob], &[1], other),
            ("bob@corp.ex", &[1], &[bob], &[1], unknown(Uncompared::Part)),
            ("bob@corp.ex", &[1], &[bob], &[], is),
            // Parts: the domain stays in a pseudonym, and the rest of the address does not.
            ("bob", &[1], &[bob], &[1], unknown(Uncompared::Part)),
            ("bob@", &[1], &[bob], &[1], unknown(Uncompared::Part)),
            ("bob", &[], &[bob], &[1], unknown(Uncompared::Part)),
            ("bob", &[1], &[bob], &[], is),
            ("@corp.example", &[], &[bob], &[1], is),
            ("@corp.test", &[], &[bob], &[1], other),
            // A pseudonym itself.
            (&name, &[], &[bob], &[1], is),
            (&name, &[], &["<ann@corp.example>"], &[1], other),
            // One of several, not the first.
            ("bob", &[1], &["<ann@corp.example>", bob], &[1], unknown(Uncompared::Part)),
            ("bob@corp.example", &[1], &["<ann@other.test>", bob], &[1], is),
            ("bob@corp.example", &[], &["<ann@other.test>", bob], &[1], unknown(Uncompared::NoKey)),
        ] {
            let (sought, mail) = (Sought::of(asked, &pseudonyms(keys)), mail(to, written));
            let is_his = sought.is_of(&mail);
            let found = (is_his, sought.uncompared(&mail).filter(|_| !is_his));
            assert_eq!(found, wanted, "{asked} by {keys:?}, {to:?} by {written:?}");
        }
        let mut earlier = mail(&[bob], &[1]);
        earlier.recipients_key = String::new();
        assert_eq!(Sought::of("ann@corp.example", &pseudonyms(&[1])).uncompared(&earlier), Some(Uncompared::UnknownKey));
        assert!(Sought::of("bob@corp.example", &pseudonyms(&[1])).is_of(&earlier));
    }
}
