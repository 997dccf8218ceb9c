//! What this process does with a signal.
//!
//! Must not change it.

use nix::libc;
use nix::sys::signal::Signal;

/// Whether the signal is ignored, as nohup(1) leaves SIGHUP; so it has to stay for what is started.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    let mut old = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and the old one goes to a live local of the right type.
    let asked = unsafe { libc::sigaction(signal as i32, std::ptr::null(), old.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid sigaction, and the kernel writes whole ones.
    asked == 0 && unsafe { old.assume_init() }.sa_sigaction == libc::SIG_IGN
}
