//! A program's pipe, read here in its wrapper's stead, in frames that it would have sent.
//!
//! Must not be read while the wrapper does, and holds no more than a read and a line.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, SystemTime};

use bytes::{BufMut as _, Bytes, BytesMut};
use nix::libc;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::output::Stream;
use crate::output::clock::Micros;
use crate::output::split::{End, Rule, cut};
use crate::rank::protocol::{HEADER, MAX_FRAME, OUTPUT_HEADER, output_header};

/// Bytes read at once, at most: one frame, and one packet on its way.
const READ: usize = 128 * 1024;

/// Room below which more is taken from the allocator for the next read: of a rank that writes little at a time,
/// many reads share a block.
const LEAST: usize = READ / 2;

/// The longest line that fits into a frame with all that is read beyond it.
pub(super) const LONGEST: usize = MAX_FRAME - OUTPUT_HEADER - READ;

/// One of a program's outputs.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: Stream,
    /// None: it is at its end.
    pipe: Option<Receiver>,
    rule: Rule,
    /// Room for what stands before the lines of a frame, then what has been read and not given out.
    held: BytesMut,
    /// No line ends before this.
    searched: usize,
    until: Until,
}

/// How long to read.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// While somebody can write.
    Closed,
    /// So many bytes that are there, then for so long.
    Read(usize, Duration),
    /// Until then.
    Time(Instant),
}

impl Pipe {
    /// To be read in lines as `rule` has them, of at most [`LONGEST`]; none where that is not a pipe.
    pub(super) fn open(pipe: OwnedFd, stream: Stream, rule: Rule) -> Option<Self> {
        let pipe = Some(Receiver::from_owned_fd(pipe).ok()?);
        let rule = Rule { max_line: rule.max_line.clamp(Rule::LEAST, LONGEST), ..rule };
        let held = BytesMut::zeroed(OUTPUT_HEADER);
        Some(Self { stream, pipe, rule, held, searched: 0, until: Until::Closed })
    }

    /// From now on what is there is read, whatever the time, and what comes within `linger` after that.
    pub(super) fn finish(&mut self, linger: Duration) {
        let Some(pipe) = &self.pipe else { return };
        let mut there: libc::c_int = 0;
        // SAFETY: FIONREAD stores an int, and there is one.
        unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut there) };
        self.until = match usize::try_from(there) {
            Ok(there @ 1..) => Until::Read(there, linger),
            Ok(0) | Err(_) => Until::Time(Instant::now() + linger),
        };
    }

    /// The payload of the next frame; none at the end. Nothing is lost where this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some((length, end)) = self.batch() {
                return Some(self.take(length, end));
            }
            if !self.read().await {
                let rest = self.held.len() - OUTPUT_HEADER;
                return (rest > 0).then(|| self.take(rest, End::Eof));
            }
        }
    }

    /// What can be given out, cut where a [`Splitter`](crate::output::split::Splitter) cuts.
    fn batch(&mut self) -> Option<(usize, End)> {
        let text = &self.held[OUTPUT_HEADER..];
        if let Some(at) = self.rule.last_end(&text[self.searched..]) {
            return Some((self.searched + at + 1, End::Line));
        }
        self.searched = text.len();
        let mut length = 0;
        // All pieces at once: each frame moves what stays behind it.
        while text.len() - length > self.rule.max_line {
            length += cut(&text[length..], self.rule.max_line);
        }
        (length > 0).then_some((length, End::Cut))
    }

    fn take(&mut self, length: usize, end: End) -> Bytes {
        let mut payload = self.held.split_to(OUTPUT_HEADER + length);
        let time = Micros::from(SystemTime::now());
        let header = output_header(self.stream, time, end, length);
        payload[..OUTPUT_HEADER].copy_from_slice(&header[HEADER..]);
        // What stays is the beginning of a line. It makes room for the next header.
        self.searched = self.held.len();
        if self.held.capacity() < self.searched + OUTPUT_HEADER {
            self.held.reserve(OUTPUT_HEADER + READ);
        }
        self.held.resize(self.searched + OUTPUT_HEADER, 0);
        self.held.copy_within(..self.searched, OUTPUT_HEADER);
        payload.freeze()
    }

    /// Reads once; false at the end.
    async fn read(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        if self.held.capacity() - self.held.len() < LEAST {
            self.held.reserve(READ);
        }
        let mut space = (&mut self.held).limit(READ);
        let reading = pipe.read_buf(&mut space);
        let count = match self.until {
            Until::Closed | Until::Read(..) => reading.await,
            // Where there is always more, no timeout would come to its turn.
            Until::Time(time) if Instant::now() > time => Ok(0),
            Until::Time(time) => timeout_at(time, reading).await.unwrap_or(Ok(0)),
        };
        let count = count.unwrap_or(0);
        if let Until::Read(there, linger) = self.until {
            self.until = match there.saturating_sub(count) {
                0 => Until::Time(Instant::now() + linger),
                there => Until::Read(there, linger),
            };
        }
        if count == 0 {
            self.pipe = None;
        }
        count > 0
    }
}

#[cfg(test)]
mod tests;
