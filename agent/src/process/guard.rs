//! The parent: a tiny synchronous process above the one that does the work.
//!
//! It does what PID 1 must (forward signals, reap everything), and it is what remains when the
//! working process is killed: it adopts all descendants, so it can end every one of them. It must
//! not hold a thread, a runtime or any knowledge of the job, and must be entered before any exist.
//!
//! The other way round, the working process notices the parent's death: a pipe reports end of file,
//! and the kernel sends SIGTERM.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signal::{self, SigHandler, SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{self, ForkResult, Pid};
use tokio::net::unix::pipe;

use super::disposition::is_ignored;
use super::end::{Ended, end_sync};
use super::scope::Scope;
use super::status::WaitStatus;
use super::tree::{Process, ProcessId, children};
use crate::exit::{Class, Explain};

const PROC: &str = "/proc";

/// What the working process may leave behind gets this long to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// How long its own last words may wait for a reader, milliseconds.
const LAST_WORDS: u16 = 2_000;

/// The signals that reach the working process through its parent.
const FORWARDED: [Signal; 9] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// What the working process holds of its parent.
#[derive(Debug)]
pub struct Guarded {
    /// The read end of a pipe that nobody writes to: end of file says that the parent died.
    pub parent_gone: OwnedFd,
}

impl Guarded {
    /// Resolves when the parent has died, which only SIGKILL makes it do before its child: the
    /// working process then ends the job and itself. Needs a runtime with I/O.
    ///
    /// # Errors
    /// Where the pipe cannot be watched.
    pub async fn parent_gone(self) -> io::Result<()> {
        let pipe = pipe::Receiver::from_owned_fd(self.parent_gone)?;
        loop {
            pipe.readable().await?;
            match pipe.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }
}

/// Why the process could not be split in two.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Forking copies one thread only; what the others held would stay locked for ever.
    #[error("fork the working process: {0} threads run already")]
    Threads(usize),
    /// The kernel refused a step.
    #[error("fork the working process: {step}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// What the kernel says.
        source: Errno,
    },
}

impl Explain for GuardError {
    fn class(&self) -> Class {
        match self {
            Self::Refused { source: Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE, .. } => {
                Class::LocalResource
            }
            Self::Threads(_) | Self::Refused { .. } => Class::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let short = self.class() == Class::LocalResource;
        short.then(|| "raise the limits on processes, memory and file descriptors".to_owned())
    }
}

fn refused(step: &'static str) -> impl FnOnce(Errno) -> GuardError {
    move |source| GuardError::Refused { step, source }
}

/// Splits this process in two and returns in the child, which then does the work. The parent
/// watches over it and exits as it ended: with its code, with 128 + the signal's number, or with
/// [`Class::Internal`] after SIGABRT, which is how a panic ends a release build.
///
/// Call it first thing in `main`.
///
/// # Errors
/// Where threads run already, or the kernel refuses. In either process the caller should report it
/// and end; the parent passes its child's code on.
pub fn enter() -> Result<Guarded, GuardError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(GuardError::Threads(threads));
    }
    // A shell script that ends in `exec muster` hands its background jobs over; they are not ours.
    let us = unistd::getpid();
    let spared = children(Path::new(PROC), us.as_raw())
        .into_iter()
        .filter_map(|pid| ProcessId::look_up(Path::new(PROC), pid).ok())
        .collect();

    let (parent_gone, alive) = unistd::pipe2(OFlag::O_CLOEXEC).map_err(refused("make a pipe"))?;
    prctl::set_child_subreaper(true).map_err(refused("adopt orphaned descendants"))?;
    // SAFETY: the default disposition runs no code of ours. Where SIGCHLD was ignored, the kernel
    // would throw all statuses away.
    unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }
        .map_err(refused("reset SIGCHLD"))?;
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    // Blocking revives an ignored signal, so what nohup had us ignore must not be blocked.
    watched.extend(FORWARDED.into_iter().filter(|signal| !is_ignored(*signal)));
    watched.thread_block().map_err(refused("block signals"))?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC)
        .map_err(refused("receive signals"))?;

    // On a terminal both stay in one process group, the terminal's foreground one, so that the
    // child may read and Ctrl-Z works. Elsewhere the child has a group of its own, and a signal to
    // our group (`timeout` sends one) reaches it once, through us.
    let together = fs::File::open("/dev/tty").is_ok();
    // SAFETY: this is the only thread, as checked above, so nothing is locked in the child.
    match unsafe { unistd::fork() }.map_err(refused("fork"))? {
        ForkResult::Child => {
            drop((alive, signals));
            begin_work(us, together)?;
            Ok(Guarded { parent_gone })
        }
        ForkResult::Parent { child } => {
            drop(parent_gone);
            if !together {
                // The child does the same; whoever is first, no signal finds the old group.
                let _ = unistd::setpgid(child, child);
            }
            let _ = prctl::set_name(c"muster-guard");
            let status = watch(&signals, child, together);
            let scope = Scope::all_descendants().sparing(spared);
            let code = finish(status, scope);
            drop(alive);
            std::process::exit(i32::from(code));
        }
    }
}

fn begin_work(parent: Pid, together: bool) -> Result<(), GuardError> {
    // By whatever name it was called: wrappers pass on no signal of a muster's (rank::signals).
    let _ = prctl::set_name(c"muster");
    if !together {
        let own = Pid::from_raw(0);
        unistd::setpgid(own, own).map_err(refused("make a process group"))?;
    }
    // Safe because the parent has one thread: the kernel means the death of the parent *thread*.
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(refused("tie it to its parent"))?;
    SigSet::empty().thread_set_mask().map_err(refused("unblock signals"))?;
    if unistd::getppid() != parent {
        // It died before the line above could help.
        let _ = signal::raise(Signal::SIGTERM);
    }
    Ok(())
}

/// Forwards signals and reaps, until the working process has ended.
fn watch(signals: &SignalFd, child: Pid, together: bool) -> WaitStatus {
    super::resident::drop_startup_pages();
    let leader = unistd::getsid(None) == Ok(unistd::getpid());
    loop {
        match signals.read_signal() {
            Ok(Some(info)) => {
                let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { continue };
                if signal == Signal::SIGCHLD {
                    if let Some(status) = reap(child, together, libc::WNOHANG) {
                        return status;
                    }
                } else if forwards(signal, info.ssi_code, together, leader) {
                    let _ = signal::kill(child, signal);
                }
            }
            Ok(None) | Err(Errno::EINTR) => {}
            // Without signals to read, waiting for the child is all that is left to do.
            Err(_) => {
                if let Some(status) = reap(child, together, 0) {
                    return status;
                }
            }
        }
    }
}

/// Whether the child needs to hear of a signal from us.
///
/// The kernel sends what a terminal makes of a key (Ctrl-C, Ctrl-\, Ctrl-Z, a new size) to the whole
/// foreground group, so a child in our group has it already, and a second SIGINT would mean "now".
/// A hang-up goes to the session's leader alone where the terminal is lost.
fn forwards(signal: Signal, code: i32, together: bool, leader: bool) -> bool {
    let by_terminal = code == libc::SI_KERNEL;
    match signal {
        Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGWINCH => {
            !(by_terminal && together)
        }
        Signal::SIGHUP => !(by_terminal && together) || leader,
        _ => true,
    }
}

/// Reaps whatever has ended; returns how the working process did, when it did.
fn reap(child: Pid, together: bool, flags: i32) -> Option<WaitStatus> {
    loop {
        let mut raw = 0;
        // SAFETY: the pointer is to a live local of the right type.
        let pid = unsafe { libc::waitpid(-1, &raw mut raw, flags | libc::WUNTRACED) };
        match Errno::result(pid) {
            Ok(0) => return None,
            Ok(pid) if pid == child.as_raw() => match WaitStatus::from_raw(raw) {
                Some(status) => return Some(status),
                None if together => stop_too(child),
                None => {}
            },
            Ok(_) | Err(Errno::EINTR) => {}
            // No child at all, and not its status either: something took it from us.
            Err(_) => return Some(WaitStatus::Exited(Class::Internal.code())),
        }
    }
}

/// Stops this process as the child has stopped, so that the shell sees a stopped job. `fg` continues
/// the group. Without a shared terminal nobody would continue us, so there we go on.
fn stop_too(child: Pid) {
    // It may have been continued since.
    if Process::read(Path::new(PROC), child.as_raw()).is_ok_and(|child| child.state == b'T') {
        let _ = signal::raise(Signal::SIGSTOP);
    }
}

/// Ends what the working process left, says so, and gives the code to exit with.
fn finish(status: WaitStatus, scope: Scope) -> u8 {
    // One that died of a signal cannot have ended its job, and no part of that needs to go on.
    let grace = if matches!(status, WaitStatus::Exited(_)) { GRACE } else { Duration::ZERO };
    let ended = end_sync(scope, grace);
    // As PID 1 our exit ends everything anyway; otherwise this spares init the work.
    // SAFETY: a null status is allowed and touches no memory.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    if let Some(line) = obituary(status, ended.as_ref().ok()) {
        say_in_time(&format!("muster: {line}\n"));
    }
    code(status)
}

/// Says it where stderr takes it within a moment: nothing else ends this process now, whose signals are blocked.
fn say_in_time(line: &str) {
    let mut stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, LAST_WORDS) == Ok(1) {
        // Not eprintln!, which panics where nobody reads. A pipe that is ready takes this much at once.
        let _ = stderr.write_all(line.as_bytes());
    }
}

/// What a reader of the log should know, if anything.
fn obituary(status: WaitStatus, ended: Option<&Ended>) -> Option<String> {
    let count = ended.map_or(0, |ended| ended.termed + ended.killed);
    let left = ended.map_or(0, |ended| ended.left.len());
    let mut line = match status {
        WaitStatus::Exited(_) if count + left == 0 => return None,
        WaitStatus::Exited(_) => String::from("the job left processes behind"),
        WaitStatus::Signaled { .. } => format!("the working process was {status}"),
    };
    line += &format!("; ended {count} of its processes");
    if left > 0 {
        line += &format!(", {left} cannot be killed");
    }
    Some(line)
}

fn code(status: WaitStatus) -> u8 {
    match status {
        WaitStatus::Signaled { signal: libc::SIGABRT, .. } => Class::Internal.code(),
        other => other.shell_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_telling() {
        use Signal::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
        let (kernel, user) = (libc::SI_KERNEL, libc::SI_USER);
        for (signal, code, together, leader, told) in [
            (SIGINT, kernel, true, false, false),
            (SIGINT, kernel, true, true, false),
            (SIGINT, user, true, false, true),
            (SIGINT, kernel, false, false, true),
            (SIGTSTP, kernel, true, false, false),
            (SIGTSTP, user, true, false, true),
            (SIGWINCH, kernel, true, false, false),
            (SIGHUP, kernel, true, false, false),
            (SIGHUP, kernel, true, true, true),
            (SIGHUP, user, true, false, true),
            (SIGTERM, kernel, true, true, true),
            (SIGCONT, kernel, true, false, true),
        ] {
            let what = format!("{signal} {code} {together} {leader}");
            assert_eq!(forwards(signal, code, together, leader), told, "{what}");
        }
    }

    #[test]
    fn codes_and_last_words() {
        let signaled = |signal| WaitStatus::Signaled { signal, core: false };
        let ended = |termed, killed, left| Ended {
            termed,
            killed,
            left: vec![ProcessId { pid: 1, start: 1 }; left],
        };
        for (status, ended, exit, line) in [
            (WaitStatus::Exited(0), ended(0, 0, 0), 0, None),
            (
                WaitStatus::Exited(3),
                ended(1, 1, 0),
                3,
                Some("the job left processes behind; ended 2 of its processes"),
            ),
            (
                signaled(9),
                ended(0, 4, 1),
                137,
                Some(
                    "the working process was killed by SIGKILL (9); ended 4 of its processes, \
                     1 cannot be killed",
                ),
            ),
            (
                signaled(6),
                ended(0, 0, 0),
                99,
                Some("the working process was killed by SIGABRT (6); ended 0 of its processes"),
            ),
        ] {
            assert_eq!(code(status), exit);
            assert_eq!(obituary(status, Some(&ended)).as_deref(), line);
        }
    }
}
