//! The agent's own standard streams, read and written with patience.
//!
//! They may be non-blocking, which is a property of the open file and not of the agent: rsync makes
//! its end so, and a socket pair has one end on each side. Must not change them, for the same reason.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

/// Reads what is there, at least one byte; 0 at the end.
///
/// # Errors
/// Any but "not now".
pub(super) fn read(from: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match unistd::read(from.as_fd(), buffer) {
            Err(Errno::EAGAIN) => wait(from.as_fd(), PollFlags::POLLIN)?,
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Writes everything.
///
/// # Errors
/// Any but "not now".
pub(super) fn write_all(to: impl AsFd, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match unistd::write(to.as_fd(), data) {
            Ok(written) => data = &data[written..],
            Err(Errno::EAGAIN) => wait(to.as_fd(), PollFlags::POLLOUT)?,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Until the file can be used; as long as that takes, as with any file that blocks.
fn wait(file: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, flags)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn streams_that_do_not_block_are_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let data: Vec<u8> = (0..4_000_000_u32).map(|n| n as u8).collect();
        let expected = data.clone();
        let other = std::thread::spawn(move || {
            let mut seen = vec![0; expected.len()];
            theirs.read_exact(&mut seen).unwrap();
            assert!(seen == expected);
            theirs.write_all(&seen[..1000]).unwrap();
        });
        write_all(&ours, &data).unwrap();
        let (mut buffer, mut seen) = ([0; 300], Vec::new());
        loop {
            match read(&ours, &mut buffer).unwrap() {
                0 => break,
                n => seen.extend_from_slice(&buffer[..n]),
            }
        }
        assert!(seen == data[..1000]);
        other.join().unwrap();
        assert_eq!(write_all(&ours, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
