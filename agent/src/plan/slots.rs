//! How many ranks a host takes, how many all take, and where they go.
//!
//! Must not know an MPI family: what is here holds for each of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::PlanHost;
use super::error::PlanError;
use crate::ids::HostName;

/// What `slots_from` says of a number that the hostfile gave.
pub const FROM_HOSTFILE: &str = "hostfile";

/// The slots of one host and where the number comes from.
///
/// The hostfile's own number first, then `--slots`, then whole CPUs of the worker's limit (at least
/// one), then one.
#[must_use]
pub fn decide(
    hostfile: Option<NonZeroU32>,
    flag: Option<NonZeroU32>,
    cpus: Option<f64>,
) -> (u32, String) {
    if let Some(slots) = hostfile {
        return (slots.get(), FROM_HOSTFILE.to_owned());
    }
    if let Some(slots) = flag {
        return (slots.get(), "--slots".to_owned());
    }
    match cpus.filter(|cpus| cpus.is_finite() && *cpus > 0.0) {
        // `as` saturates, so a nonsensical limit gives a large number and not a wrong small one.
        Some(cpus) => ((cpus.floor() as u32).max(1), format!("CPU limit of {cpus}")),
        None => (1, "nothing tells more".to_owned()),
    }
}

/// The slots of all hosts.
#[must_use]
pub fn total(hosts: &[PlanHost]) -> u32 {
    hosts.iter().fold(0, |sum, host| sum.saturating_add(host.slots))
}

/// The one number of slots that every host has, where they agree.
#[must_use]
pub fn uniform(hosts: &[PlanHost]) -> Option<u32> {
    let first = hosts.first()?.slots;
    hosts.iter().all(|host| host.slots == first).then_some(first)
}

/// The ranks to start: what was asked for, or one for each slot.
///
/// # Errors
/// When no rank was asked for, or more than there are slots.
pub fn ranks(hosts: &[PlanHost], asked: Option<u32>) -> Result<u32, PlanError> {
    let total = total(hosts);
    match asked.unwrap_or(total) {
        0 => Err(PlanError::NoRanks),
        ranks if ranks > total => Err(PlanError::NotEnoughSlots {
            ranks,
            total,
            hosts: hosts.iter().map(|host| (host.name.clone(), host.slots)).collect(),
        }),
        ranks => Ok(ranks),
    }
}

/// Where the ranks go when each host is filled before the next; hosts without a rank are left out.
#[must_use]
pub fn by_slot(hosts: &[PlanHost], ranks: u32) -> BTreeMap<HostName, u32> {
    let mut left = ranks;
    let mut placement = BTreeMap::new();
    for host in hosts {
        let here = host.slots.min(left);
        if here > 0 {
            *placement.entry(host.name.clone()).or_insert(0) += here;
        }
        left -= here;
    }
    placement
}

#[cfg(test)]
mod tests {
    use super::{NonZeroU32, PlanError, PlanHost, by_slot, decide, ranks, total, uniform};

    fn hosts(slots: &[u32]) -> Vec<PlanHost> {
        let host = |(i, slots): (usize, &u32)| PlanHost {
            name: format!("w{i}").into(),
            slots: *slots,
            slots_from: super::FROM_HOSTFILE.into(),
            cpus: None,
            is_launcher: false,
        };
        slots.iter().enumerate().map(host).collect()
    }

    #[test]
    fn the_nearest_source_decides() {
        let n = NonZeroU32::new;
        for (hostfile, flag, cpus, expected, from) in [
            (n(4), n(2), Some(8.0), 4, "hostfile"),
            (None, n(2), Some(8.0), 2, "--slots"),
            (None, None, Some(8.0), 8, "CPU limit of 8"),
            (None, None, Some(3.9), 3, "CPU limit of 3.9"),
            (None, None, Some(0.5), 1, "CPU limit of 0.5"),
            (None, None, Some(f64::NAN), 1, "nothing tells more"),
            (None, None, None, 1, "nothing tells more"),
        ] {
            assert_eq!(decide(hostfile, flag, cpus), (expected, from.to_owned()));
        }
    }

    #[test]
    fn ranks_fit_or_are_refused() {
        let three = hosts(&[2, 1, 4]);
        assert_eq!((total(&three), uniform(&three), uniform(&hosts(&[3, 3]))), (7, None, Some(3)));
        assert_eq!(ranks(&three, None), Ok(7));
        assert_eq!(ranks(&three, Some(7)), Ok(7));
        assert_eq!(ranks(&three, Some(0)), Err(PlanError::NoRanks));
        assert!(matches!(
            ranks(&three, Some(8)),
            Err(PlanError::NotEnoughSlots { ranks: 8, total: 7, hosts }) if hosts.len() == 3
        ));
    }

    #[test]
    fn hosts_are_filled_in_order() {
        for (ranks, expected) in [
            (1, vec![("w0", 1)]),
            (3, vec![("w0", 2), ("w1", 1)]),
            (7, vec![("w0", 2), ("w1", 1), ("w2", 4)]),
        ] {
            let placed = by_slot(&hosts(&[2, 1, 4]), ranks);
            let placed: Vec<(&str, u32)> = placed.iter().map(|(h, n)| (h.as_str(), *n)).collect();
            assert_eq!(placed, expected);
        }
    }
}
