//! Pseudonyms in the place of readers' addresses, where the configuration wants them (`[audit] recipients = "hashed"`).
//!
//! `bob@corp.example` becomes `h:8a1f03b2c4d5e697@corp.example`: a keyed hash of the address, in lower case and without a detail
//! (`bob+news` is `bob`), so that a reader has one name in all records, and whoever has the key finds him by his address. Without the
//! key nobody does, and nobody can try addresses out: destroying it is the erasure.
//!
//! Pure. A [`Mask`] is made of a mail's recipients, and hides them in a record before anything is written, logged or counted: as
//! recipients, and in whatever else repeats them, as a next hop's reply or a reverse-path that was made for one mail (VERP).

use aho_corasick::{AhoCorasick, MatchKind};

use super::chain;
use crate::{
    edit::tag::Key,
    mail::{
        Outcome, Reason,
        record::{ClickRecord, MailRecord, RefusalRecord},
    },
    message::mailbox::Mailbox,
};

/// What pseudonyms begin with. No local part in use holds a colon.
pub const PREFIX: &str = "h:";

/// The shortest local part that is hidden where it stands as a word of its own: shorter ones are words of every text.
const WORD: usize = 3;

/// The keys of pseudonyms, the newest first; none where addresses stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Pseudonyms(Vec<Key>);

impl Pseudonyms {
    /// Pseudonyms by these keys. Without any, addresses stay as they are.
    #[must_use]
    pub fn by(keys: &[Key]) -> Self {
        Self(keys.iter().map(|key| key.derive("audit-recipients")).collect())
    }

    /// The pseudonyms of an address under each key, the newest first.
    #[must_use]
    pub fn of(&self, address: &str) -> Vec<String> {
        let address = bare(address);
        self.0.iter().map(|key| name(key, address)).collect()
    }

    /// The names of the keys, as records that hold pseudonyms have them; nobody learns a key from its name.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.0.iter().map(chain::name).collect()
    }

    /// The mask for a mail to these paths.
    #[must_use]
    pub fn mask(&self, recipients: &[String]) -> Mask {
        Mask(
            self.0
                .first()
                .map(|key| Box::new(Hidden { key: key.clone(), readers: recipients.iter().map(|to| Reader::of(key, to)).collect() })),
        )
    }

    /// A text that belongs to no mail, with a pseudonym for every address in it.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.0.first().map_or_else(|| text.to_owned(), |key| addresses(key, text, |_| true))
    }
}

/// Hides the readers of one mail; does nothing where addresses stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Mask(Option<Box<Hidden>>);

#[derive(Clone, Debug)]
struct Hidden {
    key: Key,
    readers: Vec<Reader>,
}

/// A reader, and what stands for him.
#[derive(Clone, Debug)]
struct Reader {
    /// The local part, as it was written, in lower case, and without its detail.
    locals: Vec<String>,
    /// The domain, as it was written and normalised; none where the path has none.
    domains: Vec<String>,
    /// The pseudonym, domain included.
    name: String,
}

impl Mask {
    /// Hides the readers in a mail's record. The Message-ID stays: it is the sender's, and by it a mail is found.
    pub fn mail(&self, record: &mut MailRecord) {
        let Some(hidden) = &self.0 else { return };
        record.to = record.to.iter().map(|path| hidden.path(path)).collect();
        record.recipients_key = chain::name(&hidden.key);
        record.from = hidden.reverse_path(&record.from);
        for reason in &mut record.reasons {
            // These tell of addresses that need not be the envelope's.
            let all = matches!(reason.check.known(), Some(Reason::Addressees | Reason::Recipients | Reason::Limit));
            let detail = if all { addresses(&hidden.key, &reason.detail, |_| true) } else { reason.detail.clone() };
            reason.detail = hidden.readers_in(&detail);
        }
        for link in &mut record.one_time_links {
            link.link = hidden.readers_in(&link.link);
        }
        if let Some(outcome) = &mut record.outcome {
            self.outcome(outcome);
        }
    }

    /// Hides the readers in what became of a mail.
    pub fn outcome(&self, outcome: &mut Outcome) {
        if let Some(hidden) = &self.0 {
            outcome.reply = hidden.reply(&outcome.reply);
        }
    }

    /// Hides the readers in the record of a refused mail.
    pub fn refusal(&self, record: &mut RefusalRecord) {
        let Some(hidden) = &self.0 else { return };
        record.from = hidden.reverse_path(&record.from);
        record.reply = hidden.reply(&record.reply);
    }

    /// Hides the reader in the record of a click. Of a link in a mail to several readers only the host stays, because the path may
    /// name one of them.
    pub fn click(&self, record: &mut ClickRecord) {
        let Some(hidden) = &self.0 else { return };
        if let Some(link) = &mut record.link {
            link.link = if record.to.is_empty() {
                link.link.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
            } else {
                hidden.readers_in(&link.link)
            };
        }
        if !record.to.is_empty() {
            record.to = hidden.path(&record.to);
        }
    }
}

impl Hidden {
    /// A forward-path, with its brackets where it has some.
    fn path(&self, path: &str) -> String {
        path.replace(bare(path), &name(&self.key, bare(path)))
    }

    /// A reverse-path. Its domain stays; its local part stays only where it is a plain word, because what senders make for one mail
    /// each holds the reader in forms without end: VERP, SRS, base64, hexadecimal.
    fn reverse_path(&self, path: &str) -> String {
        let address = bare(path);
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        let is_hidden = local.starts_with(PREFIX);
        if address.is_empty() || is_hidden || (is_plain(local) && !self.names(local)) {
            return path.to_owned();
        }
        let hidden = if Mailbox::parse(address).is_some() {
            name(&self.key, address)
        } else {
            // What cannot be parsed keeps what stands behind its last @.
            let domain = address.rsplit_once('@').map(|(_, domain)| format!("@{domain}")).unwrap_or_default();
            format!("{}{domain}", name(&self.key, local))
        };
        path.replace(address, &hidden)
    }

    /// Whether a text holds a reader's local part.
    fn names(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let locals = self.readers.iter().flat_map(|reader| &reader.locals);
        locals.filter(|local| local.chars().count() >= WORD).any(|local| text.contains(&local.to_lowercase()))
            || self.readers.iter().flat_map(|reader| &reader.locals).any(|local| local.eq_ignore_ascii_case(&text))
    }

    /// A reply: its codes stay, and addresses of the readers' domains are hidden, too, as aliases of theirs.
    fn reply(&self, reply: &str) -> String {
        let is_code = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let codes: usize =
            reply.split_inclusive([' ', '-']).take(2).take_while(|word| is_code(word.trim_end_matches([' ', '-']))).map(str::len).sum();
        let (codes, said) = reply.split_at_checked(codes).unwrap_or(("", reply));
        let said = self.readers_in(said);
        let said = addresses(&self.key, &said, |domain| self.readers.iter().any(|reader| reader.domains.iter().any(|own| own == domain)));
        format!("{codes}{said}")
    }

    /// A text with pseudonyms in the place of the readers.
    fn readers_in(&self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for (pattern, name) in self.readers.iter().flat_map(Reader::forms) {
            patterns.push(pattern);
            names.push(name);
        }
        let built = AhoCorasick::builder().ascii_case_insensitive(true).match_kind(MatchKind::LeftmostLongest).build(&patterns);
        // Too many patterns for a table, which no envelope has: then the text is left out rather than shown.
        let Ok(finder) = built else { return String::new() };
        let (mut out, mut end) = (String::new(), 0);
        for found in finder.find_iter(text) {
            let before = text.get(..found.start()).and_then(|before| before.chars().next_back());
            let after = text.get(found.end()..).and_then(|after| after.chars().next());
            if before.is_some_and(char::is_alphanumeric) || after.is_some_and(char::is_alphanumeric) {
                continue;
            }
            out.push_str(text.get(end..found.start()).unwrap_or_default());
            out.push_str(names.get(found.pattern().as_usize()).map_or("", String::as_str));
            end = found.end();
        }
        out.push_str(text.get(end..).unwrap_or_default());
        out
    }
}

impl Reader {
    fn of(key: &Key, path: &str) -> Self {
        let address = bare(path);
        let (local, domain) = address.rsplit_once('@').map_or((address, None), |(local, domain)| (local, Some(domain)));
        let mut locals = vec![local.to_owned(), local.to_lowercase(), local.trim_matches('"').to_owned()];
        let mut domains: Vec<String> = domain.into_iter().map(str::to_lowercase).collect();
        if let Some(mailbox) = Mailbox::parse(address) {
            locals.push(mailbox.user().to_owned());
            domains.push(mailbox.domain().to_string());
        }
        for list in [&mut locals, &mut domains] {
            list.retain(|text| !text.is_empty());
            list.sort();
            list.dedup();
        }
        Self { locals, domains, name: name(key, address) }
    }

    /// The forms in which the reader may stand in a text, each with what stands for it.
    fn forms(&self) -> Vec<(String, String)> {
        let name = self.name.split('@').next().unwrap_or_default();
        let mut all = Vec::new();
        for local in &self.locals {
            for domain in &self.domains {
                // As an address, in a link, and as reverse-paths hold it that a reply repeats: VERP, and SRS, which turns it about.
                for between in ["@", "%40", "=", "+", "-", "_", "."] {
                    all.push((format!("{local}{between}{domain}"), format!("{name}{between}{domain}")));
                }
                all.push((format!("{domain}={local}"), format!("{domain}={name}")));
            }
            if local.chars().count() >= WORD {
                all.push((local.clone(), name.to_owned()));
            }
        }
        all
    }
}

/// Whether a local part is a word, as `bounces` and `no-reply2`, in which no address can be written.
fn is_plain(local: &str) -> bool {
    let rest = local.get(1..).unwrap_or_default();
    local.len() <= PLAIN
        && local.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
        && local.bytes().filter(u8::is_ascii_digit).count() <= PLAIN_DIGITS
        && !rest.bytes().any(|octet| octet.is_ascii_uppercase())
}

/// Octets of a plain local part, at most; an address in base64 or hexadecimal is longer, or has digits or capitals in it.
const PLAIN: usize = 24;
/// Digits of a plain local part, at most.
const PLAIN_DIGITS: usize = 3;

/// A path without its angle brackets.
#[must_use]
pub fn bare(path: &str) -> &str {
    path.trim().trim_start_matches('<').trim_end_matches('>')
}

/// The reader of a whole address or path, in the form in which two of them are compared: in lower case, without a detail. None
/// for a part of an address.
#[must_use]
pub fn reader(address: &str) -> Option<String> {
    Mailbox::parse(bare(address)).map(|mailbox| mailbox.without_detail().to_string())
}

/// The pseudonym of an address.
fn name(key: &Key, address: &str) -> String {
    let mailbox = Mailbox::parse(address).map(|mailbox| mailbox.without_detail());
    let hash = key.fingerprint(&mailbox.as_ref().map_or_else(|| address.to_lowercase(), Mailbox::to_string));
    match mailbox {
        Some(mailbox) => format!("{PREFIX}{hash}@{}", mailbox.domain()),
        None => format!("{PREFIX}{hash}"),
    }
}

/// A text with a pseudonym for every address in it whose domain is meant.
fn addresses(key: &Key, text: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let (mut out, mut end) = (String::new(), 0);
    for (at, _) in text.match_indices('@') {
        let (Some(before), Some(after)) = (text.get(end..at), text.get(at + 1..)) else { continue };
        let is_of_local = |letter: char| letter.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(letter);
        let local = before.get(before.trim_end_matches(is_of_local).len()..).unwrap_or_default();
        let length = after.find(|letter: char| !(letter.is_alphanumeric() || "-.".contains(letter))).unwrap_or(after.len());
        let domain = after.get(..length).unwrap_or_default().trim_end_matches('.');
        let is_name = before.strip_suffix(local).is_some_and(|before| before.ends_with(PREFIX));
        let address = format!("{local}@{domain}");
        if is_name || local == "*" || !is_meant(&domain.to_lowercase()) || Mailbox::parse(&address).is_none() {
            continue;
        }
        out.push_str(before.strip_suffix(local).unwrap_or_default());
        out.push_str(&name(key, &address));
        end = at + 1 + domain.len();
    }
    out.push_str(text.get(end..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
    use proptest::prelude::*;

    use super::*;
    use crate::mail::Record;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms::by(&[Key::parse(&BASE64.encode([7; 32])).unwrap()])
    }

    fn mask(to: &str) -> Mask {
        pseudonyms().mask(&[to.to_owned()])
    }

    fn hidden(to: &str) -> Box<Hidden> {
        mask(to).0.unwrap()
    }

    #[test]
    fn a_reader_has_one_name() {
        let of = |address: &str| pseudonyms().of(address).pop().unwrap();
        let bob = of("bob@corp.example");
        assert!(bob.starts_with("h:") && bob.ends_with("@corp.example") && bob.len() == 2 + 16 + 1 + 12, "{bob}");
        for same in ["<bob@corp.example>", "BOB@Corp.Example", "bob+news@corp.example", " <Bob+x@corp.example> "] {
            assert_eq!(of(same), bob, "{same}");
        }
        for other in ["bobby@corp.example", "bob@corp.test", "<postmaster>"] {
            assert_ne!(of(other), bob, "{other}");
        }
        let other_key = Pseudonyms::by(&[Key::parse(&BASE64.encode([8; 32])).unwrap()]);
        assert_ne!(other_key.of("bob@corp.example"), [bob]);
        assert!(Pseudonyms::default().of("bob@corp.example").is_empty());
    }

    #[test]
    fn a_reader_is_hidden_in_every_form() {
        let name = pseudonyms().of("bob.smith@corp.example").pop().unwrap();
        let name = name.split('@').next().unwrap();
        for to in ["<bob.smith@corp.example>", "<Bob.Smith+news@CORP.example>"] {
            let hidden = hidden(to);
            assert_eq!(hidden.reverse_path("<bob.smith@corp.example>"), format!("<{name}@corp.example>"));
            for (text, wanted) in [
                ("550 5.1.1 <bob.smith@corp.example>: unknown", "550 5.1.1 <{}@corp.example>: unknown"),
                ("550 5.1.1 BOB.SMITH@CORP.EXAMPLE unknown", "550 5.1.1 {}@corp.example unknown"),
                ("550 5.1.1 bob.smith@store-3.internal: over quota", "550 5.1.1 {}@store-3.internal: over quota"),
                ("550 user bob.smith unknown", "550 user {} unknown"),
                ("250 2.0.0 Ok: queued as 4bob", "250 2.0.0 Ok: queued as 4bob"),
                ("", ""),
            ] {
                assert_eq!(hidden.reply(text), wanted.replace("{}", name), "{to} {text}");
            }
        }
        let bob = hidden("<bob@corp.example>");
        for path in [
            "<b-7-alias=corp.example@vendor.test>",
            "<SRS0=ab=xy=corp.example=alias@relay.test>",
            "<bounce+bob=corp.example@vendor.test>",
            "<bob#corp.example@vendor.test>",
            "<Ym9iQGNvcnAuZXhhbXBsZQ@vendor.test>",
            "<b-626f6240636f7270@vendor.test>",
            "<a+o=27bob=corp.example@vendor.test>",
            "<prvs=12345bob@vendor.test>",
            "<thebobs@vendor.test>",
            "<\"bob x\"@vendor.test>",
        ] {
            let said = bob.reverse_path(path);
            let domain = path.rsplit_once('@').unwrap().1;
            assert!(said.starts_with("<h:") && said.ends_with(&format!("@{domain}")), "{path}: {said}");
            assert_eq!(bob.reverse_path(&said), said);
        }
        for path in ["<>", "<support@vendor.test>", "<no-reply2@vendor.test>", "<Bounces@vendor.test>", ""] {
            assert_eq!(bob.reverse_path(path), path);
        }
        // An alias of the same domain, and a local part that is all digits.
        assert!(!hidden("<123@corp.example>").reply("550 alice@corp.example 123").contains("alice"));
        assert!(hidden("<550@corp.example>").reply("550 5.1.1 550 unknown").starts_with("550 5.1.1 h:"));
        assert_eq!(hidden("<no@corp.example>").reply("550 5.7.1 no"), "550 5.7.1 no");
    }

    #[test]
    fn records_are_hidden_as_a_whole() {
        let json = r#"{"type":"mail","v":1,"time":"2026-11-25T20:17:26.120Z","id":"1a","helo":"mx","from":"<b+bob=corp.example@b.test>","to":["<bob@corp.example>"],"message_id":"<1@b.test>","size":812,"decision":"near_miss","observed":false,"actions":[],"one_time_links":[{"link":"https://b.test/u/bob/{40}"}],"reasons":[{"check":"author","ok":true,"detail":"From is support@b.test"},{"check":"addressees","ok":false,"detail":"To names bobby@corp.example, ann@other.test"},{"check":"limit","ok":false,"detail":"\"bob@corp.example\" had 3"}],"delivery":"accepted","next_hop":"mx:25","reply":"250 ok <bob@corp.example>","latency_ms":3}"#;
        let Some(Record::Mail(mut mail)) = Record::read(json.as_bytes()) else { panic!() };
        let clear = mail.clone();
        Pseudonyms::default().mask(&mail.to).mail(&mut mail);
        assert_eq!(mail, clear);
        mask("<bob@corp.example>").mail(&mut mail);
        let said = Record::Mail(mail.clone()).json();
        assert!(!said.contains("bob") && !said.contains("ann@") && said.contains("From is support@b.test"), "{said}");
        let once = mail.clone();
        mask("<bob@corp.example>").mail(&mut mail);
        assert_eq!((&mail.from, &mail.reasons, &mail.outcome), (&once.from, &once.reasons, &once.outcome), "what is hidden stays so");
    }

    #[test]
    fn texts_of_no_mail_keep_no_address() {
        let said = pseudonyms().text("aliases:3: \"bob@corp.example\", and <Ann@corp.example>, expected *@corp.example, @, a@");
        assert!(!said.contains("bob") && !said.contains("Ann") && said.contains("expected *@corp.example, @, a@"), "{said}");
        assert_eq!(pseudonyms().text(&said), said);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_address_stays(local in "[a-z0-9.+_äÄ\"-]{1,12}", text in "\\PC{0,40}", between in "(@|=|%40|\\+|-)") {
            let to = format!("<{local}@corp.example>");
            let hidden = hidden(&to);
            let said = hidden.reply(&format!("550 {text} <{local}{between}corp.example> {text}"));
            let wanted = format!("<{local}{between}corp.example>");
            prop_assert!(!said.contains(&wanted), "{said}");
            let _ = hidden.path(&text);
            let _ = pseudonyms().text(&text);
        }
    }
}
