//! Writing to a descriptor that other processes may write to as well.
//!
//! Must not change it: its flags belong to everybody who holds it. Must not give up while somebody
//! reads, unless told to hurry.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a pipe takes without blocking once poll(2) says that it can be written to.
const PIPE_BUF: usize = 4096;

/// A deadline for writing that begins when somebody else says so, perhaps in a signal handler.
#[derive(Debug)]
pub struct Hurry<'a> {
    asked: &'a AtomicBool,
    grace: Duration,
    since: Option<Instant>,
}

impl<'a> Hurry<'a> {
    /// Once `asked` is set, all writing together may take `grace` and no longer.
    #[must_use]
    pub fn new(asked: &'a AtomicBool, grace: Duration) -> Self {
        Self { asked, grace, since: None }
    }

    /// How long writing may still take; none where nobody asked for haste.
    pub fn left(&mut self) -> Option<Duration> {
        if !self.asked.load(Relaxed) {
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        Some(self.grace.saturating_sub(since.elapsed()))
    }
}

/// A descriptor to write whole lines to.
#[derive(Debug)]
pub struct Shared<'f> {
    fd: BorrowedFd<'f>,
    /// Whether writers have to take turns: what is written to a pipe beyond `PIPE_BUF` bytes may be
    /// interleaved with what others write. Files and terminals take each write as a whole.
    fifo: bool,
}

impl<'f> Shared<'f> {
    /// Looks at what kind of file it is.
    #[must_use]
    pub fn new(fd: BorrowedFd<'f>) -> Self {
        let fifo = nix::sys::stat::fstat(fd)
            .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
        Self { fd, fifo }
    }

    /// Writes everything, however slow the reader is, in one go where the file takes it.
    ///
    /// # Errors
    /// Nobody reads any more (`EPIPE`), or the file takes no more; `TimedOut` when hurried.
    pub fn write_all(&self, bytes: &[u8], hurry: &mut Hurry<'_>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let locked = self.fifo && self.lock(libc::F_WRLCK, hurry);
        let result = write_slices(self.fd, &mut [IoSlice::new(bytes)], hurry);
        if locked {
            self.lock(libc::F_UNLCK, hurry);
        }
        result
    }

    /// A lock of this process on the pipe, which other wrappers ask for, too. A pipe that cannot be
    /// locked is written to all the same.
    fn lock(&self, kind: i32, hurry: &mut Hurry<'_>) -> bool {
        // SAFETY: all zeroes is a valid flock: the whole file, from its start.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        #[expect(clippy::cast_possible_truncation, reason = "F_WRLCK and F_UNLCK are 1 and 2")]
        {
            lock.l_type = kind as libc::c_short;
        }
        loop {
            // Who is in haste waits for nobody: whoever has the lock may be waiting for the same reader.
            let hurried = hurry.left().is_some();
            let how = if hurried { libc::F_SETLK } else { libc::F_SETLKW };
            // SAFETY: the descriptor is open while borrowed, and the kernel only reads the struct.
            let result = unsafe { libc::fcntl(self.fd.as_raw_fd(), how, &raw const lock) };
            if result == 0 {
                return true;
            }
            if hurried || Errno::last() != Errno::EINTR {
                return false;
            }
        }
    }
}

/// Writes in pieces that do not block, so that the deadline is noticed.
fn write_hurried(fd: BorrowedFd<'_>, mut bytes: &[u8], hurry: &mut Hurry<'_>) -> io::Result<()> {
    while !bytes.is_empty() {
        writable(fd, hurry)?;
        match nix::unistd::write(fd, &bytes[..bytes.len().min(PIPE_BUF)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes all of the slices, no more than writev(2) takes (1,024), to a descriptor, blocking or not.
///
/// # Errors
/// As of writev(2); `TimedOut` when hurried.
pub fn write_slices(
    fd: BorrowedFd<'_>,
    mut slices: &mut [IoSlice<'_>],
    hurry: &mut Hurry<'_>,
) -> io::Result<()> {
    while !slices.is_empty() {
        if hurry.left().is_some() {
            return slices.iter().try_for_each(|slice| write_hurried(fd, slice, hurry));
        }
        match nix::sys::uio::writev(fd, slices) {
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => writable(fd, hurry)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes everything within `limit`, to whatever it is.
///
/// # Errors
/// As of write(2); `TimedOut` where nobody takes it.
pub fn write_within(fd: BorrowedFd<'_>, bytes: &[u8], limit: Duration) -> io::Result<()> {
    write_hurried(fd, bytes, &mut Hurry::new(&AtomicBool::new(true), limit))
}

/// Waits until the descriptor can be written to.
fn writable(fd: BorrowedFd<'_>, hurry: &mut Hurry<'_>) -> io::Result<()> {
    loop {
        let timeout = match hurry.left() {
            Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
            Some(left) => PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], timeout) {
            // Not writable yet: a write would block for as long as the reader likes.
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::process::interrupt::Interruptible;

    #[test]
    fn a_write_that_blocks_already_notices_haste() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        let (_unread, pipe) = nix::unistd::pipe().unwrap();
        let (sender, result) = channel();
        let thread = Interruptible::spawn("writer", move || {
            let mut hurry = Hurry::new(&ASKED, Duration::from_millis(1));
            sender.send(Shared::new(pipe.as_fd()).write_all(&[0; 1 << 20], &mut hurry)).unwrap();
        });
        let thread = thread.unwrap();
        let moment = Duration::from_millis(20);
        assert!(result.recv_timeout(moment).is_err(), "nobody asked yet");
        ASKED.store(true, Relaxed);
        let mut tries = 0..500;
        let result = tries.find_map(|_| {
            thread.interrupt();
            result.recv_timeout(moment).ok()
        });
        assert_eq!(result.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
