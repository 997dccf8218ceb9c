//! What a process used, as the kernel counted it (getrusage(2)): of that, what explains an end.

use nix::libc;
use serde::{Deserialize, Serialize};

/// What a process and the children that it waited for used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// CPU time in the program, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// The largest resident set, KiB: that of the largest process.
    pub max_rss_kib: u64,
    /// Page faults that had to wait for a disk: memory was short, or a file was read.
    pub major_faults: u64,
    /// How often the kernel took the CPU away: others wanted it too.
    pub preempted: u64,
}

impl From<libc::rusage> for Usage {
    fn from(raw: libc::rusage) -> Self {
        let count = |raw: libc::c_long| u64::try_from(raw).unwrap_or(0);
        let micros = |time: libc::timeval| {
            count(time.tv_sec).saturating_mul(1_000_000).saturating_add(count(time.tv_usec))
        };
        Self {
            user_us: micros(raw.ru_utime),
            system_us: micros(raw.ru_stime),
            max_rss_kib: count(raw.ru_maxrss),
            major_faults: count(raw.ru_majflt),
            preempted: count(raw.ru_nivcsw),
        }
    }
}
