//! The program: started with pipes, reaped, and followed to its end.
//!
//! Must not change anything else about it: same process group and session, same stdin, same other
//! descriptors, same environment but for GPUs and what is mpirun's, same signal mask.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
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
use crate::process::spawn::{SpawnError, explain, located};
use crate::process::status::WaitStatus;
use crate::process::usage::Usage;

/// Room in the pipes beside what the kernel gives, bytes: fewer switches between the program and
/// its wrapper. Small enough for 64 ranks of one user within the kernel's default bound
/// (pipe-user-pages-soft, 64 MiB); where the bound is reached already, the pipe stays as it is.
const PIPE: i32 = 256 * 1024;

/// What execvp(3) gives scripts to that do not name their interpreter.
const SHELL: &str = "/bin/sh";

/// Bytes at the start of a file that tell text from a binary, whose header has a NUL.
const LOOK: u64 = 256;

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
    /// It stopped, of SIGSTOP, SIGTSTP or the like.
    Stopped(Signal),
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
        variables: &[(String, String)],
        signals: &Signals,
    ) -> Result<Self, SpawnError> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| SpawnError::NotFound { program: "".into() })?;
        let started = Instant::now();
        let mut command = command(program, variables, signals);
        let mut child = match command.args(arguments).spawn() {
            Err(error) => {
                let script = as_script(&command, &error).ok_or_else(|| explain(&command, error))?;
                let mut shell = self::command(SHELL.as_ref(), variables, signals);
                shell.arg(script).args(arguments).spawn().map_err(|error| explain(&shell, error))?
            }
            Ok(child) => child,
        };
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

/// The command that starts it, without its arguments.
fn command(program: &OsStr, variables: &[(String, String)], signals: &Signals) -> Command {
    let mut command = Command::new(program);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
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
    command
}

/// The script that the kernel does not execute because it has no `#!` line, where that is why. Such are for the
/// shell (execvp(3)), by which Hydra and Slurm start them; binaries of another kind of machine are not.
fn as_script(command: &Command, error: &io::Error) -> Option<PathBuf> {
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return None;
    }
    let path = located(command)?;
    let mut start = Vec::new();
    File::open(&path).ok()?.take(LOOK).read_to_end(&mut start).ok()?;
    (!start.contains(&0)).then_some(path)
}

/// What has become of the program since the last time, without waiting. After `Ended`, its number is
/// free for others.
pub(super) fn change(pid: Pid, signals: &Signals) -> Option<Change> {
    if !ended(pid) {
        return stopped(pid).map(Change::Stopped);
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

/// What has stopped it since the last time.
fn stopped(pid: Pid) -> Option<Signal> {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    match waitid(Id::Pid(pid), flags) {
        Ok(Waited::Stopped(_, signal)) => Some(signal),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_the_shell_and_a_binary_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let errno = |errno: i32| io::Error::from_raw_os_error(errno);
        for (content, error, script) in [
            (&b"echo hi\n"[..], libc::ENOEXEC, true),
            (b"", libc::ENOEXEC, true),
            (b"echo hi\n", libc::EACCES, false),
            (b"\x7fELF\x02\x01\x01\0\0", libc::ENOEXEC, false),
        ] {
            std::fs::write(&path, content).unwrap();
            let found = as_script(&Command::new(&path), &errno(error));
            assert_eq!(found, script.then(|| path.clone()), "{content:?}");
        }
    }
}
