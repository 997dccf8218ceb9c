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

/// Hosts of the same slots that are named, and kinds of hosts that are told.
const NAMED: usize = 4;
const GROUPS: usize = 8;

/// The slots of one host and where the number comes from: the hostfile's own number first, then
/// `--slots`, then what the host offers.
#[must_use]
pub fn decide(
    hostfile: Option<NonZeroU32>,
    flag: Option<NonZeroU32>,
    offered: (u32, String),
) -> (u32, String) {
    match (hostfile, flag) {
        (Some(slots), _) => (slots.get(), FROM_HOSTFILE.to_owned()),
        (None, Some(slots)) => (slots.get(), "--slots".to_owned()),
        (None, None) => offered,
    }
}

/// The slots that a host offers by itself, and why so many: one for each of its GPUs or MIG instances
/// (how many, and what to call them), else for each whole CPU of its limit and at least one, else one.
#[must_use]
pub fn offered(gpus: Option<(NonZeroU32, String)>, cpus: Option<f64>) -> (u32, String) {
    if let Some((count, words)) = gpus {
        return (count.get(), words);
    }
    match cpus.filter(|cpus| cpus.is_finite() && *cpus > 0.0) {
        // `as` saturates, so a nonsensical limit gives a large number and not a wrong small one.
        Some(cpus) => ((cpus.floor() as u32).max(1), format!("CPU limit of {cpus}")),
        None => (1, "nothing tells more".to_owned()),
    }
}

/// All slots and why there are so many, hosts of the same number and reason together:
/// `6 slots: 4 on w0 (4 GPUs), 2 on w1 (2 GPUs)`.
#[must_use]
pub fn words(hosts: &[PlanHost]) -> String {
    let mut groups: Vec<(&PlanHost, Vec<&str>)> = Vec::new();
    for host in hosts {
        let same = |(of, _): &&mut (&PlanHost, _)| {
            (of.slots, &of.slots_from) == (host.slots, &host.slots_from)
        };
        match groups.iter_mut().find(same) {
            Some((_, names)) => names.push(host.name.short()),
            None => groups.push((host, vec![host.name.short()])),
        }
    }
    let group = |(of, names): &(&PlanHost, Vec<&str>)| {
        let PlanHost { slots, slots_from, .. } = of;
        match names[..] {
            [one] => format!("{slots} on {one} ({slots_from})"),
            [..] if names.len() <= NAMED => {
                format!("{slots} on each of {} ({slots_from})", names.join(", "))
            }
            [..] => format!("{slots} on each of {} hosts ({slots_from})", names.len()),
        }
    };
    let told: Vec<String> = groups.iter().take(GROUPS).map(group).collect();
    let rest: usize = groups.iter().skip(GROUPS).map(|(_, names)| names.len()).sum();
    let more = if rest > 0 { format!(" and {rest} more hosts") } else { String::new() };
    format!("{} slots: {}{more}", total(hosts), told.join(", "))
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
    use super::{
        NonZeroU32, PlanError, PlanHost, by_slot, decide, offered, ranks, total, uniform, words,
    };

    fn hosts(slots: &[u32]) -> Vec<PlanHost> {
        let host = |(i, slots): (usize, &u32)| PlanHost {
            name: format!("w{i}").into(),
            slots: *slots,
            slots_from: super::FROM_HOSTFILE.into(),
            cpus: None,
        };
        slots.iter().enumerate().map(host).collect()
    }

    #[test]
    fn the_nearest_source_decides() {
        let n = NonZeroU32::new;
        let own = || (8, "8 GPUs".to_owned());
        for (hostfile, flag, expected, from) in [
            (n(4), n(2), 4, "hostfile"),
            (n(4), None, 4, "hostfile"),
            (None, n(2), 2, "--slots"),
            (None, None, 8, "8 GPUs"),
        ] {
            assert_eq!(decide(hostfile, flag, own()), (expected, from.to_owned()));
        }
        for (gpus, cpus, expected, from) in [
            (2, Some(8.0), 2, "2 of them"),
            (16, Some(8.0), 16, "16 of them"),
            (0, Some(8.0), 8, "CPU limit of 8"),
            (0, Some(3.9), 3, "CPU limit of 3.9"),
            (0, Some(0.5), 1, "CPU limit of 0.5"),
            (0, Some(f64::NAN), 1, "nothing tells more"),
            (0, None, 1, "nothing tells more"),
        ] {
            let gpus = n(gpus).map(|count| (count, format!("{count} of them")));
            assert_eq!(offered(gpus, cpus), (expected, from.to_owned()));
        }
    }

    #[test]
    fn hosts_of_the_same_slots_are_told_together() {
        let mut some = hosts(&[4, 2, 4]);
        some[1].slots_from = "CPU limit of 2".into();
        assert_eq!(
            words(&some),
            "10 slots: 4 on each of w0, w2 (hostfile), 2 on w1 (CPU limit of 2)"
        );
        assert_eq!(words(&hosts(&[8; 300])), "2400 slots: 8 on each of 300 hosts (hostfile)");
        let many: Vec<u32> = (1..=20).collect();
        assert!(words(&hosts(&many)).ends_with("8 on w7 (hostfile) and 12 more hosts"));
        // Hosts are counted, not their groups.
        let pairs: Vec<u32> = (1..=10).flat_map(|slots| [slots, slots]).collect();
        assert!(
            words(&hosts(&pairs)).ends_with("8 on each of w14, w15 (hostfile) and 4 more hosts")
        );
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
