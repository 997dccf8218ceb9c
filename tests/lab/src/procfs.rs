//! The processes of a host, read from the machine's /proc by PID namespace.
//!
//! Must not take anything there for stable: processes come and go while it reads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{LabError, Result};

/// A process of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id on the machine.
    pub outer: Pid,
    /// Its id inside the host.
    pub pid: i32,
    /// Its parent's id inside the host; 0 if the parent is outside.
    pub ppid: i32,
    /// Its effective uid.
    pub uid: u32,
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// The command line, words joined by single spaces; the bracketed name of a zombie.
    pub cmdline: String,
}

impl ProcessInfo {
    /// Sends it a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(self.outer, signal);
    }
}

/// All processes in a PID namespace, PID 1 first.
pub(crate) fn processes(namespace: u64) -> Vec<ProcessInfo> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbered =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<_> = numbered.filter_map(|pid| read(pid, namespace)).collect();
    let inner: std::collections::HashMap<_, _> =
        found.iter().map(|(info, _)| (info.outer.as_raw(), info.pid)).collect();
    for (info, parent) in &mut found {
        info.ppid = inner.get(parent).copied().unwrap_or(0);
    }
    let mut found: Vec<_> = found.into_iter().map(|(info, _)| info).collect();
    found.sort_by_key(|info| info.pid);
    found
}

/// Looks until the processes satisfy `wanted`. The kernel has no event for this, so it looks every 10 ms.
pub(crate) fn wait(
    what: &str,
    limit: Duration,
    look: impl Fn() -> Vec<ProcessInfo>,
    wanted: impl Fn(&[ProcessInfo]) -> bool,
) -> Result<Vec<ProcessInfo>> {
    let until = Instant::now() + limit;
    loop {
        let found = look();
        if wanted(&found) {
            return Ok(found);
        }
        if Instant::now() >= until {
            let tail = found.iter().map(|info| format!("{info:?}\n")).collect();
            return Err(LabError::Deadline { what: what.to_owned(), limit, tail });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The process and its parent's outer pid, if it belongs to the namespace.
fn read(pid: i32, namespace: u64) -> Option<(ProcessInfo, i32)> {
    let dir = Path::new("/proc").join(pid.to_string());
    if fs::metadata(dir.join("ns/pid")).ok()?.ino() != namespace {
        return None;
    }
    let status = fs::read_to_string(dir.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim().to_owned())
    };
    let words = fs::read(dir.join("cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    let cmdline = if words.is_empty() { format!("[{}]", field("Name")?) } else { words };
    let info = ProcessInfo {
        outer: Pid::from_raw(pid),
        pid: field("NSpid")?.split_whitespace().last()?.parse().ok()?,
        ppid: 0,
        uid: field("Uid")?.split_whitespace().nth(1)?.parse().ok()?,
        state: field("State")?.chars().next()?,
        cmdline,
    };
    Some((info, field("PPid")?.parse().ok()?))
}
