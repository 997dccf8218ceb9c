//! Signals and waiting by pidfd, so that a number used again never gets another's signal.
//!
//! Must not decide who is signalled.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::tree::{Process, ProcessId};

const PROC: &str = "/proc";

/// A descriptor that becomes readable when the process ends; `None` where it already has.
///
/// # Errors
/// Where the kernel (before 5.3) or a seccomp filter has no pidfds, or descriptors are used up.
pub(super) fn open(id: ProcessId) -> io::Result<Option<OwnedFd>> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id.pid, 0) };
    let fd = match Errno::result(fd) {
        Ok(fd) => fd as i32,
        Err(Errno::ESRCH) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    // SAFETY: the call above returned this descriptor, and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Only now is the number pinned, so only now does comparing start times prove anything.
    Ok(same(id).then_some(fd))
}

/// Whether this very process still runs, by a look at `/proc`.
pub(super) fn runs(id: ProcessId) -> bool {
    Process::read(Path::new(PROC), id.pid).is_ok_and(|process| process.id == id && !process.ended())
}

fn same(id: ProcessId) -> bool {
    ProcessId::look_up(Path::new(PROC), id.pid).is_ok_and(|found| found == id)
}

/// Sends `signals` in order. A process that is gone, or may not be signalled, is passed over: the
/// next snapshot shows what is left.
pub fn send(id: ProcessId, signals: &[Signal]) {
    match open(id) {
        Ok(None) => {}
        Ok(Some(fd)) => {
            for signal in signals {
                let number = *signal as i32;
                // SAFETY: the descriptor is open; a null siginfo asks for what kill() would send.
                let sent = unsafe {
                    libc::syscall(
                        libc::SYS_pidfd_send_signal,
                        fd.as_raw_fd(),
                        number,
                        std::ptr::null::<libc::siginfo_t>(),
                        0,
                    )
                };
                if Errno::result(sent) == Err(Errno::ENOSYS) {
                    let _ = signal::kill(Pid::from_raw(id.pid), *signal);
                }
            }
        }
        // Without pidfds a moment remains between the look and the signal; there is no better way.
        Err(_) if same(id) => {
            for signal in signals {
                let _ = signal::kill(Pid::from_raw(id.pid), *signal);
            }
        }
        Err(_) => {}
    }
}
