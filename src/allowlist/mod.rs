//! The allowlist: which senders' mails may be exempted, and the judging of one mail by it.
//!
//! Pure: no clock, no network, no randomness. Every mail passes [`Allowlist::may_name`], a hash look-up of its From address;
//! [`judge`] is asked only for mails whose author an entry names. What a check reads of the header it reads through
//! [`evidence`]: only what the relied-on proof covers counts.

mod carried;
pub mod danger;
pub mod entry;
pub mod evidence;
mod header_checks;
mod hosts;
pub mod index;
pub mod judge;
#[cfg(test)]
mod judge_tests;
mod links;
mod mismatch;
mod overlap;
pub mod placeholder;
pub mod reader;
pub mod shape;
pub mod shape_match;
mod shape_read;
pub mod suggestion;
pub mod unguessable;
pub mod verdict;

use std::sync::Arc;

pub use self::{
    entry::{AddressPattern, Entry, HostPattern, Mode},
    placeholder::Placeholder,
    shape::{OtherLink, Shape},
    shape_match::{LinkRules, Stray},
    shape_read::ShapeError,
    verdict::{Decision, Finding, Verdict},
};
use self::{index::Index, reader::Readers};
pub use crate::mail::{Action, Reason};
use crate::message::{Author, Domain};

/// The entries, indexed by From address, and who the readers are.
#[derive(Debug, Default)]
pub struct Allowlist {
    entries: Vec<Arc<Entry>>,
    index: Index,
    readers: Readers,
    /// The address that the hop itself writes mails from, in lower case.
    own: Option<String>,
    never: Vec<AddressPattern>,
}

impl Allowlist {
    /// Indexes entries. Their order decides which one's checks are shown where none acts.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        let index = Index::new(entries.iter().enumerate().map(|(at, entry)| (at, entry.from.as_slice())));
        Self { entries: entries.into_iter().map(Arc::new).collect(), index, readers: Readers::default(), own: None, never: Vec::new() }
    }

    /// The same list for these readers.
    #[must_use]
    pub fn for_readers(self, readers: Readers) -> Self {
        Self { readers, ..self }
    }

    /// The same list, for a hop that writes mails from this address. Whoever says that he writes from it gets no exemption, and is
    /// no near miss: the hop's mails about near misses shall make none.
    #[must_use]
    pub fn writing_from(self, own: &str) -> Self {
        Self { own: Some(own.to_lowercase()), ..self }
    }

    /// The same list, which exempts no mail of these authors, whatever an entry says.
    #[must_use]
    pub fn refusing(self, never: Vec<AddressPattern>) -> Self {
        Self { never, ..self }
    }

    /// Whether no mail of this author's is exempted, whatever an entry says.
    #[must_use]
    pub fn refuses(&self, author: &Author) -> bool {
        self.never.iter().any(|pattern| pattern.matches(&author.address))
    }

    /// Whether any entry names this author, or another address of the same owner's.
    #[must_use]
    pub fn may_name(&self, author: &Author) -> bool {
        self.own.as_ref().is_none_or(|own| *own != author.address.to_lowercase()) && self.index.may_name(author)
    }

    /// The entries that name this author.
    pub fn naming<'s>(&'s self, author: &'s Author) -> impl Iterator<Item = &'s Arc<Entry>> + 's {
        self.index.naming(author).filter_map(|at| self.entries.get(at))
    }

    /// The entries that name an address of the same owner's: a sandbox or a new address is a near miss.
    pub fn of_same_owner<'s>(&'s self, domain: &'s Domain) -> impl Iterator<Item = &'s Arc<Entry>> + 's {
        self.index.of_same_owner(domain).filter_map(|at| self.entries.get(at))
    }

    /// The domains besides the author's own and its parents whose signatures may speak for him, by any entry that names him.
    #[must_use]
    pub fn signers(&self, author: &Author) -> Vec<Domain> {
        let mut signers: Vec<Domain> = self.naming(author).flat_map(|entry| entry.signed_by.iter().cloned()).collect();
        signers.sort_unstable();
        signers.dedup();
        signers
    }

    /// All entries, in the order in which they were given.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The readers: the company's domains and aliases.
    #[must_use]
    pub const fn readers(&self) -> &Readers {
        &self.readers
    }
}
