//! The ranks of a host that have a wrapper and still run: to be signalled, and to be watched for
//! progress.
//!
//! Must not judge; it tells for how long they have been still.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Report, Source};
use crate::process::tree::Tree;

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
    wrapper: i32,
    program: i32,
    /// CPU time of the program and its descendants, clock ticks.
    ticks: u64,
    /// When that was last seen to grow.
    moved: Instant,
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

    /// Notes who runs.
    pub fn note(&self, report: &Report) {
        let mut inner = self.lock();
        match report {
            Report::Started(source, hello) => {
                let now = Instant::now();
                inner.wrote = now;
                let running = Running {
                    rank: hello.identity.as_ref().map(|identity| identity.rank),
                    wrapper: hello.wrapper,
                    program: hello.pid,
                    ticks: 0,
                    moved: now,
                };
                inner.running.insert(*source, running);
            }
            Report::Ended(source, _) => {
                inner.running.remove(source);
            }
        }
    }

    /// Notes that a rank has written something.
    pub fn wrote(&self) {
        self.lock().wrote = Instant::now();
    }

    /// Sends a signal to every rank: first to the wrapper, which notes that the end was asked for and
    /// passes on nothing that a muster sends, then to the program.
    pub fn signal(&self, number: i32) {
        let Ok(signal) = Signal::try_from(number) else { return };
        let mut inner = self.lock();
        inner.told = Some(number);
        for running in inner.running.values() {
            // Gone only where they have just ended. A killed wrapper could not tell how it ended.
            if signal != Signal::SIGKILL {
                let _ = kill(Pid::from_raw(running.wrapper), signal);
            }
            let _ = kill(Pid::from_raw(running.program), signal);
        }
    }

    /// The last signal that was sent to all.
    #[must_use]
    pub fn told(&self) -> Option<i32> {
        self.lock().told
    }

    /// Looks at the CPU time of every rank. None where no rank runs.
    pub fn still(&self) -> Option<Stillness> {
        let mut inner = self.lock();
        if inner.running.is_empty() {
            return None;
        }
        let tree = Tree::read(Path::new("/proc")).ok()?;
        let now = Instant::now();
        for running in inner.running.values_mut() {
            let ticks = tree.cpu_below(running.program);
            if ticks != running.ticks {
                (running.ticks, running.moved) = (ticks, now);
            }
        }
        let wrote = inner.wrote;
        let ranks = inner.running.values().filter_map(|running| Some((running, running.rank?)));
        let (running, rank) = ranks.min_by_key(|(running, _)| running.moved)?;
        Some(Stillness { wrote, rank, moved: running.moved })
    }
}
