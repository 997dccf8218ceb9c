//! Going on in the background, as sshd does without -D: whoever started it goes on when it serves.
//!
//! Must be entered before any thread exists, and before [`guard`](super::guard).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{self, ForkResult, Pid};

use super::guard::GuardError;
use super::status::WaitStatus;
use crate::exit::Class;
use crate::text::say;

/// How long it may take until it serves; learning the MPI's version is the longest part.
const START: Duration = Duration::from_secs(60);

/// What the one who waits takes for "it serves"; no word on stderr has it.
const SERVES: u8 = 0;

/// The one in the background; tells the one that waits when it serves.
#[derive(Debug)]
pub struct Background {
    waiting: OwnedFd,
}

impl Background {
    /// Lets the starter go on.
    pub fn serves(self) {
        // Where it is gone already, nobody waits.
        let _ = File::from(self.waiting).write_all(&[SERVES]);
    }
}

/// Splits off a process in a session of its own and returns in it; the first one passes on what it
/// says until it serves, and ends with 0 then, or as it ended. Afterwards nobody hears it, unless it
/// `keeps_stderr`.
///
/// # Errors
/// As for [`guard::enter`](super::guard::enter).
pub fn enter(keeps_stderr: bool) -> Result<Background, GuardError> {
    let refused = |step| move |source| GuardError::Refused { step, source };
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(GuardError::Threads(threads));
    }
    let (told, waiting) = unistd::pipe2(OFlag::O_CLOEXEC).map_err(refused("make a pipe"))?;
    // SAFETY: this is the only thread, as checked above, so nothing is locked in the child.
    match unsafe { unistd::fork() }.map_err(refused("fork"))? {
        ForkResult::Parent { child } => {
            drop(waiting);
            std::process::exit(i32::from(wait(&told, child)));
        }
        ForkResult::Child => {
            drop(told);
            unistd::setsid().map_err(refused("make a session"))?;
            let nothing = File::options().read(true).write(true).open("/dev/null");
            if let Ok(nothing) = nothing {
                unistd::dup2_stdin(&nothing).map_err(refused("let go of standard input"))?;
                unistd::dup2_stdout(&nothing).map_err(refused("let go of standard output"))?;
            }
            if !keeps_stderr {
                unistd::dup2_stderr(&waiting).map_err(refused("let go of standard error"))?;
            }
            Ok(Background { waiting })
        }
    }
}

/// Passes on what comes until it is said that it serves; the code to end with.
fn wait(told: &OwnedFd, child: Pid) -> u8 {
    let deadline = Instant::now() + START;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(told.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(0) => {
                let _ = kill(child, Signal::SIGKILL);
                say(&format!("sshd did not serve within {} s", START.as_secs()));
                return Class::LocalResource.code();
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return Class::Internal.code(),
        }
        match unistd::read(told, &mut buffer) {
            Ok(0) => return ended(child),
            Ok(length) => {
                let end = buffer[..length].iter().position(|byte| *byte == SERVES);
                let _ = io::stderr().write_all(&buffer[..end.unwrap_or(length)]);
                if end.is_some() {
                    return Class::Ok.code();
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return Class::Internal.code(),
        }
    }
}

/// How it ended: it has closed its stderr, so that takes a moment at most.
fn ended(child: Pid) -> u8 {
    let mut raw = 0;
    loop {
        // SAFETY: the pointer is to a live local of the right type.
        let result = unsafe { libc::waitpid(child.as_raw(), &raw mut raw, 0) };
        match Errno::result(result) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(_) => return Class::Internal.code(),
        }
    }
    WaitStatus::from_raw(raw).map_or(Class::Internal.code(), WaitStatus::shell_code)
}
