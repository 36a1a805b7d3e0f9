//! Which entries name a From address: hash look-ups only, so that 100,000 entries cost a mail what ten do.

use std::collections::HashMap;

use super::entry::{AddressPattern, HostPattern};
use crate::message::{Author, Domain};

/// Entry numbers by From address.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Patterns `a@b`, by the address in lower case.
    addresses: HashMap<Box<str>, Numbers>,
    /// Patterns `*@b`, by the domain.
    domains: HashMap<Box<str>, Numbers>,
    /// Patterns `a@*.b`, by the local part and the domain that the host stands below.
    addresses_below: HashMap<Box<str>, Numbers>,
    /// Patterns `*@*.b`, by the domain that the host stands below.
    below: HashMap<Box<str>, Numbers>,
    /// By the registered domain: whose other addresses are worth a look, because a sandbox or a new name is a near miss.
    owners: HashMap<Box<str>, Numbers>,
}

/// Entry numbers in rising order, each once. Nearly always one.
type Numbers = Vec<usize>;

impl Index {
    /// Indexes entries: each number with its patterns.
    #[must_use]
    pub fn new<'p>(entries: impl IntoIterator<Item = (usize, &'p [AddressPattern])>) -> Self {
        let mut index = Self::default();
        for (number, patterns) in entries {
            for pattern in patterns {
                let domain = pattern.host().domain().as_str();
                let (map, key) = match (pattern.local(), pattern.host()) {
                    (Some(local), HostPattern::Exact(_)) => (&mut index.addresses, format!("{local}@{domain}")),
                    (Some(local), HostPattern::Below(_)) => (&mut index.addresses_below, format!("{local}@{domain}")),
                    (None, HostPattern::Exact(_)) => (&mut index.domains, domain.to_owned()),
                    (None, HostPattern::Below(_)) => (&mut index.below, domain.to_owned()),
                };
                note(map, &key, number);
                if let Some(owner) = pattern.host().domain().registered() {
                    note(&mut index.owners, owner, number);
                }
            }
        }
        for map in [&mut index.addresses, &mut index.domains, &mut index.addresses_below, &mut index.below, &mut index.owners] {
            for numbers in map.values_mut() {
                numbers.sort_unstable();
                numbers.dedup();
                numbers.shrink_to_fit();
            }
            map.shrink_to_fit();
        }
        index
    }

    /// Whether an entry names the author, or another address of the same owner: the first check of every mail.
    #[must_use]
    pub fn may_name(&self, author: &Author) -> bool {
        self.of_same_owner(&author.domain).next().is_some() || self.naming(author).next().is_some()
    }

    /// The entries that name the author, in rising order, each once.
    pub fn naming(&self, author: &Author) -> impl Iterator<Item = usize> + use<> {
        let domain = author.domain.as_str();
        let local = author.address.rsplit_once('@').map(|(local, _)| local.to_lowercase()).unwrap_or_default();
        let mut found: Numbers = Vec::new();
        let mut take = |map: &HashMap<Box<str>, Numbers>, key: &str| found.extend(map.get(key).into_iter().flatten());
        take(&self.addresses, &format!("{local}@{domain}"));
        take(&self.domains, domain);
        for parent in author.domain.parents() {
            take(&self.below, parent);
            if !self.addresses_below.is_empty() {
                take(&self.addresses_below, &format!("{local}@{parent}"));
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter()
    }

    /// The entries that name an address of the same owner, by the public suffix list; in rising order.
    pub fn of_same_owner(&self, domain: &Domain) -> impl Iterator<Item = usize> + '_ {
        let known = domain.registered().and_then(|owner| self.owners.get(owner));
        known.into_iter().flatten().copied()
    }
}

fn note(map: &mut HashMap<Box<str>, Numbers>, key: &str, number: usize) {
    match map.get_mut(key) {
        // Entries come one after the other.
        Some(numbers) if numbers.last() == Some(&number) => {}
        Some(numbers) => numbers.push(number),
        None => {
            map.insert(key.into(), vec![number]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(address: &str) -> Author {
        Author::read(address).unwrap()
    }

    #[test]
    fn every_way_to_name_an_author() {
        let lists: Vec<Vec<AddressPattern>> = [
            &["No-Reply@bank.test", "no-reply@bank.test"][..],
            &["bank.test"],
            &["*@*.bank.test"],
            &["alerts@*.bank.test"],
            &["*@other.test", "*@bank.test"],
        ]
        .iter()
        .map(|texts| texts.iter().map(|text| AddressPattern::parse_sender(text).unwrap()).collect())
        .collect();
        let index = Index::new(lists.iter().enumerate().map(|(number, list)| (number, list.as_slice())));
        let naming = |address: &str| index.naming(&author(address)).collect::<Vec<_>>();
        assert_eq!(naming("NO-REPLY@bank.test"), [0, 1, 4]);
        assert_eq!(naming("bob@bank.test"), [1, 4]);
        assert_eq!(naming("bob@a.bank.test"), [2]);
        assert_eq!(naming("Alerts@a.b.bank.test"), [2, 3]);
        assert!(naming("bob@xbank.test").is_empty());
        assert_eq!(index.of_same_owner(&author("x@y.bank.test").domain).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(index.may_name(&author("x@news.other.test")));
        assert!(!index.may_name(&author("x@bank.test.attack.test")));
    }
}
