//! A process in a host: start it, read what it writes, wait for a line or for its end, signal it.
//!
//! Must not wait without a deadline, and must not keep output in memory: it goes to files in the lab's directory.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, setsid};

use crate::cgroup;
use crate::command::{Cmd, Input};
use crate::error::{Doing, LabError, Result};
use crate::privilege::Privileges;
use crate::stream::{self, Logs, Stream};

/// Starting a process takes longer than this only if the machine is stuck.
const START: Duration = Duration::from_secs(60);
/// How long after a process's end its children may still write what a caller wants to read.
const DRAIN: Duration = Duration::from_millis(500);

/// How a process is to be started.
pub(crate) struct Launch {
    pub(crate) command: Cmd,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) privileges: Privileges,
    pub(crate) cgroups: Vec<File>,
    /// It is a host's first process: it mounts /proc and dies with the lab.
    pub(crate) first: bool,
    /// Children that nobody waits for vanish by themselves.
    pub(crate) reaps: bool,
    pub(crate) logs: PathBuf,
}

/// How a process ended, and everything it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status.
    pub status: ExitStatus,
    /// All of its stdout, lossily decoded.
    pub stdout: String,
    /// All of its stderr, lossily decoded.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
}

impl Output {
    /// The exit code as a shell would show it: 128 + signal for a killed process.
    pub fn code(&self) -> i32 {
        code(self.status)
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

/// The exit code as a shell would show it: 128 + signal for a killed process.
pub fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

#[derive(Debug)]
struct End {
    status: ExitStatus,
    at: Instant,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    logs: Logs,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits that more has been written.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Logs)) {
        change(&mut self.lock().logs);
        self.changed.notify_all();
    }
}

/// A running (or ended) process in a host. Dropping it leaves the process alone; it ends with its host.
#[derive(Debug)]
pub struct Proc {
    name: String,
    pid: Pid,
    started: Instant,
    shared: Arc<Shared>,
    pipes: stream::Pipes,
    stdin: Mutex<Option<ChildStdin>>,
    files: PathBuf,
}

struct Started {
    pid: Pid,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Launch {
    /// Starts the process from a thread that `place` first moves to where the process shall be. The thread stays and
    /// waits for the end: the kernel ends a host's first process with the thread that made it, so also with the lab.
    pub(crate) fn start(self, place: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Proc> {
        let name = self.command.shown();
        let files = self.logs.clone();
        let input = self.command.input.clone();
        stream::create(&files)?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (sender, receiver) = sync_channel(1);
        let started = Instant::now();
        let keeper = Arc::clone(&shared);
        thread::Builder::new()
            .name("lab-keeper".into())
            .spawn(move || keep(self, place, &sender, &keeper))
            .doing(|| "start a thread".into())?;
        let Started { pid, stdin, stdout, stderr } = receive(&receiver, &name)?;
        let pipes = stream::collect(
            stdout.map(Into::into),
            stderr.map(Into::into),
            &files,
            Arc::clone(&shared),
        )?;
        let stdin = Mutex::new(stdin);
        let process = Proc { name, pid, started, shared, pipes, stdin, files };
        if let Input::Bytes(bytes) = input {
            process.feed(bytes)?;
        }
        Ok(process)
    }

    fn spawn(mut self) -> Result<Child> {
        let name = self.command.shown();
        let mut words = self.command.argv.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        let missing = &self.command.without_env;
        let env =
            self.env.iter().filter(|(name, _)| !missing.contains(name)).chain(&self.command.env);
        command
            .args(words)
            .env_clear()
            .envs(env.map(|(name, value)| (name, value)))
            .current_dir(&self.command.cwd)
            .stdin(if matches!(self.command.input, Input::Null) {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let cgroups = std::mem::take(&mut self.cgroups);
        // With version 2, a container sees its own cgroup as the root.
        let own_cgroup = cgroup::version() == cgroup::Version::Two;
        let (privileges, first, reaps) = (self.privileges, self.first, self.reaps);
        let in_child = move || {
            cgroup::join(&cgroups)?;
            setsid()?;
            if first && own_cgroup {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?;
            }
            if first {
                use nix::mount::{MsFlags, mount};
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some(c"proc"), c"/proc", Some(c"proc"), flags, None::<&std::ffi::CStr>)?;
            }
            if reaps {
                // SAFETY: ignoring a signal installs no handler.
                unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
            }
            privileges.apply()?;
            if first {
                // After the change of identity, which would clear it.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls on data prepared before the fork; it neither allocates nor locks.
        unsafe { command.pre_exec(in_child) };
        command.spawn().doing(|| format!("start `{name}`"))
    }
}

fn receive(receiver: &Receiver<Result<Started>>, name: &str) -> Result<Started> {
    receiver.recv_timeout(START).unwrap_or_else(|_| {
        Err(LabError::Deadline {
            what: format!("`{name}` started"),
            limit: START,
            tail: String::new(),
        })
    })
}

/// The keeper thread: moves into place, starts the process, waits for its end.
fn keep(
    launch: Launch,
    place: impl FnOnce() -> Result<()>,
    sender: &SyncSender<Result<Started>>,
    shared: &Shared,
) {
    let mut child = match place().and_then(|()| launch.spawn()) {
        Ok(child) => child,
        Err(error) => {
            // Nobody listens any more only when the start has timed out, and has been reported so.
            let _ = sender.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_raw(child.id().cast_signed());
    let started = Started {
        pid,
        stdin: child.stdin.take(),
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
    };
    let _ = sender.send(Ok(started));
    // Leaves the zombie for a moment, so that nobody signals a stranger who got the same pid.
    while let Err(nix::errno::Errno::EINTR) =
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
    {}
    let mut state = shared.lock();
    let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0xff00));
    state.end = Some(End { status, at: Instant::now() });
    drop(state);
    shared.changed.notify_all();
}

impl Proc {
    /// The process's id on the machine (not the one inside its host).
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The file that receives this stream, until the lab ends; what was written before this call is in it.
    pub fn log(&self, stream: Stream) -> PathBuf {
        self.pipes.catch_up();
        stream.file(&self.files)
    }

    /// The exit status, if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.shared.lock().end.as_ref().map(|end| end.status)
    }

    /// Sends a signal; nothing happens if the process has ended.
    pub fn signal(&self, signal: Signal) {
        let state = self.shared.lock();
        if state.end.is_none() {
            // It is not reaped while the lock is held, so this cannot hit another process.
            let _ = kill(self.pid, signal);
        }
    }

    /// Sends a signal to the process's group: a command starts as the leader of its own.
    pub fn signal_group(&self, signal: Signal) {
        let state = self.shared.lock();
        if state.end.is_none() {
            let _ = nix::sys::signal::killpg(self.pid, signal);
        }
    }

    /// Writes to its stdin; it must have been started with [`Input::Pipe`].
    pub fn write_stdin(&self, bytes: &[u8]) -> Result<()> {
        use std::io::Write;
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe =
            stdin.as_mut().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        pipe.and_then(|pipe| pipe.write_all(bytes).and_then(|()| pipe.flush()))
            .doing(|| format!("write to the stdin of `{}`", self.name))
    }

    /// Ends its stdin.
    pub fn close_stdin(&self) {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Feeds stdin from a thread, so that a process that does not read blocks nobody.
    fn feed(&self, bytes: Vec<u8>) -> Result<()> {
        let Some(mut pipe) = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return Ok(());
        };
        let write = move || {
            use std::io::Write;
            // A process may end before it has read everything; that is its right.
            let _ = pipe.write_all(&bytes);
        };
        thread::Builder::new()
            .name("lab-stdin".into())
            .spawn(write)
            .doing(|| "start a thread".into())?;
        Ok(())
    }

    /// Waits for the end of the process.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let (state, _) = self.block(limit, |state| state.end.is_some());
        match &state.end {
            Some(end) => Ok(end.status),
            None => {
                drop(state);
                Err(self.late("the end of", limit))
            }
        }
    }

    /// Waits for the end, and for what was written up to then.
    pub fn output(&self, limit: Duration) -> Result<Output> {
        let status = self.wait(limit)?;
        // Children in the background may hold the pipes open for as long as they like.
        drop(self.block(DRAIN, |state| state.logs.complete()));
        let at = self.shared.lock().end.as_ref().map_or_else(Instant::now, |end| end.at);
        Ok(Output {
            status,
            stdout: self.written(Stream::Stdout),
            stderr: self.written(Stream::Stderr),
            elapsed: at.saturating_duration_since(self.started),
        })
    }

    /// All of a stream so far, lossily decoded.
    pub fn written(&self, stream: Stream) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log(stream)).unwrap_or_default()).into_owned()
    }

    /// stdout so far.
    pub fn stdout_so_far(&self) -> String {
        self.written(Stream::Stdout)
    }

    /// stderr so far.
    pub fn stderr_so_far(&self) -> String {
        self.written(Stream::Stderr)
    }

    /// Waits until a line of either stream contains `part`; returns the line. Lines written before count.
    pub fn wait_for_line(&self, part: &str, limit: Duration) -> Result<String> {
        self.wait_for(&format!("a line with {part:?}"), limit, |line| line.contains(part))
    }

    /// Waits until a line of either stream satisfies `wanted`; returns the line. Lines written before count.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let until = Instant::now() + limit;
        let mut finders = [
            stream::Finder::new(&self.files, Stream::Stdout)?,
            stream::Finder::new(&self.files, Stream::Stderr)?,
        ];
        loop {
            let (seen, over, ended) = {
                let state = self.shared.lock();
                (
                    state.logs.clone(),
                    state.logs.complete(),
                    state.end.as_ref().map(|end| end.status),
                )
            };
            for finder in &mut finders {
                if let Some(line) = finder.find(over, &wanted)? {
                    return Ok(line);
                }
            }
            if over {
                let status =
                    ended.map_or_else(|| "no exit status yet".into(), |status| status.to_string());
                return Err(LabError::Ended { what: self.saying(what), status, tail: self.tail() });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late(&format!("{what} from"), limit));
            }
            drop(self.block(left, |state| state.logs != seen));
        }
    }

    fn saying(&self, what: &str) -> String {
        format!("{what} from `{}`", self.name)
    }

    fn block(
        &self,
        limit: Duration,
        done: impl Fn(&State) -> bool,
    ) -> (MutexGuard<'_, State>, bool) {
        let (state, late) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), limit, |state| !done(state))
            .unwrap_or_else(PoisonError::into_inner);
        (state, late.timed_out())
    }

    fn late(&self, what: &str, limit: Duration) -> LabError {
        LabError::Deadline { what: format!("{what} `{}`", self.name), limit, tail: self.tail() }
    }

    /// The end of both streams, for messages.
    pub fn tail(&self) -> String {
        self.pipes.catch_up();
        let part = |stream: Stream| stream::tail(&self.files, stream);
        format!("--- stdout\n{}--- stderr\n{}", part(Stream::Stdout), part(Stream::Stderr))
    }
}
