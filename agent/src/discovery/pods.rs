//! The pods behind a headless Service, by address and by name.
//!
//! Pure. Must not ask: [`dns`](super::dns) does, and reports back.
//!
//! The Service's address records list every pod that has a name below the Service's, and they are
//! there from the first pod on. So one question shows how many have come, without one for a name that
//! is not there yet, whose "no such name" a cache would keep. Whose address it is tells the pod itself,
//! or its pointer record, which Kubernetes serves for each with a host name (DNS-based service discovery
//! §2.4.1).

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// Pods of one Service whose names are asked for, at most.
const MOST: usize = 8192;

/// A name is asked for again where its host is still looked for after this: an address that one pod
/// has left another may have taken. So is that of an address that had none.
const RENEW: Duration = Duration::from_secs(30);

/// What an address's pointer records said, or the pod.
#[derive(Debug)]
struct Named {
    /// In lower case, without the last dot; empty where nothing is known.
    names: Vec<String>,
    /// When, on the caller's clock.
    at: Duration,
}

/// The pods of one Service as last answered. Times are on the caller's clock.
#[derive(Debug, Default)]
pub struct Pods {
    addresses: BTreeSet<IpAddr>,
    named: HashMap<IpAddr, Named>,
}

impl Pods {
    /// Takes an answer to the Service's name; whether it brought a change.
    pub fn answered(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        let before = std::mem::replace(&mut self.addresses, addresses.into_iter().collect());
        let Self { addresses, named } = self;
        named.retain(|address, _| addresses.contains(address));
        before != self.addresses
    }

    /// Addresses whose names are to be asked for.
    pub fn nameless(&self, now: Duration) -> Vec<IpAddr> {
        let unknown = |address: &&IpAddr| match self.named.get(*address) {
            None => true,
            Some(named) => named.names.is_empty() && now.saturating_sub(named.at) >= RENEW,
        };
        self.addresses.iter().take(MOST).filter(unknown).copied().collect()
    }

    /// Takes the names of an address. No answer takes away none that is known.
    pub fn name(&mut self, address: IpAddr, names: Vec<String>, now: Duration) {
        let known = || self.named.get(&address).is_some_and(|named| !named.names.is_empty());
        if self.addresses.contains(&address) && !(names.is_empty() && known()) {
            self.named.insert(address, Named { names, at: now });
        }
    }

    /// Takes the full names that who is at these addresses say they have; gives the addresses whose
    /// records must tell: of who says none, and of all that have one name.
    pub fn heard(
        &mut self,
        said: impl IntoIterator<Item = (IpAddr, Option<String>)>,
        now: Duration,
    ) -> BTreeSet<IpAddr> {
        let mut doubtful = BTreeSet::new();
        for (address, name) in said {
            let others = name.as_deref().map(|name| self.addresses_of(name)).unwrap_or_default();
            match name {
                Some(name) if others.is_empty() => self.name(address, vec![name], now),
                _ => {
                    doubtful.insert(address);
                    doubtful.extend(others);
                }
            }
        }
        doubtful
    }

    /// Addresses of a full name, in lower case and without the last dot, IPv4 before IPv6.
    #[must_use]
    pub fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let is_its = |address: &&IpAddr| {
            self.named.get(*address).is_some_and(|named| named.names.iter().any(|own| own == name))
        };
        self.addresses.iter().filter(is_its).copied().collect()
    }

    /// Who looks for this name again has not got to its host: what is old is to be asked for again.
    pub fn renew(&mut self, name: &str, now: Duration) {
        self.named.retain(|_, named| {
            let old = now.saturating_sub(named.at) >= RENEW;
            !(old && named.names.iter().any(|own| own == name))
        });
    }

    /// Whether a pod has a name below this one: that is how Services of jobs have it.
    #[must_use]
    pub fn are_named_below(&self, service: &str) -> bool {
        let below =
            |name: &String| name.split_once('.').is_some_and(|(_, domain)| domain == service);
        self.named.values().any(|named| named.names.iter().any(below))
    }

    /// Whether every pod's name is known.
    #[must_use]
    pub fn are_all_named(&self) -> bool {
        let known = |address| self.named.get(address).is_some_and(|named| !named.names.is_empty());
        self.addresses.iter().all(known)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "pi.default.svc.cluster.local";
    const NONE: [IpAddr; 0] = [];

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn full(name: &str) -> String {
        format!("{name}.{SERVICE}")
    }

    #[test]
    fn an_address_is_asked_for_its_name_once() {
        let mut pods = Pods::default();
        assert!(pods.answered([ip(2), ip(1)]));
        assert_eq!(pods.nameless(Duration::ZERO), [ip(1), ip(2)]);
        pods.name(ip(1), vec![full("w-0")], Duration::ZERO);
        assert_eq!(pods.nameless(Duration::ZERO), [ip(2)]);
        assert!(!pods.answered([ip(1), ip(2)]), "in another order");
        assert_eq!(pods.nameless(Duration::ZERO), [ip(2)]);
        assert_eq!(pods.addresses_of(&full("w-0")), [ip(1)]);
        assert_eq!(pods.addresses_of(&full("w-1")), NONE);
        assert!(
            pods.are_named_below(SERVICE) && !pods.are_named_below("default.svc.cluster.local")
        );
        assert!(!pods.are_all_named());
        pods.name(ip(2), Vec::new(), Duration::ZERO);
        assert_eq!(pods.nameless(RENEW / 2), NONE, "without a name, but asked for");
        assert_eq!(pods.nameless(RENEW), [ip(2)]);
        assert!(!pods.are_all_named());
    }

    #[test]
    fn a_pod_that_moved_is_at_its_new_address_alone() {
        let mut pods = Pods::default();
        pods.answered([ip(1)]);
        pods.name(ip(1), vec![full("w-0")], Duration::ZERO);
        assert!(pods.answered([ip(9)]));
        pods.name(ip(1), vec![full("w-0")], Duration::ZERO);
        assert_eq!(pods.addresses_of(&full("w-0")), NONE, "late news of what has gone");
        pods.name(ip(9), vec![full("w-0")], Duration::ZERO);
        assert_eq!(pods.addresses_of(&full("w-0")), [ip(9)]);
    }

    #[test]
    fn what_who_is_there_says_spares_a_question_unless_another_says_the_same() {
        let mut pods = Pods::default();
        pods.answered([ip(1), ip(2), ip(3), ip(4)]);
        let said = [(ip(1), Some(full("w-0"))), (ip(2), None), (ip(3), Some(full("w-1")))];
        assert_eq!(Vec::from_iter(pods.heard(said, Duration::ZERO)), [ip(2)]);
        assert_eq!(pods.addresses_of(&full("w-0")), [ip(1)]);
        pods.name(ip(2), vec![full("w-2")], Duration::ZERO);

        let said = [(ip(4), Some(full("w-0")))];
        assert_eq!(Vec::from_iter(pods.heard(said, Duration::ZERO)), [ip(1), ip(4)]);
        pods.name(ip(1), Vec::new(), Duration::ZERO);
        pods.name(ip(4), vec![full("other")], Duration::ZERO);
        assert_eq!(pods.addresses_of(&full("w-0")), [ip(1)], "no answer is no other name");
        assert!(pods.are_all_named());
    }

    #[test]
    fn an_old_name_that_leads_nowhere_is_asked_for_again() {
        let mut pods = Pods::default();
        pods.answered([ip(1), ip(2)]);
        pods.name(ip(1), vec![full("w-0")], Duration::ZERO);
        pods.name(ip(2), vec![full("w-1")], Duration::ZERO);
        pods.renew(&full("w-0"), RENEW / 2);
        assert_eq!(pods.nameless(Duration::ZERO), NONE);
        pods.renew(&full("w-0"), RENEW);
        assert_eq!(pods.nameless(Duration::ZERO), [ip(1)], "that of another host stays");
    }
}
