//! An allowlisted sender: what must hold of a mail for it to be exempted.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::shape_match::LinkRules;
use crate::mail::Action;
use crate::{
    identity::Network,
    message::{Domain, DomainError},
    recognition::Kind,
};

/// One entry of the allowlist, compiled.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The entry's name in audit and logs, unique in the allowlist.
    pub name: String,
    /// Who answers for it, as the admin wrote it: an address, or a name.
    pub owner: Option<String>,
    /// Which addresses From may have; `{tenant}` is expanded.
    pub from: Vec<AddressPattern>,
    /// Addresses whose mails carry text of third parties: the entry never acts for them.
    pub never: Vec<AddressPattern>,
    /// What makes a mail one to exempt: shapes, words or subjects.
    pub decide_by: DecideBy,
    /// What its one-time links look like, and which others may stand beside them.
    pub links: LinkRules,
    /// Which kinds are exempted; the others are treated along where one of these grants.
    pub grants: Vec<Kind>,
    /// Domains that may sign besides From's and its parents; of From's organisation.
    pub signed_by: Vec<Domain>,
    /// Domains of MAIL FROM that count as straight delivery, besides the domains of From and of the signature.
    pub envelope: Vec<HostPattern>,
    /// What shows that a mail is meant for its reader.
    pub reader: Reader,
    /// How many addresses To and Cc may hold together.
    pub addressees: Addressees,
    /// Whether the mail may come from a list.
    pub lists: Lists,
    /// What must prove the sender.
    pub require: Require,
    /// The recipients to which it applies; empty: all.
    pub recipients: Vec<AddressPattern>,
    /// Whether there may be parts that the hop cannot look into.
    pub attachments: Attachments,
    /// The age up to which a signature counts.
    pub max_age: Duration,
    /// The quota of each recipient.
    pub limit: Limit,
    /// Whether decisions take effect.
    pub mode: Mode,
    /// What to do, in the order in which it is done.
    pub actions: Vec<Action>,
    /// The time from which on it no longer counts.
    pub expires: Option<Timestamp>,
}

impl Entry {
    /// The last day on which it counts, as the admin wrote it.
    #[must_use]
    pub fn last_day(&self) -> Option<String> {
        self.expires.map(|end| {
            end.saturating_sub(Duration::from_secs(1)).map_or_else(|_| String::new(), |last| last.strftime("%Y-%m-%d").to_string())
        })
    }
}

/// What makes a mail one to exempt. Words never do, but in two other ways, of which `check` warns.
#[derive(Clone, Debug)]
pub enum DecideBy {
    /// A link of a shape whose kind the entry grants.
    Shapes,
    /// Recognition: the mail is of one of these kinds, and its one-time link stands on the author's organisation and carries a
    /// token. For domains of the company's own, or that it trusts as a whole.
    Words(Vec<Kind>),
    /// The whole Subject, for senders whose links are all counters.
    Subjects(Subjects),
}

/// Mails that are identified by their subject.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// Subjects, each as a whole.
    pub texts: Vec<String>,
    /// The sender's click counters, as other links.
    pub counters: LinkRules,
    /// The number of links that the mail has, exactly.
    pub links_in_mail: usize,
}

/// What must prove the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Require {
    /// DMARC passes by an aligned DKIM signature.
    Dmarc,
    /// A DKIM signature of one of the entry's own domains.
    Dkim,
    /// The client's address, and SPF on top where `spf` requires it.
    Address {
        /// The networks of the sender's hosts.
        networks: Vec<Network>,
        /// Whether SPF must pass, too.
        spf: Spf,
    },
}

/// Whether SPF must pass, besides the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spf {
    /// SPF must pass (RFC 7208).
    Required,
    /// SPF is not looked at.
    Ignored,
}

/// What shows that a mail is meant for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A covered To names the recipient.
    Addressed,
    /// Or straight delivery, where the signature covers no To; for one recipient, once a signature.
    Straight,
}

/// How many addresses To and Cc may hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressees {
    /// One address at most.
    One,
    /// More than one address, up to [`limits::ADDRESSEES`](crate::limits::ADDRESSEES).
    Several,
}

/// Whether a mail may say that it comes from a list (List-Post, List-Archive, Precedence list or junk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// A mail from a list is not exempted.
    Refused,
    /// A mail from a list may be exempted.
    Allowed,
}

/// Whether a mail may have parts other than text and pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachments {
    /// A mail with such parts is not exempted.
    Refused,
    /// A mail with such parts may be exempted.
    Allowed,
}

/// How many exemptions one recipient may have from one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many exemptions in each hour (UTC).
    PerHour(u32),
    /// No quota.
    Unlimited,
}

/// Whether decisions take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Decide and audit, take no action.
    #[default]
    Observe,
    /// The actions are taken.
    Enforce,
}

impl Mode {
    /// The word for it, as it is written in firstclick.toml and in logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// A domain, or all domains below one: `corp.example`, `*.corp.example`. The second does not match the first, and
/// matches at any depth.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This domain alone.
    Exact(Domain),
    /// The domains below this one, at any depth, without itself.
    Below(Domain),
}

impl HostPattern {
    /// Reads `corp.example` or `*.corp.example`.
    ///
    /// # Errors
    /// Where what is left of a leading `*.` is no domain.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        text.strip_prefix("*.").map_or_else(|| Domain::parse(text).map(Self::Exact), |rest| Domain::parse(rest).map(Self::Below))
    }

    /// Whether a domain matches.
    #[must_use]
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Self::Exact(exact) => domain == exact,
            Self::Below(parent) => domain.is_below(parent),
        }
    }

    /// The domain that the pattern names.
    #[must_use]
    pub const fn domain(&self) -> &Domain {
        match self {
            Self::Exact(domain) | Self::Below(domain) => domain,
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local.as_deref().unwrap_or("*"), self.host)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => write!(f, "{domain}"),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// A mail address, or all addresses of a domain: `bob@corp.example`, `*@corp.example`, `*@*.corp.example`. Local parts compare
/// in any case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressPattern {
    local: Option<String>,
    host: HostPattern,
}

impl AddressPattern {
    /// Reads `bob@corp.example`, `*@corp.example` or `*@*.corp.example`.
    ///
    /// # Errors
    /// Where there is no `@` or no domain behind it.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let (local, host) = text.rsplit_once('@').ok_or(DomainError::Syntax)?;
        if local.is_empty() || (local.contains('*') && local != "*") {
            return Err(DomainError::Syntax);
        }
        Ok(Self { local: (local != "*").then(|| local.to_lowercase()), host: HostPattern::parse(host)? })
    }

    /// Reads a pattern of `from`, where a domain alone is short for all its addresses: `acme.example` for `*@acme.example`.
    ///
    /// # Errors
    /// There is no domain.
    pub fn parse_sender(text: &str) -> Result<Self, DomainError> {
        if text.contains('@') { Self::parse(text) } else { Ok(Self { local: None, host: HostPattern::parse(text)? }) }
    }

    /// The local part in lower case; None where any fits.
    #[must_use]
    pub fn local(&self) -> Option<&str> {
        self.local.as_deref()
    }

    /// The domains of the addresses.
    #[must_use]
    pub const fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Whether an address matches, in any case.
    #[must_use]
    pub fn matches(&self, address: &str) -> bool {
        let Some((local, host)) = address.rsplit_once('@') else { return false };
        self.local.as_ref().is_none_or(|wanted| *wanted == local.to_lowercase())
            && Domain::parse(host).is_ok_and(|host| self.host.matches(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_labels() {
        let domain = |text| Domain::parse(text).unwrap();
        let below = HostPattern::parse("*.bank.test").unwrap();
        assert!(below.matches(&domain("a.bank.test")));
        assert!(below.matches(&domain("a.b.bank.test")));
        assert!(!below.matches(&domain("bank.test")));
        assert!(!below.matches(&domain("xbank.test")));
        for odd in ["*", "*.", "a.*.test", "*bank.test", ""] {
            assert!(HostPattern::parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn recipients() {
        assert!(AddressPattern::parse("*@corp.example").unwrap().matches("Bob@CORP.example"));
        assert!(!AddressPattern::parse("*@corp.example").unwrap().matches("bob@corp.example.attack.test"));
        assert!(AddressPattern::parse("bob@corp.example").unwrap().matches("BOB@corp.example"));
        assert!(AddressPattern::parse("b*@corp.example").is_err());
    }
}
