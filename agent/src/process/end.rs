//! Ending a scope: SIGTERM, a grace time, then SIGKILL until nothing is left.
//!
//! Must not choose what is in the scope, and must not go on for ever: rounds and waits are bounded,
//! and what outlives them (a process stuck in a driver) is reported, not waited for.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval, timeout, timeout_at};

use super::pidfd;
use super::scope::{Members, Scope};
use super::tree::{ProcessId, Tree, environ, variable};
use crate::config::variables::MUSTER_SESSION;

const PROC: &str = "/proc";
/// How often everything left is killed before it is given up.
const KILL_ROUNDS: u32 = 10;
/// How many looks a round takes for processes that forked before they were frozen.
const FREEZE_LOOKS: u32 = 8;
/// How many looks that show nobody are doubted because something ended during them.
const DOUBTS: u32 = 10;
/// How long a killed process may take to disappear before the next round.
const KILL_WAIT: Duration = Duration::from_millis(500);
/// How long reading environments may take: the kernel blocks the reader while a driver holds the
/// process's memory lock.
const ENVIRON_WAIT: Duration = Duration::from_secs(2);
/// Between two looks where the kernel has no pidfds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What ending a scope came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Processes that ended after SIGTERM.
    pub termed: usize,
    /// Processes that needed SIGKILL.
    pub killed: usize,
    /// Processes that even SIGKILL did not end in time.
    pub left: Vec<ProcessId>,
}

/// Why a scope could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// `/proc` is missing or unreadable, so nobody knows what runs.
    #[error("list the processes in /proc")]
    Proc(#[source] io::Error),
}

/// Ends everything in `scope`: SIGTERM, then SIGKILL for what is left after `grace` (zero: at once).
///
/// A program that keeps replacing itself by a child faster than `/proc` can be read (a few
/// milliseconds) can escape; it is a descendant still, and the guarding parent's last sweep or the
/// end of the container meets it.
///
/// # Errors
/// Where the processes cannot be listed.
pub async fn end(mut scope: Scope, grace: Duration) -> Result<Ended, EndError> {
    let mut ending = Ending::new(Instant::now() + grace, grace.is_zero());
    loop {
        let members = look(&mut scope).await?;
        let step = ending.next(&members, Instant::now());
        perform(&step);
        match step {
            Step::Done(ended) => return Ok(ended),
            Step::LookAgain | Step::Freeze { .. } => {}
            Step::Terminate { targets, until, .. } | Step::Kill { targets, until, .. } => {
                // Running out of time is no failure here: the next look decides what comes then.
                let _ = timeout_at(until.into(), gone(&targets)).await;
            }
        }
    }
}

/// Gives what is in `scope` up to `patience` to end by itself, as an MPI daemon does when its mpirun
/// is done, and returns as soon as it has.
///
/// # Errors
/// Where the processes cannot be listed.
pub async fn settle(mut scope: Scope, patience: Duration) -> Result<Scope, EndError> {
    let deadline = Instant::now() + patience;
    loop {
        let members = look(&mut scope).await?;
        if members.alive.is_empty() || Instant::now() >= deadline {
            return Ok(scope);
        }
        // Running out of patience is no failure here: the next look returns.
        let _ = timeout_at(deadline.into(), gone(&members.alive)).await;
    }
}

/// [`end`] for a process without a runtime. Environments are not read, because that could block it:
/// the scope is what descends, so use it with [`Scope::all_descendants`].
///
/// # Errors
/// Where the processes cannot be listed.
pub fn end_sync(mut scope: Scope, grace: Duration) -> Result<Ended, EndError> {
    let mut ending = Ending::new(Instant::now() + grace, grace.is_zero());
    loop {
        let tree = Tree::read(Path::new(PROC)).map_err(EndError::Proc)?;
        let members = scope.members(&tree, |_| false);
        let step = ending.next(&members, Instant::now());
        perform(&step);
        match step {
            Step::Done(ended) => return Ok(ended),
            Step::LookAgain | Step::Freeze { .. } => {}
            Step::Terminate { targets, until, .. } | Step::Kill { targets, until, .. } => {
                gone_sync(&targets, until);
            }
        }
    }
}

/// What to do next about the members that a look has shown.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done(Ended),
    LookAgain,
    Terminate { fresh: Vec<ProcessId>, targets: Vec<ProcessId>, until: Instant },
    Freeze { targets: Vec<ProcessId>, groups: BTreeSet<i32> },
    Kill { targets: Vec<ProcessId>, groups: BTreeSet<i32>, until: Instant },
}

/// The decisions of [`end`] and [`end_sync`].
#[derive(Debug)]
struct Ending {
    grace_ends: Instant,
    at_once: bool,
    termed: BTreeSet<ProcessId>,
    frozen: BTreeSet<ProcessId>,
    killed: BTreeSet<ProcessId>,
    looks: u32,
    rounds: u32,
    doubts: u32,
}

impl Ending {
    fn new(grace_ends: Instant, at_once: bool) -> Self {
        let none = BTreeSet::new;
        let (termed, frozen, killed) = (none(), none(), none());
        Self { grace_ends, at_once, termed, frozen, killed, looks: 0, rounds: 0, doubts: 0 }
    }

    fn next(&mut self, members: &Members, now: Instant) -> Step {
        let alive = &members.alive;
        if alive.is_empty() && !members.settled && self.doubts < DOUBTS {
            self.doubts += 1;
            return Step::LookAgain;
        }
        if alive.is_empty() || self.rounds >= KILL_ROUNDS {
            return Step::Done(Ended {
                termed: self.termed.difference(&self.killed).count(),
                killed: self.killed.iter().filter(|id| !alive.contains(id)).count(),
                left: alive.clone(),
            });
        }
        if !self.at_once && now < self.grace_ends {
            // Once each: to many programs a second SIGTERM means something else.
            let fresh = alive.iter().filter(|id| self.termed.insert(**id)).copied().collect();
            return Step::Terminate { fresh, targets: alive.clone(), until: self.grace_ends };
        }
        // Killing one by one loses against a program that forks: freeze all first, and look until
        // nothing new appears. Groups too from the second round on, since the kernel signals a
        // group as a whole; not before, since no number of a group can be pinned.
        let groups = if self.rounds == 0 { BTreeSet::new() } else { members.groups.clone() };
        let fresh: Vec<_> = alive.iter().filter(|id| !self.frozen.contains(id)).copied().collect();
        if !fresh.is_empty() && self.looks < FREEZE_LOOKS {
            self.looks += 1;
            self.frozen.extend(&fresh);
            return Step::Freeze { targets: fresh, groups };
        }
        self.rounds += 1;
        self.looks = 0;
        self.frozen.clear();
        self.killed.extend(alive);
        Step::Kill { targets: alive.clone(), groups, until: now + KILL_WAIT }
    }
}

fn perform(step: &Step) {
    let (signals, targets, groups): (&[Signal], _, _) = match step {
        Step::Done(_) | Step::LookAgain => return,
        // A stopped process acts on SIGTERM only when it is continued.
        Step::Terminate { fresh, .. } => (&[Signal::SIGTERM, Signal::SIGCONT], fresh, None),
        Step::Freeze { targets, groups } => (&[Signal::SIGSTOP], targets, Some(groups)),
        Step::Kill { targets, groups, .. } => (&[Signal::SIGKILL], targets, Some(groups)),
    };
    for signal in signals {
        for group in groups.into_iter().flatten() {
            let _ = killpg(Pid::from_raw(*group), *signal);
        }
    }
    for id in targets {
        pidfd::send(*id, signals);
    }
}

/// One look at what is in scope, away from the runtime's threads and with a deadline.
async fn look(scope: &mut Scope) -> Result<Members, EndError> {
    let mut marked = scope.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let tree = Tree::read(Path::new(PROC))?;
        let session = marked.session_id().map(|id| id.as_bytes().to_vec());
        let members = marked.members(&tree, |id| {
            environ(Path::new(PROC), id.pid)
                .is_some_and(|environ| variable(&environ, MUSTER_SESSION) == session.as_deref())
        });
        Ok((marked, members))
    });
    match timeout(ENVIRON_WAIT, reading).await {
        Ok(Ok(Ok((marked, members)))) => {
            *scope = marked;
            Ok(members)
        }
        Ok(Ok(Err(error))) => Err(EndError::Proc(error)),
        // Stuck on somebody's memory lock: descent alone still finds nearly everything.
        Err(_) | Ok(Err(_)) => {
            let tree = Tree::read(Path::new(PROC)).map_err(EndError::Proc)?;
            Ok(scope.members(&tree, |_| false))
        }
    }
}

/// Waits until all of them have ended; one descriptor at a time serves, however many they are.
async fn gone(ids: &[ProcessId]) {
    for id in ids {
        let watched = match pidfd::open(*id) {
            Ok(None) => continue,
            Ok(Some(fd)) => watch(fd),
            Err(error) => Err(error),
        };
        if let Ok(fd) = watched
            && fd.readable().await.is_ok()
        {
            continue;
        }
        let mut again = interval(LOOK_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while pidfd::runs(*id) {
            again.tick().await;
        }
    }
}

fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: AsyncFd owns the descriptor from here on, and nobody else has it to close.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

fn gone_sync(ids: &[ProcessId], until: Instant) {
    for id in ids {
        while pidfd::runs(*id) {
            let Some(rest) = until.checked_duration_since(Instant::now()) else { return };
            match pidfd::open(*id) {
                Ok(None) => break,
                Ok(Some(fd)) => {
                    // Rounded up, or the last fraction of a millisecond would be a busy loop.
                    let rest = PollTimeout::try_from(rest + Duration::from_millis(1))
                        .unwrap_or(PollTimeout::MAX);
                    let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], rest);
                }
                Err(_) => std::thread::sleep(LOOK_AGAIN.min(rest)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(pids: &[i32]) -> Members {
        let alive = pids.iter().map(|pid| ProcessId { pid: *pid, start: 1 }).collect::<Vec<_>>();
        Members { alive, groups: pids.iter().copied().collect(), settled: true }
    }

    fn ids(pids: &[i32]) -> Vec<ProcessId> {
        members(pids).alive
    }

    #[test]
    fn all_heed_sigterm() {
        let now = Instant::now();
        let until = now + Duration::from_secs(5);
        let mut ending = Ending::new(until, false);
        let step = ending.next(&members(&[1, 2]), now);
        assert_eq!(step, Step::Terminate { fresh: ids(&[1, 2]), targets: ids(&[1, 2]), until });
        let step = ending.next(&members(&[2, 3]), now);
        assert_eq!(
            step,
            Step::Terminate { fresh: ids(&[3]), targets: ids(&[2, 3]), until },
            "nobody gets SIGTERM twice"
        );
        let done = Ended { termed: 3, killed: 0, left: vec![] };
        assert_eq!(ending.next(&members(&[]), now), Step::Done(done));
    }

    #[test]
    fn what_outlives_the_grace_is_frozen_until_nothing_is_new_then_killed() {
        let now = Instant::now();
        let mut ending = Ending::new(now + Duration::from_secs(5), false);
        ending.next(&members(&[1, 2]), now);
        let late = now + Duration::from_secs(5);
        let none = BTreeSet::new;
        for (seen, step) in [
            (&[2][..], Step::Freeze { targets: ids(&[2]), groups: none() }),
            (&[2, 3], Step::Freeze { targets: ids(&[3]), groups: none() }),
            (
                &[2, 3],
                Step::Kill { targets: ids(&[2, 3]), groups: none(), until: late + KILL_WAIT },
            ),
            (&[4], Step::Freeze { targets: ids(&[4]), groups: BTreeSet::from([4]) }),
            (&[], Step::Done(Ended { termed: 1, killed: 2, left: vec![] })),
        ] {
            assert_eq!(ending.next(&members(seen), late), step);
        }
    }

    #[test]
    fn an_empty_look_is_doubted_while_things_end() {
        let now = Instant::now();
        let mut ending = Ending::new(now, true);
        let churning = Members::default();
        for _ in 0..DOUBTS {
            assert_eq!(ending.next(&churning, now), Step::LookAgain);
        }
        assert_eq!(ending.next(&churning, now), Step::Done(Ended::default()));
        let mut ending = Ending::new(now, true);
        assert_eq!(ending.next(&members(&[]), now), Step::Done(Ended::default()));
    }

    #[test]
    fn rounds_end_whatever_the_processes_do() {
        let now = Instant::now();
        let mut ending = Ending::new(now, true);
        let mut pid = 0;
        let mut steps = 0;
        let ended = loop {
            steps += 1;
            pid += 1;
            if let Step::Done(ended) = ending.next(&members(&[7, 100 + pid]), now) {
                break ended;
            }
        };
        assert_eq!(steps, 1 + KILL_ROUNDS * (FREEZE_LOOKS + 1));
        assert_eq!(ended.left, ids(&[7, 100 + pid]));
        assert_eq!(ended.killed, usize::try_from(KILL_ROUNDS).unwrap());
    }
}
