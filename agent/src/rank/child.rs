//! The program: started with pipes, reaped, and followed to its end.
//!
//! Must not change anything else about it: same process group and session, same stdin, same other
//! descriptors, same environment but for GPUs and what is mpirun's, same signal mask.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus as Waited, waitid};
use nix::unistd::Pid;

use super::signals::Signals;
use crate::config::variables::MUSTER_SOCKET;
use crate::process::spawn::{SpawnError, explain};
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;

/// Room in the pipes beside what the kernel gives, bytes: fewer switches between the program and
/// its wrapper. Small enough for 64 ranks of one user within the kernel's default bound
/// (pipe-user-pages-soft, 64 MiB); where the bound is reached already, the pipe stays as it is.
const PIPE: i32 = 256 * 1024;

/// The program, running.
#[derive(Debug)]
pub(super) struct Program {
    /// Its process.
    pub pid: Pid,
    /// When it was started.
    pub started: Instant,
    /// Our ends of its stdout and stderr, not blocking.
    pub pipes: [OwnedFd; 2],
}

/// A change of the program's state.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// It stopped (SIGSTOP, SIGTSTP, …).
    Stopped,
    /// It ended.
    Ended(WaitStatus, Usage),
}

impl Program {
    /// Starts it with these variables added; signals reach it from now on.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        words: &[OsString],
        variables: Vec<(String, String)>,
        signals: &Signals,
    ) -> Result<Self, SpawnError> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| SpawnError::NotFound { program: "".into() })?;
        let mut command = Command::new(program);
        command.args(arguments).envs(variables).stdout(Stdio::piped()).stderr(Stdio::piped());
        // For mpirun's agents alone: a rank's own `ssh` is none, and its end says nothing of the job.
        command.env_remove(MUSTER_SOCKET);
        let parent = nix::unistd::getpid();
        let restore = signals.restore();
        let prepare = move || {
            // It must not outlive its wrapper, whatever kills that.
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if nix::unistd::getppid() != parent {
                return Err(Errno::ESRCH.into());
            }
            restore()
        };
        // SAFETY: prctl, getppid, sigaction and sigprocmask are plain system calls; nothing is
        // allocated, and this process has one thread.
        unsafe { command.pre_exec(prepare) };
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| explain(&command, error))?;
        let io = |source| SpawnError::Io { program: program.into(), source };
        let pid = Pid::from_raw(child.id().cast_signed());
        signals.forward_to(pid).map_err(io)?;
        let none = || io(io::ErrorKind::BrokenPipe.into());
        let stdout = OwnedFd::from(child.stdout.take().ok_or_else(none)?);
        let stderr = OwnedFd::from(child.stderr.take().ok_or_else(none)?);
        for pipe in [&stdout, &stderr] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| io(e.into()))?;
        }
        // Only speed is at stake.
        let _ = fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self { pid, started, pipes: [stdout, stderr] })
    }
}

/// What has become of the program since the last time, without waiting. After `Ended`, its number is
/// free for others.
pub(super) fn change(pid: Pid, signals: &Signals) -> Option<Change> {
    if !ended(pid) {
        return stopped(pid).then_some(Change::Stopped);
    }
    // Before it is reaped: the handler must not signal a number that is not the program's any more.
    signals.child_ended();
    let mut raw = 0;
    // SAFETY: both pointers are to live locals of the right type; zeroes are a valid rusage.
    let (found, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid.as_raw(), &raw mut raw, libc::WNOHANG, &raw mut usage), usage)
    };
    let status = WaitStatus::from_raw(raw).filter(|_| found == pid.as_raw())?;
    Some(Change::Ended(status, usage.into()))
}

/// Whether it waits to be reaped.
fn ended(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // nix cannot decode a real-time signal; that is an end, too.
    !matches!(waitid(Id::Pid(pid), flags), Ok(Waited::StillAlive) | Err(Errno::EINTR))
}

/// Whether it was stopped since the last time.
fn stopped(pid: Pid) -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    matches!(waitid(Id::Pid(pid), flags), Ok(Waited::Stopped(..)))
}

/// Ends this process as the program ended: with its code, or by the same signal.
#[must_use]
pub(super) fn end_as(status: WaitStatus) -> ExitCode {
    if let WaitStatus::Signaled { signal, .. } = status {
        // The program has dumped core, if anybody; a second core would only hide it. The limit does
        // not hold for dumps that are piped to a program.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let _ = prctl::set_dumpable(false);
        // SAFETY: the default disposition runs no code of ours; numbers without a name are
        // real-time signals, which this process has never handled.
        unsafe {
            if let Ok(signal) = Signal::try_from(signal) {
                let _ = nix::sys::signal::signal(signal, SigHandler::SigDfl);
            }
            let _ = SigSet::empty().thread_set_mask();
            libc::kill(libc::getpid(), signal);
        }
    }
    // PID 1 of a namespace is immune to its own signals.
    ExitCode::from(status.shell_code())
}
