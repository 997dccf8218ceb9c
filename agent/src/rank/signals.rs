//! Signals on their way to the program: each reaches it once, at once, even while the wrapper waits
//! for a slow reader.
//!
//! Forwarding is done in the handler itself. Must not allocate, lock or print here: only what
//! signal-safety(7) allows. A handler has no other way to know things than statics, so these hold
//! the one child's number and what was heard; nothing else may use them. Real-time signals are thirty, and
//! a handler for each would cost every start: they come over a descriptor, which the loop reads.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::process::disposition::was_pipe_ignored;
use crate::process::status::WaitStatus;

/// What a batch system or a person may send to a rank.
const FORWARDED: [Signal; 16] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGTSTP,
];

/// The real-time signals as glibc counts them, which the program is likely to be made with. musl keeps 34 to
/// itself, but for programs of more than one thread.
const REAL_TIME: std::ops::RangeInclusive<u32> = 34..=64;

/// The daemons that signal a rank's whole process group, seen with Open MPI 4.1 and 5.0, MPICH 4.0
/// and 5.0 and Intel MPI 2021: the program is in the group and has the signal already. Others, such
/// as slurmstepd, signal the one process that they started.
const GROUP_SIGNALLERS: [&[u8]; 9] = [
    b"orted",
    b"orterun",
    b"mpirun",
    b"mpiexec",
    b"prte",
    b"prun",
    b"hydra_",
    b"pmi_proxy",
    // A worker that ends a job signals each process by itself.
    b"muster",
];

/// The program's process; 0 before it runs, and once it has ended.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// The end of a pipe that wakes the loop.
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// The last signal that asked the program to end.
static TOLD: AtomicI32 = AtomicI32::new(0);
/// The last such signal that came when the program had ended.
static LATE: AtomicI32 = AtomicI32::new(0);
/// Whether this is the forked child, before it becomes the program.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Whether SIGTSTP came since the last SIGCONT.
static STOPPING: AtomicBool = AtomicBool::new(false);
/// Whether a signal asked to end after the program had ended.
static HURRY: AtomicBool = AtomicBool::new(false);

/// Set when somebody asks to end while the program has ended already, and only its output remains.
#[must_use]
pub(super) fn hurry() -> &'static AtomicBool {
    &HURRY
}

/// The last signal that asked the program to end, if one did before it ended so. One that came afterwards
/// had no part in it, unless the program died of the same: a group gets a signal at one time.
#[must_use]
pub(super) fn told(ended: WaitStatus) -> Option<i32> {
    let (told, late) = (TOLD.load(Relaxed), LATE.load(Relaxed));
    let died_of_it = matches!(ended, WaitStatus::Signaled { signal, .. } if signal == late);
    Some(if died_of_it { late } else { told }).filter(|signal| *signal != 0)
}

/// Whether SIGTSTP came and no SIGCONT since; asking takes it back. A program may have handled it and go on, so
/// this says something only once the program has stopped of SIGTSTP.
pub(super) fn take_stop() -> bool {
    STOPPING.swap(false, Relaxed)
}

/// Handlers in place, signals held back until the program runs.
#[derive(Debug)]
pub(super) struct Signals {
    woken: OwnedFd,
    /// Kept open for the handler.
    _wake: OwnedFd,
    /// Where real-time signals wait.
    queued: SignalFd,
    /// The mask as it was, which is the program's, too.
    mask: SigSet,
    /// What the program is to find ignored, though it is not ignored here.
    ignored: Vec<Signal>,
}

impl Signals {
    /// Installs the handlers, and blocks what they handle. Signals that are ignored stay so, for
    /// the wrapper and for the program.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn install() -> io::Result<Self> {
        let (woken, wake) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        WAKE.store(wake.as_raw_fd(), Relaxed);
        let mut handled: SigSet = FORWARDED.into_iter().collect();
        handled.add(Signal::SIGCHLD);
        let mask = with_real_time(handled).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let queued = SignalFd::with_flags(&with_real_time(SigSet::empty()), flags)?;
        // No SA_RESTART: a blocked write must return, so that it can notice haste.
        let action = SigAction::new(SigHandler::SigAction(on_signal), SaFlags::SA_SIGINFO, handled);
        let mut ignored = Vec::new();
        for signal in FORWARDED {
            // SAFETY: the handler does only what is async-signal-safe, see there.
            let before = unsafe { sigaction(signal, &action) }?;
            if matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: it is put back as it was.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        // SAFETY: as above. Where it is ignored, no end would be told.
        let before = unsafe { sigaction(Signal::SIGCHLD, &action) }?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            ignored.push(Signal::SIGCHLD);
        }
        if was_pipe_ignored() {
            ignored.push(Signal::SIGPIPE);
        }
        Ok(Self { woken, _wake: wake, queued, mask, ignored })
    }

    /// What a forked child must do before it becomes the program, beside what exec(2) does, which forgets
    /// handlers: ignore what was ignored, then let through what came meanwhile.
    pub(super) fn restore(&self) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
        let (mask, ignored) = (self.mask, self.ignored.clone());
        move || {
            FORKED.store(true, Relaxed);
            for signal in &ignored {
                // SAFETY: to ignore a signal runs no code of ours.
                unsafe { nix::sys::signal::signal(*signal, SigHandler::SigIgn) }?;
            }
            mask.thread_set_mask()?;
            Ok(())
        }
    }

    /// Forwards to the program from now on, beginning with what came meanwhile.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn forward_to(&self, child: Pid) -> io::Result<()> {
        CHILD.store(child.as_raw(), Relaxed);
        let mut mask = with_real_time(self.mask);
        // Whoever started us may have blocked it, but the loop lives by it.
        mask.remove(Signal::SIGCHLD);
        Ok(mask.thread_set_mask()?)
    }

    /// Stops forwarding. Call it before the program is reaped: its number may then be another's.
    pub(super) fn child_ended(&self) {
        CHILD.store(0, Relaxed);
    }

    /// Where real-time signals wait to be [forwarded](Self::forward_queued).
    pub(super) fn queued(&self) -> BorrowedFd<'_> {
        self.queued.as_fd()
    }

    /// Forwards the real-time signals that have come. Where the program has ended, they are for nobody.
    pub(super) fn forward_queued(&self) {
        while let Ok(Some(info)) = self.queued.read_signal() {
            let signal = info.ssi_signo.cast_signed();
            let sender = info.ssi_pid.cast_signed();
            let child = CHILD.load(Relaxed);
            if child > 0 && !has_it_already(signal, info.ssi_code, sender) {
                // SAFETY: kill touches no memory; the child is not reaped before CHILD is 0.
                unsafe { libc::kill(child, signal) };
            }
        }
    }

    /// Forgets what has rung.
    pub(super) fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!(nix::unistd::read(&self.woken, &mut bytes), Ok(64)) {}
    }
}

impl AsFd for Signals {
    /// Readable after a signal.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

/// The set with those added, which no library does: musl takes 34 for its own.
fn with_real_time(mut set: SigSet) -> SigSet {
    for signal in REAL_TIME {
        // SAFETY: the kernel's sigset_t, at the start of each libc's, is one bit a signal in 64-bit words,
        // and set is a live one.
        unsafe { *(&raw mut set).cast::<u64>() |= 1 << (signal - 1) };
    }
    set
}

/// The handler. Atomics, sigaction, raise, kill, waitid, getsid, getpid, open, read, write, close: all async-signal-safe.
extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let errno = Errno::last();
    if FORKED.load(Relaxed) {
        // Sent to the program, which has no handler yet: it takes effect when this one returns.
        // SAFETY: the default disposition runs no code of ours, and raise touches no memory of ours.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; si_pid is read only where the
    // signal comes from kill, sigqueue or tgkill, which set it.
    let (code, sender) = unsafe {
        let code = (*info).si_code;
        (code, if code <= 0 { (*info).si_pid() } else { 0 })
    };
    if signal != libc::SIGCHLD {
        hear(signal);
        let child = CHILD.load(Relaxed);
        if child > 0 && !has_it_already(signal, code, sender) {
            // SAFETY: kill touches no memory; the child is not reaped before CHILD is 0.
            unsafe { libc::kill(child, signal) };
        }
    }
    // SAFETY: one byte from a live array to a descriptor that stays open; a full pipe wakes, too.
    unsafe { libc::write(WAKE.load(Relaxed), [0u8].as_ptr().cast(), 1) };
    errno.set();
}

fn hear(signal: i32) {
    match signal {
        libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT => {
            if ended(CHILD.load(Relaxed)) {
                HURRY.store(true, Relaxed);
                LATE.store(signal, Relaxed);
            } else {
                TOLD.store(signal, Relaxed);
            }
        }
        libc::SIGTSTP => STOPPING.store(true, Relaxed),
        libc::SIGCONT => STOPPING.store(false, Relaxed),
        _ => {}
    }
}

/// Whether the child has ended, noticed by the loop or not; it stays to be reaped.
fn ended(child: i32) -> bool {
    let Ok(child @ 1..) = libc::id_t::try_from(child) else { return true };
    // SAFETY: all zeroes is a valid siginfo, into which the kernel writes; si_pid stays 0 where the
    // child still runs.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, child, &raw mut info, flags) == 0 && info.si_pid() != 0
    }
}

/// Whether the program, which is in our process group, got the signal as we did.
fn has_it_already(signal: i32, code: i32, sender: i32) -> bool {
    if code == libc::SI_KERNEL {
        // A terminal's keys go to the foreground group; its loss to the session's leader alone.
        // SAFETY: these ask for numbers of the calling process only.
        let leader = unsafe { libc::getsid(0) == libc::getpid() };
        return match signal {
            libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP | libc::SIGWINCH => true,
            libc::SIGHUP => !leader,
            _ => false,
        };
    }
    // What the kernel says of our own doing, such as a log beyond the limit on files (SIGXFSZ), is ours.
    // SAFETY: asks for the number of the calling process only.
    sender == unsafe { libc::getpid() } || signals_groups(sender)
}

/// Reads `/proc/PID/comm` without allocating.
fn signals_groups(pid: i32) -> bool {
    if pid <= 0 {
        return false;
    }
    let mut path = *b"/proc/0000000000/comm\0";
    let mut number = pid.unsigned_abs();
    // Leading zeroes are no number to /proc, so they become slashes, which paths may repeat.
    for digit in path[6..16].iter_mut().rev() {
        *digit = if number == 0 { b'/' } else { b'0' + (number % 10) as u8 };
        number /= 10;
    }
    let mut name = [0u8; 16];
    // SAFETY: the path ends with NUL, the buffer is as long as said, and the descriptor is ours.
    let length = unsafe {
        let fd = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let length = libc::read(fd, name.as_mut_ptr().cast(), name.len());
        libc::close(fd);
        length
    };
    length > 0 && GROUP_SIGNALLERS.iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_known_to_signal_groups() {
        // A thread has a name of its own, too.
        let own = nix::unistd::gettid().as_raw();
        for (name, known) in [(c"hydra_pmi_proxy", true), (c"slurmstepd", false)] {
            nix::sys::prctl::set_name(name).unwrap();
            assert_eq!(signals_groups(own), known, "{name:?}");
        }
        assert!(!signals_groups(0));
        assert!(!signals_groups(i32::MAX));
    }

    #[test]
    fn keys_of_a_terminal_reach_the_group() {
        for (signal, code, already) in [
            (libc::SIGINT, libc::SI_KERNEL, true),
            (libc::SIGTSTP, libc::SI_KERNEL, true),
            (libc::SIGWINCH, libc::SI_KERNEL, true),
            (libc::SIGXCPU, libc::SI_KERNEL, false),
            (libc::SIGTERM, libc::SI_USER, false),
        ] {
            assert_eq!(has_it_already(signal, code, 0), already);
        }
    }
}
