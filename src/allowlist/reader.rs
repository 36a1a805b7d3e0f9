//! Whether a mail is meant for the reader who gets it (design: R1, "meant for this reader").
//!
//! Whoever has one genuine mail can send it on to anybody, and its signature still verifies. What stops that is that the
//! signed To names the reader. Where a company's list or alias stands there, or where the signature leaves To out, it takes
//! straight delivery too: a host of the sender's own handed the mail over.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::{
    entry::{Addressees, Entry, Reader},
    evidence::Evidence,
};
use crate::{
    identity::proof::Seen,
    message::{Domain, Mailbox, mailbox},
};

/// `[readers]`: the company's domains, and which addresses lead to which others.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    domains: HashSet<Domain>,
    aliases: HashMap<Mailbox, Vec<Mailbox>>,
}

/// How a mail's envelope and its To belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// The covered To, or Cc, names every recipient.
    Named(String),
    /// It names other addresses: the mail counts only if it was delivered straight.
    IfStraight(Condition, String),
    /// It names other people, or nobody at all.
    Not(String),
}

/// What straight delivery stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The covered To names another address of the company's: a list, an alias.
    AnotherAddress,
    /// The signature covers no To. It counts for one recipient, once for each signature.
    UnsignedTo,
}

/// Why a line of an alias file is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// No colon or white space between the alias and where it leads.
    #[error("expected an address and where it leads, as in \"sales@corp.example: ann@corp.example, bob@corp.example\"")]
    Syntax,
    /// One of the addresses has no domain.
    #[error("an address without a domain, or with one that is no plain name")]
    Address,
    /// More than 200,000 lines.
    #[error("too many aliases")]
    TooMany,
}

impl Readers {
    /// Readers of these domains, without aliases; no domains: those of the recipients are the company's.
    #[must_use]
    pub fn new(domains: impl IntoIterator<Item = Domain>) -> Self {
        Self { domains: domains.into_iter().collect(), aliases: HashMap::new() }
    }

    /// Adds one line of an alias file: `sales@corp.example: ann@corp.example, bob@corp.example`, with a colon or, as in Postfix's
    /// virtual(5), white space in between. Empty lines and lines that start with `#` are left out.
    ///
    /// # Errors
    /// [`AliasError`], for the line.
    pub fn add_alias(&mut self, line: &str) -> Result<(), AliasError> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (alias, targets) = line.split_once([':', ' ', '\t']).ok_or(AliasError::Syntax)?;
        let alias = Mailbox::parse(alias.trim()).ok_or(AliasError::Address)?;
        let targets = targets.split(',').map(str::trim).filter(|target| !target.is_empty());
        let targets: Option<Vec<Mailbox>> = targets.map(Mailbox::parse).collect();
        let targets = targets.ok_or(AliasError::Address)?;
        if targets.is_empty() {
            return Err(AliasError::Syntax);
        }
        if self.aliases.len() >= ALIASES {
            return Err(AliasError::TooMany);
        }
        self.aliases.entry(alias.without_detail()).or_default().extend(targets.into_iter().map(|target| target.without_detail()));
        Ok(())
    }

    /// Whether both domains are the company's.
    fn are_both_ours(&self, one: &Domain, other: &Domain) -> bool {
        self.domains.contains(one) && self.domains.contains(other)
    }

    /// Whether an addressee is an address of the company's. Where no domains are configured, the recipients' own are.
    fn is_ours(&self, addressee: &Mailbox, recipients: &[Mailbox]) -> bool {
        if self.domains.is_empty() {
            recipients.iter().all(|recipient| recipient.domain() == addressee.domain())
        } else {
            self.domains.contains(addressee.domain())
        }
    }

    /// Whether two addresses are one person's: equal but for a detail, or for the domain where both are the company's.
    fn is_same(&self, one: &Mailbox, other: &Mailbox) -> bool {
        one.user() == other.user() && (one.domain() == other.domain() || self.are_both_ours(one.domain(), other.domain()))
    }

    /// Whether an addressee is the recipient, or leads to him.
    fn names(&self, addressee: &Mailbox, recipient: &Mailbox) -> bool {
        if self.is_same(addressee, recipient) {
            return true;
        }
        // Aliases may lead to aliases, and in a circle.
        let mut open = vec![addressee.without_detail()];
        let mut seen: HashSet<Mailbox> = HashSet::new();
        while let Some(next) = open.pop() {
            if seen.len() >= FOLLOWED || !seen.insert(next.clone()) {
                continue;
            }
            for target in self.aliases.get(&next).into_iter().flatten() {
                if self.is_same(target, recipient) {
                    return true;
                }
                open.push(target.clone());
            }
        }
        false
    }
}

/// Whether a mail is meant for its recipients, by the fields that the proof covers.
#[must_use]
pub fn meant_for(evidence: &Evidence<'_>, entry: &Entry, recipients: &[Mailbox], readers: &Readers) -> Meant {
    let (to, cc) = (evidence.field("To"), evidence.field("Cc"));
    let unsigned = match (&to, &cc) {
        // Beside a covered To too, and for entries that take an unsigned one: anybody could have added it.
        (_, Seen::Bare(_)) if entry.reader == Reader::Addressed || matches!(to, Seen::Covered(_)) => {
            return Meant::Not(format!("Cc is not covered by {}: anybody could have added it", evidence.by()));
        }
        (Seen::Bare(_), _) if evidence.mentions("To") => {
            return Meant::Not(format!("{} covers another To than the one that readers see", evidence.by()));
        }
        // Only for `reader = "straight"`: whoever the uncovered Cc names, nobody signed that.
        (_, Seen::Bare(_)) => true,
        (Seen::Covered(_), _) | (Seen::Absent, Seen::Covered(_)) => false,
        (Seen::Bare(_) | Seen::Absent, _) => true,
    };
    if unsigned && entry.reader == Reader::Addressed {
        let what = if matches!(to, Seen::Absent) { "there is no To" } else { "To is not covered" };
        return Meant::Not(format!(
            "{what} by {}; reader = \"straight\" accepts that where the sender's own host hands the mail over",
            evidence.by()
        ));
    }
    let mut addressees = Vec::new();
    let mut values: Vec<Vec<u8>> = Vec::new();
    for (name, seen) in [("To", to), ("Cc", cc)] {
        if let Seen::Covered(covered) = seen {
            values.extend(covered.into_iter().map(Cow::into_owned));
        }
        values.extend(evidence.uncovered(name));
    }
    for value in &values {
        match mailbox::list(value) {
            Ok(found) => addressees.extend(found),
            Err(flaw) => return Meant::Not(format!("To or Cc cannot be read in one way: {}", flaw.says())),
        }
    }
    if addressees.len() > 1 && entry.addressees == Addressees::One {
        return Meant::Not(format!("To and Cc hold {} addresses; several_readers = true accepts that", addressees.len()));
    }
    let shown = addressees.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if recipients.is_empty() {
        // Nobody knows the envelope: `explain` without --rcpt.
        return Meant::Named(format!("To names {shown}; no recipient was given"));
    }
    let stranger = recipients.iter().find(|recipient| !addressees.iter().any(|addressee| readers.names(addressee, recipient)));
    let ours = |addressees: &[Mailbox]| addressees.iter().any(|addressee| readers.is_ours(addressee, recipients));
    match stranger {
        None if unsigned && recipients.len() > 1 => {
            Meant::Not(format!("To is not covered, and the envelope has {} recipients: straight delivery counts for one", recipients.len()))
        }
        None if unsigned => Meant::IfStraight(Condition::UnsignedTo, format!("To, not covered, names {shown}")),
        None => Meant::Named(format!("To names {shown}")),
        Some(stranger) if unsigned => Meant::Not(format!("{stranger} is not in To, and To is not covered")),
        Some(_) if ours(&addressees) => {
            Meant::IfStraight(Condition::AnotherAddress, format!("To names {shown}, another address of the company's"))
        }
        Some(stranger) if addressees.is_empty() => Meant::Not(format!("To names nobody, and the mail goes to {stranger}")),
        Some(stranger) => Meant::Not(format!(
            "{stranger} is not the one in To ({shown}); [readers] domains and aliases say which addresses are the same reader's"
        )),
    }
}

/// Aliases that are kept: a large company's, some 50 MiB.
const ALIASES: usize = 200_000;
/// Aliases that are followed for one address.
const FOLLOWED: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{allowlist::shape_match::LinkRules, identity::proof::Coverage, message::header::Headers};

    fn readers() -> Readers {
        let domain = |name| Domain::parse(name).unwrap();
        let mut readers = Readers::new([domain("corp.example"), domain("corp.eu")]);
        for line in [
            "# the company's aliases",
            "",
            "sales@corp.example: bob@corp.example, ann@corp.example",
            "shop@corp.example\tsales@corp.example",
            "loop@corp.example: loop@corp.example",
            "info+de@corp.example: bob@corp.example",
            "team@corp.example: shop+x@corp.example",
        ] {
            readers.add_alias(line).unwrap();
        }
        readers
    }

    /// What is said of a header block whose `h=` is given.
    fn said(header: &str, h: &str, entry: &Entry, recipients: &[&str]) -> Meant {
        said_to(&readers(), header, h, entry, recipients)
    }

    fn said_to(readers: &Readers, header: &str, h: &str, entry: &Entry, recipients: &[&str]) -> Meant {
        let raw = format!("{header}\r\n");
        let headers = Headers::read(raw.as_bytes());
        let coverage = Coverage::Fields(h.split(':').map(str::to_owned).collect());
        let evidence = Evidence::new(&headers, &coverage, "the signature");
        let recipients: Vec<Mailbox> = recipients.iter().map(|address| Mailbox::parse(address).unwrap()).collect();
        meant_for(&evidence, entry, &recipients, readers)
    }

    fn entry() -> Entry {
        Entry {
            name: "bank".into(),
            owner: None,
            from: Vec::new(),
            never: Vec::new(),
            decide_by: super::super::entry::DecideBy::Shapes,
            links: LinkRules::default(),
            grants: Vec::new(),
            signed_by: Vec::new(),
            envelope: Vec::new(),
            reader: Reader::Addressed,
            addressees: Addressees::One,
            lists: super::super::entry::Lists::Refused,
            require: super::super::entry::Require::Dmarc,
            recipients: Vec::new(),
            attachments: super::super::entry::Attachments::Refused,
            max_age: std::time::Duration::from_hours(24),
            limit: super::super::entry::Limit::Unlimited,
            mode: super::super::entry::Mode::Observe,
            actions: Vec::new(),
            expires: None,
        }
    }

    /// What is needed: nothing, straight delivery, or more than that.
    fn needs(meant: &Meant) -> &'static str {
        match meant {
            Meant::Named(_) => "nothing",
            Meant::IfStraight(Condition::AnotherAddress, _) => "straight",
            Meant::IfStraight(Condition::UnsignedTo, _) => "straight, once",
            Meant::Not(_) => "no",
        }
    }

    #[test]
    fn who_is_named_by_a_covered_to() {
        for (to, recipients, needed) in [
            ("bob@corp.example", &["bob@corp.example"][..], "nothing"),
            ("Bob <BOB@corp.example>", &["bob@corp.example"], "nothing"),
            ("bob+shop@corp.example", &["bob@corp.example"], "nothing"),
            ("bob@corp.example", &["bob+shop@corp.example"], "nothing"),
            ("bob@corp.eu", &["bob@corp.example"], "nothing"),
            ("sales@corp.example", &["bob@corp.example"], "nothing"),
            ("sales@corp.example", &["bob@corp.example", "ann@corp.example"], "nothing"),
            ("shop@corp.eu", &["ann@corp.example"], "straight"),
            ("shop@corp.example", &["ann@corp.eu"], "nothing"),
            ("loop@corp.example", &["ann@corp.example"], "straight"),
            ("everybody@corp.example", &["bob@corp.example"], "straight"),
            ("sales@corp.example", &["eve@corp.example"], "straight"),
            ("bob@corp.example", &["bob@corp.example", "eve@corp.example"], "straight"),
            ("info@corp.example", &["bob@corp.example"], "nothing"),
            ("team@corp.example", &["ann@corp.example"], "nothing"),
            ("bob@corp.example", &["bob@foreign.test"], "straight"),
            ("mallory@attack.test", &["bob@corp.example"], "no"),
            ("bob@attack.test", &["bob@corp.example"], "no"),
            ("bob@corp.example, ann@corp.example", &["bob@corp.example"], "no"),
            ("mallory@attack.test (bob@corp.example)", &["bob@corp.example"], "no"),
            ("\"bob@corp.example\" <mallory@attack.test>", &["bob@corp.example"], "no"),
            ("all: bob@corp.example;", &["bob@corp.example"], "no"),
            ("undisclosed-recipients:;", &["bob@corp.example"], "no"),
        ] {
            let meant = said(&format!("From: a@bank.test\r\nTo: {to}\r\n"), "from:to", &entry(), recipients);
            assert_eq!(needs(&meant), needed, "{to} {recipients:?}: {meant:?}");
        }
    }

    #[test]
    fn what_is_not_covered_names_nobody() {
        let bob = &["bob@corp.example"][..];
        for (header, h, needed) in [
            ("Cc: bob@corp.example\r\nTo: mallory@attack.test\r\n", "from:to", "no"),
            ("To: bob@corp.example\r\nCc: mallory@attack.test\r\n", "from:cc", "no"),
            ("To: bob@corp.example\r\nTo: mallory@attack.test\r\n", "from:to", "no"),
            ("To: bob@corp.example\r\n", "from", "no"),
            ("Cc: bob@corp.example\r\n", "from:cc", "nothing"),
            ("To: bob@corp.example\r\nCc: ann@corp.example\r\n", "from:to", "no"),
            ("To: bob@corp.example\r\nCc: ann@corp.example\r\n", "from:to:cc", "no"),
            ("Bcc: bob@corp.example\r\n", "from:bcc", "no"),
            ("", "from:to", "no"),
        ] {
            let meant = said(header, h, &entry(), bob);
            assert_eq!(needs(&meant), needed, "{header:?} {h}: {meant:?}");
        }
    }

    #[test]
    fn several_readers_and_senders_that_sign_no_to() {
        let several = Entry { addressees: Addressees::Several, ..entry() };
        let meant = said("To: bob@corp.example, ann@corp.example\r\n", "to", &several, &["bob@corp.example"]);
        assert_eq!(needs(&meant), "nothing", "{meant:?}");
        let meant = said("To: bob@corp.example\r\nCc: ann@corp.example\r\n", "to:cc", &several, &["ann@corp.example"]);
        assert_eq!(needs(&meant), "nothing", "{meant:?}");
        let straight = Entry { reader: Reader::Straight, ..entry() };
        for (header, h, recipients, needed) in [
            ("To: bob@corp.example\r\n", "from", &["bob@corp.example"][..], "straight, once"),
            ("To: sales@corp.example\r\n", "from", &["bob@corp.example"], "straight, once"),
            ("To: mallory@attack.test\r\n", "from", &["bob@corp.example"], "no"),
            ("To: sales@corp.example\r\n", "from", &["bob@corp.example", "ann@corp.example"], "no"),
            ("To: bob@corp.example\r\nCc: ann@corp.example\r\n", "from", &["bob@corp.example"], "no"),
            ("To: bob@corp.example\r\nTo: mallory@attack.test\r\n", "from:to", &["bob@corp.example"], "no"),
            ("Cc: bob@corp.example\r\nTo: mallory@attack.test\r\n", "from:to", &["bob@corp.example"], "no"),
            ("Cc: bob@corp.example\r\nTo:\r\n", "from:to", &["bob@corp.example"], "no"),
            ("", "from", &["bob@corp.example"], "no"),
        ] {
            let meant = said(header, h, &straight, recipients);
            assert_eq!(needs(&meant), needed, "{header:?} {h} {recipients:?}: {meant:?}");
        }
        let both = Entry { reader: Reader::Straight, addressees: Addressees::Several, ..entry() };
        let stolen = "Cc: bob@corp.example, ann@corp.example\r\nTo: mallory@attack.test\r\n";
        for h in ["from:to", "from"] {
            let meant = said(stolen, h, &both, &["bob@corp.example", "ann@corp.example"]);
            assert_eq!(needs(&meant), "no", "{h}: {meant:?}");
        }
    }

    #[test]
    fn several_readers_of_what_is_not_covered() {
        let several = Entry { addressees: Addressees::Several, ..entry() };
        let straight = Entry { reader: Reader::Straight, ..several.clone() };
        let bob = &["bob@corp.example"][..];
        for (entry, header, h, recipients, needed) in [
            (&several, "To: bob@corp.example\r\nCc: ann@corp.example\r\n", "to", bob, "no"),
            (&straight, "To: bob@corp.example\r\nCc: ann@corp.example\r\n", "to", bob, "no"),
            // A mail of another sender, with a Cc of his own.
            (&straight, "To: mallory@attack.test\r\nCc: bob@corp.example\r\n", "to", bob, "no"),
            (&straight, "To: mallory@attack.test\r\nCc: bob@corp.example\r\n", "to:cc", bob, "nothing"),
            (&straight, "To: bob@corp.example\r\nTo: mallory@attack.test\r\n", "to", bob, "no"),
            (&straight, "To: bob@corp.example\r\n", "from", &[], "nothing"),
            (&several, "To: everybody@corp.example, x@attack.test\r\n", "to", bob, "straight"),
        ] {
            let meant = said(header, h, entry, recipients);
            assert_eq!(needs(&meant), needed, "{header:?} {h} {recipients:?}: {meant:?}");
        }
        let straight = Entry { reader: Reader::Straight, ..entry() };
        let meant = said("To:\r\nCc: bob@corp.example\r\n", "to", &straight, bob);
        assert_eq!(needs(&meant), "no", "{meant:?}");
    }

    #[test]
    fn where_no_domains_are_configured_the_recipients_own_are() {
        for (to, recipients, needed) in [
            ("bob@corp.example", &["bob@corp.example"][..], "nothing"),
            ("bob+x@corp.example", &["bob@corp.example"], "nothing"),
            ("bob@corp.eu", &["bob@corp.example"], "no"),
            ("sales@corp.example", &["bob@corp.example"], "straight"),
            ("sales@corp.example", &["bob@corp.example", "ann@foreign.test"], "no"),
            ("mallory@attack.test", &["bob@corp.example"], "no"),
        ] {
            let meant = said_to(&Readers::default(), &format!("To: {to}\r\n"), "to", &entry(), recipients);
            assert_eq!(needs(&meant), needed, "{to} {recipients:?}: {meant:?}");
        }
    }

    #[test]
    fn lines_that_are_no_alias() {
        let mut readers = Readers::default();
        assert_eq!(readers.add_alias("sales"), Err(AliasError::Syntax));
        assert_eq!(readers.add_alias("sales: ann@corp.example"), Err(AliasError::Address));
        assert_eq!(readers.add_alias("sales@corp.example: ann"), Err(AliasError::Address));
        assert_eq!(readers.add_alias("sales@corp.example:"), Err(AliasError::Syntax));
    }
}
