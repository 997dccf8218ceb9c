//! The wrapper's end of the worker's socket: one connection for reports, one for lines, and before them
//! one for a question.
//!
//! Must not hold the program up for a report: those are sent if the socket takes them. Lines are
//! another matter; they wait for the worker as they would wait for any reader.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt,
    recv, sendmsg, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Uid;

use super::gpus::{Answer, Ask};
use super::protocol::{
    Ended, Frame, HEADER, Hello, Kind, header, output_header, parts, read_header, read_payload,
    report,
};
use crate::config::variables::ABSTRACT;
use crate::output::Stream;
use crate::output::clock::Micros;
use crate::output::split::Batch;
use crate::output::stream::{Hurry, write_slices};

/// How long the last report may take. The worker is on this host and reads all the time; where it
/// does not, nobody is there to be told.
const LAST_REPORT: Duration = Duration::from_millis(200);

/// How long each step of a question may take: connect, ask, hear. The worker answers at once; a busy
/// machine may not.
const ANSWER: i64 = 5;

/// Asks the worker which GPUs this rank gets.
///
/// # Errors
/// Nobody is there, or nobody who understands; `WouldBlock` where the answer does not come in time.
pub(super) fn ask(name: &str, question: &Ask) -> io::Result<Answer> {
    let frame = report(Kind::Ask, question).map_err(io::Error::other)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let limit = TimeVal::seconds(ANSWER);
    setsockopt(&fd, SendTimeout, &limit)?;
    setsockopt(&fd, ReceiveTimeout, &limit)?;
    reach(&fd, name)?;
    let mut stream = UnixStream::from(fd);
    stream.write_all(&frame)?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let (kind, length) = read_header(header).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    match read_payload(kind, &payload).map_err(io::Error::other)? {
        Frame::Answer(answer) => Ok(answer),
        _ => Err(io::Error::other("the worker gave no answer")),
    }
}

/// Connects to our own user's worker, or root's: anybody in this network namespace can take an abstract name.
fn reach(fd: &OwnedFd, name: &str) -> io::Result<()> {
    let address = match name.strip_prefix(ABSTRACT) {
        Some(bare) => UnixAddr::new_abstract(bare.as_bytes())?,
        None => UnixAddr::new(name)?,
    };
    connect(fd.as_raw_fd(), &address)?;
    let listener = Uid::from_raw(getsockopt(fd, PeerCredentials)?.uid());
    if listener.is_root() || listener == Uid::effective() {
        return Ok(());
    }
    Err(Errno::EPERM.into())
}

/// What the worker says about the program's stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing at the moment.
    Nothing,
    /// It can read it.
    Offer,
    /// It has read it to its end.
    Taken,
    /// The worker, or its interest, is gone.
    Gone,
}

/// A connection to the worker.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    /// Connects and says what the connection is for, if that can be done at once; from then on
    /// writing blocks. `pipes` are for the worker to read: where it is told to, and to their end should
    /// this process be killed.
    ///
    /// # Errors
    /// Nobody listens there, or not at the moment.
    pub(super) fn open(name: &str, hello: &Hello, pipes: &[RawFd]) -> io::Result<Self> {
        let frame = report(Kind::Hello, hello).map_err(io::Error::other)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        reach(&fd, name)?;
        let rights = ControlMessage::ScmRights(pipes);
        let rights = if pipes.is_empty() { &[][..] } else { std::slice::from_ref(&rights) };
        let slices = [IoSlice::new(&frame)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        // A fresh socket has room for more than a hello may have.
        if sendmsg::<()>(fd.as_raw_fd(), &slices, rights, flags, None)? < frame.len() {
            return Err(Errno::EAGAIN.into());
        }
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        Ok(Self(fd))
    }

    /// Sends lines, however slow the worker is.
    ///
    /// # Errors
    /// The worker is gone. What was not sent, of `batch` and from its frames' boundary on, is given
    /// back: a frame that arrived in part does not count there.
    pub(super) fn output<'b>(
        &self,
        stream: Stream,
        time: Micros,
        batch: Batch<'b>,
        hurry: &mut Hurry,
    ) -> Result<(), (Batch<'b>, io::Error)> {
        let mut sent = 0;
        for part in parts(batch) {
            if let Err(error) = self.frame(stream, time, part, hurry) {
                return Err((Batch { bytes: &batch.bytes[sent..], end: batch.end }, error));
            }
            sent += part.bytes.len();
        }
        Ok(())
    }

    fn frame(
        &self,
        stream: Stream,
        time: Micros,
        part: Batch<'_>,
        hurry: &mut Hurry,
    ) -> io::Result<()> {
        let header = output_header(stream, time, part.end, part.bytes.len());
        write_slices(self.0.as_fd(), &mut [IoSlice::new(&header), IoSlice::new(part.bytes)], hurry)
    }

    /// For waiting until something can be [heard](Self::hear).
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Whether lines can be sent without waiting for the worker.
    pub(super) fn has_room(&self) -> bool {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(0))
    }

    /// What the worker has said, without waiting for it.
    pub(super) fn hear(&self) -> Heard {
        let mut word = [0; HEADER];
        match recv(self.0.as_raw_fd(), &mut word, MsgFlags::MSG_DONTWAIT) {
            Ok(HEADER) => match read_header(word) {
                Ok((Kind::Offer, 0)) => Heard::Offer,
                Ok((Kind::Taken, 0)) => Heard::Taken,
                Ok(_) | Err(_) => Heard::Gone,
            },
            Err(Errno::EAGAIN | Errno::EINTR) => Heard::Nothing,
            Ok(_) | Err(_) => Heard::Gone,
        }
    }

    /// Says a word about stdout.
    ///
    /// # Errors
    /// The worker is gone; `TimedOut` when hurried.
    pub(super) fn say(&self, word: Kind, hurry: &mut Hurry) -> io::Result<()> {
        write_slices(self.0.as_fd(), &mut [IoSlice::new(&header(word, 0))], hurry)
    }

    /// Says how the program ended, if the worker takes it in a moment.
    pub(super) fn end(&self, ended: &Ended) {
        let Some(frame) = last_report(ended) else { return };
        let (until, mut rest) = (Instant::now() + LAST_REPORT, &frame[..]);
        while !rest.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut ready, timeout) {
                Ok(1) => {}
                Err(Errno::EINTR) => continue,
                Ok(_) | Err(_) => return,
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match nix::sys::socket::send(self.0.as_raw_fd(), rest, flags) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // Told or not, the program has ended, and so do we.
                Err(_) => return,
            }
        }
    }
}

/// The frame that tells an end. What JSON makes too long of what the program has left is left out: how it
/// ended matters more.
fn last_report(ended: &Ended) -> Option<Vec<u8>> {
    let without_elastic = || Ended { elastic: None, ..ended.clone() };
    report(Kind::End, ended)
        .or_else(|_| report(Kind::End, &without_elastic()))
        .or_else(|_| report(Kind::End, &Ended { stderr: String::new(), ..without_elastic() }))
        .ok()
}
