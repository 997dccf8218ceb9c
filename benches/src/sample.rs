//! What processes hold and do while nothing happens, read from /proc over a while.
//!
//! Must not be asked about processes that come and go: only those of both ends of the while count.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lab::{Host, ProcessInfo};

use crate::Result;

/// What a kind of process costs, all of them together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) processes: usize,
    /// KiB, shared pages counted in each.
    pub(crate) resident: u64,
    /// KiB of that which are pages of files: the program's own, which all its processes share.
    pub(crate) files: u64,
    /// KiB, shared pages divided among those who share them.
    pub(crate) share: u64,
    /// KiB that would be free without it.
    pub(crate) private: u64,
    /// Times that a thread was put on a CPU, a minute.
    pub(crate) wakeups: f64,
    /// CPU milliseconds a minute.
    pub(crate) cpu: f64,
}

/// Nanoseconds on a CPU and times put there (proc_pid_schedstat(5)), of all threads.
#[derive(Default)]
struct Ran {
    time: u64,
    times: u64,
}

/// The processes of these hosts that are wanted, each kind over the same while.
pub(crate) fn costs(
    hosts: &[&Host],
    kinds: &[&dyn Fn(&ProcessInfo) -> bool],
    over: Duration,
) -> Result<Vec<Cost>> {
    let all: Vec<ProcessInfo> = hosts.iter().flat_map(|host| host.processes()).collect();
    let wanted = kinds.iter().map(|wanted| all.iter().filter(|info| wanted(info)));
    let pids: Vec<Vec<i32>> =
        wanted.map(|found| found.map(|info| info.outer.as_raw()).collect()).collect();
    let look = || -> Vec<Option<Ran>> { pids.iter().map(|pids| ran(pids)).collect() };
    let before = look();
    // The while itself is what is measured.
    thread::sleep(over);
    let after = look();
    let minute = 60.0 / over.as_secs_f64();
    let mut costs = Vec::new();
    for ((pids, before), after) in pids.iter().zip(before).zip(after) {
        let (Some(before), Some(after)) = (before, after) else {
            return Err("a process went away while it was looked at".into());
        };
        let mut cost = Cost { processes: pids.len(), ..Cost::default() };
        for pid in pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let resident = kib(&text, "Rss:");
            cost.resident += resident;
            cost.files += resident.saturating_sub(kib(&text, "Anonymous:"));
            cost.share += kib(&text, "Pss:");
            cost.private += kib(&text, "Private_Clean:") + kib(&text, "Private_Dirty:");
        }
        // A helper that ends in between takes its counts with it.
        cost.wakeups = after.times.saturating_sub(before.times) as f64 * minute;
        cost.cpu = after.time.saturating_sub(before.time) as f64 / 1e6 * minute;
        costs.push(cost);
    }
    Ok(costs)
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

fn ran(pids: &[i32]) -> Option<Ran> {
    let mut sum = Ran::default();
    for pid in pids {
        for task in fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).ok()? {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            let mut numbers = text.split_whitespace().map(str::parse::<u64>);
            sum.time += numbers.next()?.ok()?;
            sum.times += numbers.nth(1)?.ok()?;
        }
    }
    Some(sum)
}
