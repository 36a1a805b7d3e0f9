//! The memory budget of all mails. Nobody waits for memory: what is not free now is refused.
//!
//! Three bounds keep one part from starving the others. All shares together stay within the budget; each protocol that is
//! served keeps a quarter of it that the others cannot take; and the shares of one client network (IPv4 /24, IPv6 /48) stay
//! within a tenth, or within one mail of `inspect_limit` octets where that is more.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    limits,
    mail::{Network, Protocol},
};

/// The budget, in octets; a handle, which is cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// In steps of [`limits::MEMORY_STEP`], as all counts here.
    total: usize,
    /// Protocols that are served.
    protocols: Vec<Protocol>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_protocol: HashMap<Protocol, usize>,
    // A network is in the table while it holds memory, so the budget bounds the table.
    by_network: HashMap<Network, usize>,
}

/// The share of one mail; given back when it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    budget: Arc<Inner>,
    protocol: Protocol,
    /// The network whose tenth it counts for; none for a mail of a host that hands over many clients' mails.
    network: Option<Network>,
    /// The most that this network may hold, in steps.
    most: usize,
    steps: usize,
}

/// The memory asked for is not free: the mail is to be deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl MemoryBudget {
    /// A budget of so many octets, shared by these protocols.
    #[must_use]
    pub fn new(octets: usize, protocols: &[Protocol]) -> Self {
        let total = (octets / limits::MEMORY_STEP).max(1);
        Self(Arc::new(Inner { total, protocols: protocols.to_vec(), held: Mutex::default() }))
    }

    /// Octets that the mails of a protocol hold now.
    #[must_use]
    pub fn held(&self, protocol: Protocol) -> usize {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.by_protocol.get(&protocol).copied().unwrap_or_default() * limits::MEMORY_STEP
    }

    /// An empty share for one mail. `client` is the address whose network is held to a tenth; none for a trusted upstream, which
    /// hands over many clients' mails, and for an unknown client. Loopback counts as none: it is this host, its MTA or a proxy.
    /// `inspect_limit` is how many octets one mail may keep in memory: a network may always hold as much.
    #[must_use]
    pub fn share(&self, protocol: Protocol, client: Option<IpAddr>, inspect_limit: usize) -> MemoryShare {
        let network = client.map(|client| client.to_canonical()).filter(|client| !client.is_loopback()).map(Network::around);
        let most = (self.0.total / TENTH).max(steps(inspect_limit));
        MemoryShare { budget: Arc::clone(&self.0), protocol, network, most, steps: 0 }
    }
}

impl Inner {
    /// The most that this protocol may hold now: the whole, less what the others hold or keep.
    fn room(&self, held: &Held, protocol: Protocol) -> usize {
        let kept = self.protocols.iter().filter(|other| **other != protocol).map(|other| {
            let holds = held.by_protocol.get(other).copied().unwrap_or_default();
            holds.max(self.total / QUARTER)
        });
        self.total.saturating_sub(kept.sum())
    }
}

impl MemoryShare {
    /// Grows the share to this many octets; a larger share stays.
    ///
    /// # Errors
    /// The memory is not free; the share stays as it was.
    pub fn grow_to(&mut self, octets: usize) -> Result<(), Full> {
        let wanted = steps(octets);
        let more = wanted.saturating_sub(self.steps);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_protocol = held.by_protocol.get(&self.protocol).copied().unwrap_or_default();
        if of_protocol + more > self.budget.room(&held, self.protocol) {
            return Err(Full);
        }
        if let Some(network) = self.network {
            let of_network = held.by_network.get(&network).copied().unwrap_or_default();
            if of_network + more > self.most {
                return Err(Full);
            }
            held.by_network.insert(network, of_network + more);
        }
        held.by_protocol.insert(self.protocol, of_protocol + more);
        self.steps = wanted;
        Ok(())
    }

    /// Shrinks the share to this many octets; a smaller share stays.
    pub fn shrink_to(&mut self, octets: usize) {
        let wanted = if octets == 0 { 0 } else { steps(octets) };
        let less = self.steps.saturating_sub(wanted);
        if less == 0 {
            return;
        }
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_protocol) = held.by_protocol.get_mut(&self.protocol) {
            *of_protocol = of_protocol.saturating_sub(less);
        }
        if let Some(network) = self.network {
            let left = held.by_network.get(&network).copied().unwrap_or_default().saturating_sub(less);
            if left == 0 {
                held.by_network.remove(&network);
            } else {
                held.by_network.insert(network, left);
            }
        }
        self.steps -= less;
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Steps for this many octets, one at least.
fn steps(octets: usize) -> usize {
    octets.div_ceil(limits::MEMORY_STEP).max(1)
}

/// The divisor of the part that each protocol keeps.
const QUARTER: usize = 4;
/// The divisor of the part that one client network may hold.
const TENTH: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = limits::MEMORY_STEP;
    const BOTH: &[Protocol] = &[Protocol::Smtp, Protocol::Milter];

    /// How many steps one after another can have.
    fn taken(budget: &MemoryBudget, protocol: Protocol, client: Option<&str>, shares: &mut Vec<MemoryShare>) -> usize {
        let before = shares.len();
        loop {
            let mut share = budget.share(protocol, client.map(|client| client.parse().unwrap()), STEP);
            if share.grow_to(STEP).is_err() {
                return shares.len() - before;
            }
            shares.push(share);
        }
    }

    #[test]
    fn a_protocol_keeps_a_quarter() {
        for (first, second) in [(Protocol::Smtp, Protocol::Milter), (Protocol::Milter, Protocol::Smtp)] {
            let (budget, mut shares) = (MemoryBudget::new(100 * STEP, BOTH), Vec::new());
            assert_eq!(taken(&budget, first, None, &mut shares), 75);
            assert_eq!(taken(&budget, second, None, &mut shares), 25);
            drop(shares.drain(..65));
            assert_eq!(taken(&budget, second, None, &mut shares), 50, "the first keeps its quarter, of which it has 10");
            shares.clear();
            assert_eq!(taken(&budget, first, None, &mut shares), 75);
        }
        assert_eq!(taken(&MemoryBudget::new(100 * STEP, &[Protocol::Smtp]), Protocol::Smtp, None, &mut Vec::new()), 100, "it is alone");
    }

    #[test]
    fn a_client_network_takes_a_tenth() {
        let (budget, mut shares) = (MemoryBudget::new(100 * STEP, BOTH), Vec::new());
        assert_eq!(taken(&budget, Protocol::Smtp, Some("192.0.2.1"), &mut shares), 10);
        assert_eq!(taken(&budget, Protocol::Smtp, Some("192.0.2.200"), &mut shares), 0, "the same network");
        assert_eq!(taken(&budget, Protocol::Milter, Some("::ffff:192.0.2.200"), &mut shares), 0, "by the other protocol too");
        assert_eq!(taken(&budget, Protocol::Smtp, Some("192.0.3.1"), &mut shares), 10);
        assert_eq!(taken(&budget, Protocol::Smtp, Some("127.0.0.1"), &mut shares), 55, "loopback speaks for many");
        shares.clear();
        assert!(budget.0.held.lock().unwrap().by_network.is_empty());
        assert!(budget.0.held.lock().unwrap().by_protocol.values().all(|held| *held == 0));
    }

    #[test]
    fn one_mail_always_fits_into_the_tenth() {
        let budget = MemoryBudget::new(20 * STEP, BOTH);
        let share = || budget.share(Protocol::Smtp, "192.0.2.1".parse().ok(), 8 * STEP);
        let mut mail = share();
        for octets in 0..=8 {
            assert_eq!(mail.grow_to(octets * STEP), Ok(()));
        }
        assert_eq!(mail.grow_to(8 * STEP + 1), Err(Full));
        assert_eq!(share().grow_to(1), Err(Full));
        mail.shrink_to(7 * STEP);
        assert_eq!(share().grow_to(1), Ok(()));
    }
}
