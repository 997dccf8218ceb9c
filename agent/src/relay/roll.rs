//! The ranks of a host that have a wrapper and still run: to be signalled, and to be watched for
//! progress.
//!
//! Must not judge; it tells for how long they have been still.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::Source;
use crate::process::pidfd;
use crate::process::tree::{ProcessId, Tree};

const PROC: &str = "/proc";

/// The ranks of one launch on this host.
#[derive(Debug)]
pub struct Roll {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    running: HashMap<Source, Running>,
    /// When a rank last wrote something, or was started.
    wrote: Instant,
    /// The last signal that was sent to all.
    told: Option<i32>,
}

#[derive(Debug)]
struct Running {
    rank: Option<u32>,
    /// None: it has ended already.
    wrapper: Option<ProcessId>,
    /// None: it has ended already, or its number here is not known.
    program: Option<ProcessId>,
    /// CPU time of the wrapper and its descendants, clock ticks.
    ticks: u64,
    /// When that was last seen to grow.
    moved: Instant,
    /// Bytes that the wrapper has read.
    read: u64,
    /// The last signal that it was sent.
    told: Option<Signal>,
}

/// For how long the ranks have done nothing, see [`Roll::still`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stillness {
    /// Since when nobody has written.
    pub wrote: Instant,
    /// The rank that has used no CPU time for the longest.
    pub rank: u32,
    /// Since when it has not.
    pub moved: Instant,
}

impl Default for Roll {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner { running: HashMap::new(), wrote: Instant::now(), told: None }),
        }
    }
}

impl Roll {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a program runs, by the numbers of this pid namespace.
    pub fn started(&self, source: Source, rank: Option<u32>, wrapper: i32, program: Option<i32>) {
        let look_up = |pid| ProcessId::look_up(Path::new(PROC), pid).ok();
        let (wrapper, program) = (look_up(wrapper), program.and_then(look_up));
        let now = Instant::now();
        let mut inner = self.lock();
        inner.wrote = now;
        let (ticks, read, told) = (0, 0, None);
        let running = Running { rank, wrapper, program, ticks, moved: now, read, told };
        inner.running.insert(source, running);
    }

    /// Notes that it has ended.
    pub fn ended(&self, source: Source) {
        self.lock().running.remove(&source);
    }

    /// Notes that a rank has written something.
    pub fn wrote(&self) {
        self.lock().wrote = Instant::now();
    }

    /// Sends a signal to every rank that has not had it: first to the wrapper, which notes that the end was
    /// asked for and passes on nothing that a muster sends, then to the program. A second request to end means
    /// something else to many programs than the first.
    pub fn signal(&self, number: i32) {
        let Ok(signal) = Signal::try_from(number) else { return };
        let mut inner = self.lock();
        inner.told = Some(number);
        for running in inner.running.values_mut() {
            if running.told.replace(signal) == Some(signal) {
                continue;
            }
            // A killed wrapper could not tell how its program ended.
            let wrapper =
                running.wrapper.filter(|_| signal != Signal::SIGKILL || running.program.is_none());
            for process in wrapper.into_iter().chain(running.program) {
                pidfd::send(process, &[signal]);
            }
        }
    }

    /// The last signal that was sent to all.
    #[must_use]
    pub fn told(&self) -> Option<i32> {
        self.lock().told
    }

    /// Looks at the CPU time of every rank, and at what its wrapper has read: lines need not come this way.
    /// None where no rank runs.
    pub fn still(&self) -> Option<Stillness> {
        let mut inner = self.lock();
        let Inner { running, wrote, .. } = &mut *inner;
        if running.is_empty() {
            return None;
        }
        let tree = Tree::read(Path::new(PROC)).ok()?;
        let now = Instant::now();
        for running in running.values_mut() {
            let ticks = running.wrapper.map_or(0, |wrapper| tree.cpu_below(wrapper.pid));
            if ticks != running.ticks {
                (running.ticks, running.moved) = (ticks, now);
            }
            let read = running.wrapper.and_then(|wrapper| bytes_read(wrapper.pid));
            if let Some(read) = read.filter(|read| *read != running.read) {
                (running.read, *wrote) = (read, now);
            }
        }
        let ranks = running.values().filter_map(|running| Some((running, running.rank?)));
        let (running, rank) = ranks.min_by_key(|(running, _)| running.moved)?;
        Some(Stillness { wrote: *wrote, rank, moved: running.moved })
    }
}

/// What a process has read so far, as proc(5) counts it; none where the kernel does not say.
fn bytes_read(pid: i32) -> Option<u64> {
    let counts = fs::read_to_string(format!("{PROC}/{pid}/io")).ok()?;
    counts.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> (Child, i32) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        (child, pid)
    }

    #[test]
    fn only_the_process_that_was_noted_is_signalled() {
        let ((mut program, pid), (mut other, other_pid)) = (sleeper(), sleeper());
        let roll = Roll::default();
        roll.started(Source(1), Some(0), 0, Some(pid));
        // As if the number of an ended program had been given to `other`.
        let later = ProcessId { pid: other_pid, start: 1 };
        roll.lock().running.get_mut(&Source(1)).unwrap().wrapper = Some(later);
        roll.signal(nix::libc::SIGTERM);
        assert_eq!(program.wait().unwrap().signal(), Some(nix::libc::SIGTERM));
        assert!(other.try_wait().unwrap().is_none(), "it has another start time");
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(roll.told(), Some(nix::libc::SIGTERM));
    }

    #[test]
    fn a_wrapper_is_killed_only_where_its_program_is_not_known() {
        let ((mut wrapper, wrapper_pid), (mut program, pid)) = (sleeper(), sleeper());
        let roll = Roll::default();
        roll.started(Source(1), Some(0), wrapper_pid, Some(pid));
        roll.signal(nix::libc::SIGKILL);
        assert_eq!(program.wait().unwrap().signal(), Some(nix::libc::SIGKILL));
        assert!(wrapper.try_wait().unwrap().is_none());
        roll.ended(Source(1));
        roll.started(Source(2), Some(0), wrapper_pid, None);
        roll.signal(nix::libc::SIGKILL);
        assert_eq!(wrapper.wait().unwrap().signal(), Some(nix::libc::SIGKILL));
        assert!(roll.still().is_some());
    }

    #[test]
    fn a_rank_is_asked_to_end_once() {
        let counts = "trap 'n=$((n + 1))' TERM; echo; while read -r _; do :; done; exit $n";
        let mut shell = Command::new("sh");
        let mut rank = shell
            .args(["-c", &format!("n=0; {counts}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        rank.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let roll = Roll::default();
        roll.started(Source(1), Some(0), i32::try_from(rank.id()).unwrap(), None);
        for _ in 0..3 {
            roll.signal(nix::libc::SIGTERM);
            // Shells may take two signals that come at once for one.
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        drop(rank.stdin.take());
        assert_eq!(rank.wait().unwrap().code(), Some(1));
    }

    #[test]
    fn what_a_wrapper_reads_was_written() {
        let mut cat =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let roll = Roll::default();
        roll.started(Source(1), Some(0), i32::try_from(cat.id()).unwrap(), None);
        let mut pass = || {
            cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        };
        pass();
        let first = roll.still().unwrap();
        assert_eq!(roll.still().unwrap().wrote, first.wrote);
        pass();
        assert!(roll.still().unwrap().wrote > first.wrote);
        cat.kill().unwrap();
        cat.wait().unwrap();
    }
}
