//! The only waiter of the working process.
//!
//! This process adopts whatever its descendants leave behind (an orted that daemonised itself), so it
//! must wait for children it never started. `waitpid(-1)` takes any child's status, therefore nothing
//! else here may wait: no `std::process::Child::wait`, no `Command::output`, no `tokio::process`.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{self, SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal as listen};
use tokio::sync::{Notify, oneshot};

use super::status::WaitStatus;
use super::tree::ProcessId;
use super::usage::Usage;
use crate::exit::{Class, Explain};

/// The end of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited {
    /// How.
    pub status: WaitStatus,
    /// At what cost.
    pub usage: Usage,
}

/// Something else waited for the child, so how it ended is not known: a bug in muster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("learn how process {0} ended: something else waited for it")]
pub struct LostStatus(i32);

impl Explain for LostStatus {
    fn class(&self) -> Class {
        Class::Internal
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// Resolves when the child has ended and is reaped.
#[derive(Debug)]
pub struct Exit {
    pid: i32,
    status: oneshot::Receiver<Exited>,
}

impl Future for Exit {
    type Output = Result<Exited, LostStatus>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let pid = self.pid;
        Pin::new(&mut self.status).poll(context).map_err(|_| LostStatus(pid))
    }
}

/// Why reaping could not start.
#[derive(Debug, thiserror::Error)]
pub enum ReaperError {
    /// The kernel refused to make this process adopt orphans.
    #[error("become the parent of orphaned descendants")]
    Subreaper(#[source] Errno),
    /// SIGCHLD could not be listened to, or there is no runtime to do it in.
    #[error("listen for the ends of children")]
    Listen(#[source] io::Error),
}

impl Explain for ReaperError {
    fn class(&self) -> Class {
        Class::Internal
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// Reaps every child of this process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<HashMap<i32, oneshot::Sender<Exited>>>,
    /// The last orphans that ended, the latest last.
    adopted: Mutex<VecDeque<(i32, Exited)>>,
    /// Rings when another one has ended.
    orphaned: Notify,
}

/// Ends of orphans that are remembered.
const REMEMBERED: usize = 256;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Exited>>> {
        // A panic elsewhere leaves a map that is still right: nothing is half-done under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orphan(&self, pid: i32, exited: Exited) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if adopted.len() == REMEMBERED {
            adopted.pop_front();
        }
        adopted.push_back((pid, exited));
        self.orphaned.notify_waiters();
    }

    /// Reaps all that have ended.
    fn reap(&self) {
        // Held throughout: a child that ends before `start` has registered it must wait its turn.
        let mut waiting = self.lock();
        loop {
            match wait_any() {
                Ok(Some((pid, exited))) => match waiting.remove(&pid) {
                    Some(waiter) => drop(waiter.send(exited)),
                    None => self.orphan(pid, exited),
                },
                Ok(None) => return,
                Err(Errno::EINTR) => {}
                // No children at all: statuses that are still awaited were taken by someone else,
                // and dropping the senders says so.
                Err(_) => return waiting.clear(),
            }
        }
    }
}

/// One ended child, if there is one. Not nix's `waitpid`, which has no rusage and fails on
/// real-time signals.
fn wait_any() -> Result<Option<(i32, Exited)>, Errno> {
    let mut raw = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live locals of the right types.
    let pid = unsafe { libc::wait4(-1, &raw mut raw, libc::WNOHANG, usage.as_mut_ptr()) };
    let pid = Errno::result(pid)?;
    // SAFETY: all zeroes is a valid rusage, and wait4 writes whole ones.
    let usage = unsafe { usage.assume_init() };
    let status = WaitStatus::from_raw(raw).unwrap_or(WaitStatus::Exited(0));
    Ok((pid != 0).then(|| (pid, Exited { status, usage: usage.into() })))
}

impl Reaper {
    /// Makes this process the parent of orphaned descendants and reaps from now on, in a task of
    /// the current runtime. Once a process.
    ///
    /// # Errors
    /// Outside a runtime with I/O, or where the kernel refuses.
    pub fn start() -> Result<Self, ReaperError> {
        let runtime =
            Handle::try_current().map_err(|error| ReaperError::Listen(io::Error::other(error)))?;
        prctl::set_child_subreaper(true).map_err(ReaperError::Subreaper)?;
        let mut ended = listen(SignalKind::child()).map_err(ReaperError::Listen)?;
        let shared = Arc::new(Shared::default());
        let reaper = Self { shared: Arc::clone(&shared) };
        runtime.spawn(async move {
            // What ended before we listened raises no signal any more.
            shared.reap();
            while ended.recv().await.is_some() {
                shared.reap();
            }
        });
        Ok(reaper)
    }

    /// How a process ended whose parent died before it could tell, and who therefore became ours; none
    /// where that is not seen within `limit`.
    pub async fn adopted(&self, pid: i32, limit: Duration) -> Option<Exited> {
        let look = || {
            let adopted = &self.shared.adopted;
            let adopted = adopted.lock().unwrap_or_else(PoisonError::into_inner);
            adopted.iter().rev().find(|(of, _)| *of == pid).map(|(_, exited)| *exited)
        };
        let ended = async {
            loop {
                // From here on every end rings, so none falls between the look and the wait.
                let orphaned = self.shared.orphaned.notified();
                tokio::pin!(orphaned);
                orphaned.as_mut().enable();
                match look() {
                    Some(exited) => return exited,
                    None => orphaned.await,
                }
            }
        };
        tokio::time::timeout(limit, ended).await.ok()
    }

    /// Sends a signal to a child that was started here; `false` where it has ended.
    ///
    /// Safe from numbers used again: the number is ours until we reap, and we hold the lock.
    pub fn signal(&self, pid: i32, signal: Signal) -> bool {
        let waiting = self.shared.lock();
        waiting.contains_key(&pid) && signal::kill(Pid::from_raw(pid), signal).is_ok()
    }

    /// Starts a command and registers it before anyone can reap it.
    pub(super) fn register(
        &self,
        command: &mut Command,
    ) -> io::Result<(std::process::Child, ProcessId, Exit)> {
        // Started under the lock: the child may end, but is not reaped, before it is registered.
        let mut waiting = self.shared.lock();
        // The child inherits the mask of the thread that starts it, and a program that never hears
        // of SIGTERM is our fault then.
        let mask = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let child = command.spawn();
        mask.thread_set_mask()?;
        let child = child?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let (sender, status) = oneshot::channel();
        waiting.insert(pid, sender);
        // Without /proc there is nothing to compare with later either, so any start time does.
        let id = ProcessId::look_up(Path::new("/proc"), pid).unwrap_or(ProcessId { pid, start: 0 });
        Ok((child, id, Exit { pid, status }))
    }
}
