//! What this process does with a signal.
//!
//! Must not change it.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

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

/// Whether SIGPIPE was ignored when this process was started. What runs before `main` ignores it in any case, so
/// [`is_ignored`] cannot tell.
#[must_use]
pub fn was_pipe_ignored() -> bool {
    PIPE_IGNORED.load(Relaxed)
}

static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// The C library calls what stands there before the runtime of Rust begins.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_THE_RUNTIME: extern "C" fn() = look_at_pipe;

extern "C" fn look_at_pipe() {
    PIPE_IGNORED.store(is_ignored(Signal::SIGPIPE), Relaxed);
}
