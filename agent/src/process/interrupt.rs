//! A thread whose system calls can be ended from outside, while they block.
//!
//! Must not end anything else: other threads, and what this process starts, see nothing of it.

use std::io;
use std::os::unix::thread::JoinHandleExt as _;
use std::thread::{Builder, JoinHandle};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Ignored by default, so that one that comes from elsewhere means nothing.
const SIGNAL: Signal = Signal::SIGURG;

/// Such a thread. It goes on by itself when this is dropped.
#[derive(Debug)]
pub struct Interruptible(JoinHandle<()>);

impl Interruptible {
    /// Starts it. What it calls gives `EINTR` when [interrupted](Self::interrupt), and must mean something by that.
    ///
    /// # Errors
    /// The process may have no more threads.
    pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        // Without SA_RESTART, or the kernel would begin again what it interrupts.
        let action =
            SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(SIGNAL, &action) }?;
        Builder::new().name(name.into()).spawn(work).map(Self)
    }

    /// Ends the system call that blocks the thread now. One that is about to begin is not met, so who
    /// needs that repeats it.
    pub fn interrupt(&self) {
        // SAFETY: the thread was not joined, so that its handle means it or, where it has ended, nobody.
        unsafe { libc::pthread_kill(self.0.as_pthread_t() as libc::pthread_t, SIGNAL as i32) };
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

extern "C" fn nothing(_: i32) {}
