//! Where ranks were planned, and where they were seen.
//!
//! Must not decide what follows from a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::HostName;
use crate::ssh::control::RankSeen;
use crate::text::listed;

/// Hosts that one line names, at most.
const NAMED: usize = 16;

/// What a launch is held to.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The hosts of the plan; empty = this machine alone.
    pub hosts: BTreeSet<HostName>,
    /// Those of them on which ranks must start, where the plan knows.
    pub placement: Option<BTreeMap<HostName, u32>>,
    /// The hosts that run a muster worker, and so answer.
    pub workers: BTreeSet<HostName>,
    /// This machine, as the plan calls it; not in `hosts` unless ranks may run here.
    pub here: HostName,
    /// mpirun calls muster for every remote command, so that no host is reached without us seeing.
    pub agent_is_ours: bool,
    /// A daemon's foreground command ends well while the daemon lives on (Open MPI 4 without tree
    /// spawn).
    pub daemons_detach: bool,
    /// Between SIGTERM and SIGKILL for ranks.
    pub grace: Duration,
    /// Without progress for so long, a job has stalled; none: it may.
    pub stall: Option<Duration>,
}

impl Expected {
    /// Whether ranks may run there.
    pub(super) fn allows(&self, host: &HostName) -> bool {
        self.hosts.is_empty() || self.hosts.contains(host)
    }
}

/// What was seen of hosts and ranks.
#[derive(Debug, Default)]
pub(super) struct Seen {
    reached: BTreeSet<HostName>,
    ranks: BTreeMap<HostName, BTreeSet<u32>>,
    announced: bool,
}

impl Seen {
    pub(super) fn reached(&mut self, host: HostName) {
        self.reached.insert(host);
    }

    pub(super) fn was_reached(&self, host: &HostName) -> bool {
        self.reached.contains(host)
    }

    /// Notes ranks; says where they run, once all of them have been seen.
    pub(super) fn ranks(&mut self, host: HostName, ranks: &[RankSeen]) -> Option<String> {
        self.ranks.entry(host).or_default().extend(ranks.iter().map(|rank| rank.rank));
        let size = ranks.iter().find_map(|rank| rank.size)?;
        let seen = self.ranks.values().map(BTreeSet::len).sum::<usize>();
        if self.announced || seen < size as usize {
            return None;
        }
        self.announced = true;
        let run = if seen == 1 { "rank runs" } else { "ranks run" };
        Some(format!("{seen} {run}: {}", self.counted()))
    }

    fn counted(&self) -> String {
        count_by_host(self.ranks.iter().map(|(host, ranks)| (host, ranks.len())))
    }

    /// Planned hosts for which there is no sign that a rank ran there, where there would be one.
    fn missing<'e>(&self, expected: &'e Expected) -> Vec<&'e HostName> {
        if !expected.agent_is_ours {
            return Vec::new();
        }
        let touched = |host: &HostName| {
            *host == expected.here
                || self.reached.contains(host)
                || self.ranks.get(host).is_some_and(|ranks| !ranks.is_empty())
        };
        match &expected.placement {
            Some(placement) => placement
                .iter()
                .filter(|(host, ranks)| **ranks > 0 && !touched(host))
                .map(|(host, _)| host)
                .collect(),
            // The user's own line may use some hosts only; but none at all is no job of this plan.
            None if expected.hosts.iter().any(touched) => Vec::new(),
            None => expected.hosts.iter().collect(),
        }
    }

    pub(super) fn is_missing_hosts(&self, expected: &Expected) -> bool {
        !self.missing(expected).is_empty()
    }

    /// What was planned and what was seen, a line each.
    pub(super) fn against(&self, expected: &Expected) -> Vec<String> {
        let planned = match &expected.placement {
            Some(placement) => count_by_host(placement.iter().map(|(host, n)| (host, *n as usize))),
            None => {
                let hosts: Vec<&str> = expected.hosts.iter().map(HostName::as_str).collect();
                listed(&hosts, NAMED)
            }
        };
        let seen = self.counted();
        let seen = if seen.is_empty() { "no rank on any host" } else { &seen };
        let mut lines = vec![format!("planned: {planned}"), format!("seen:    {seen}")];
        let missing: Vec<&str> = self.missing(expected).into_iter().map(HostName::as_str).collect();
        if !missing.is_empty() {
            lines.push(format!("mpirun never reached: {}", listed(&missing, NAMED)));
        }
        lines
    }
}

fn count_by_host<'a>(counts: impl Iterator<Item = (&'a HostName, usize)>) -> String {
    let words: Vec<String> =
        counts.filter(|(_, n)| *n > 0).map(|(host, n)| format!("{} x {n}", host.short())).collect();
    listed(&words, NAMED)
}
