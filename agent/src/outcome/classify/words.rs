//! Facts in words.
//!
//! Must not judge.

use nix::sys::signal::Signal;

use crate::outcome::facts::{Culprit, HostEvent, HostFact, RankEnd};
use crate::process::status::WaitStatus;
use crate::text::size;

/// `rank 3 (local rank 1) on worker-1`, as much of it as is known.
pub(super) fn who(culprit: &Culprit) -> String {
    let mut words = match (culprit.rank, culprit.local_rank) {
        (Some(rank), Some(local)) if rank != local => format!("rank {rank} (local rank {local})"),
        (Some(rank), _) => format!("rank {rank}"),
        (None, Some(local)) => format!("local rank {local}"),
        (None, None) => String::new(),
    };
    if let Some(host) = &culprit.host {
        words += if words.is_empty() { "host " } else { " on " };
        words += host;
    }
    if let Some(pod) = &culprit.pod {
        words += &format!(" (pod {pod})");
    }
    words
}

/// With a capital and a full stop.
pub(super) fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|char| char.to_ascii_uppercase());
    let stop = if words.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{stop}", first.map(String::from).unwrap_or_default(), chars.as_str())
}

/// `SIGTERM`, or `signal 34`.
pub(super) fn signal(number: i32) -> String {
    let known = Signal::try_from(number);
    known.map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// What befell a host, without its name.
pub(super) fn host_fact(fact: &HostFact) -> String {
    match fact {
        HostFact::OomKill { kills, .. } => format!("OOM killer, {kills} kills counted"),
        HostFact::ToldToStop => "told to stop by the platform".to_owned(),
        HostFact::DiskFull { path } => format!("{path} full"),
        HostFact::ConnectionLost { reason } => format!("connection lost: {reason}"),
        HostFact::HeartbeatsMissed { missed } => format!("{missed} heartbeats missed"),
        HostFact::DaemonFailed { program, status } => format!("{program} ended: {status}"),
    }
}

/// The same with its name and, for memory, the figures.
pub(super) fn host_line(event: &HostEvent) -> String {
    let fact = host_fact(&event.what);
    match event.what {
        HostFact::OomKill { .. } => format!("{}: {fact}; {}", event.host, memory(&event.what)),
        _ => format!("{}: {fact}", event.host),
    }
}

/// How a worker or its daemon was lost, as a sentence begins.
pub(super) fn loss(event: &HostEvent) -> String {
    let host = &event.host;
    match &event.what {
        HostFact::ConnectionLost { reason } => format!("the worker on {host} was lost: {reason}"),
        HostFact::HeartbeatsMissed { missed } => {
            format!("the worker on {host} was lost: {missed} heartbeats in a row did not come")
        }
        HostFact::DaemonFailed { program, status: status @ WaitStatus::Exited(126 | 127) } => {
            format!("the MPI daemon on {host} could not be started: {program}, {status}")
        }
        HostFact::DaemonFailed { program, status } => {
            format!("the MPI daemon on {host} failed: {program} ended with {status}")
        }
        HostFact::OomKill { .. } | HostFact::ToldToStop | HostFact::DiskFull { .. } => {
            host_line(event)
        }
    }
}

/// The limit and the most that was used.
pub(super) fn memory(fact: &HostFact) -> String {
    let HostFact::OomKill { limit, peak, .. } = fact else { return String::new() };
    let limit = match limit {
        Some(limit) => format!("the memory limit was {}", size(*limit)),
        None => "no memory limit below the machine's is known".to_owned(),
    };
    match peak {
        Some(peak) => format!("{limit}, the most in use {}", size(*peak)),
        None => limit,
    }
}

/// A rank's end with what it used.
pub(super) fn rank_line(end: &RankEnd) -> String {
    format!(
        "{} (pid {}): {} after {}, user {}, system {}, peak memory {}, major page faults {}, \
         involuntary context switches {}",
        who(&end.culprit()),
        end.pid,
        end.status,
        seconds(end.wall_us),
        seconds(end.usage.user_us),
        seconds(end.usage.system_us),
        size(end.usage.max_rss_kib.saturating_mul(1024)),
        end.usage.major_faults,
        end.usage.preempted,
    )
}

fn seconds(micros: u64) -> String {
    let tenths = micros / 100_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(seconds(61_250_000), "61.2 s");
        assert_eq!(sentence("rank 3 failed"), "Rank 3 failed.");
        assert_eq!((signal(15).as_str(), signal(34).as_str()), ("SIGTERM", "signal 34"));
    }

    #[test]
    fn names() {
        let full = Culprit { rank: Some(3), local_rank: Some(1), ..Culprit::host("w1") };
        assert_eq!(who(&full), "rank 3 (local rank 1) on w1");
        assert_eq!(who(&Culprit::host("w1")), "host w1");
        assert_eq!(who(&Culprit { local_rank: Some(2), ..Culprit::default() }), "local rank 2");
        assert_eq!(who(&Culprit::default()), "");
    }
}
