//! The lines of all wrappers of a host on one SSH channel: subsystem `muster-output/1`.
//!
//! Towards the launcher, frames: four bytes of source (big-endian), one of kind, four of length, the
//! payload. Towards the worker, the messages of [`ToDesk`], framed as on the control channel. The
//! launcher grants how many bytes may be under way, so that lines that nobody reads never fill the
//! connection, which daemons and reports share. Must not touch a channel itself.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Part, Piece, Source};
use crate::rank::protocol::{Kind, MAX_FRAME};

/// The subsystem's name on the wire.
pub const SUBSYSTEM: &str = "muster-output/1";

/// Source, kind and length.
const HEADER: usize = 9;

/// Frames up to this size travel together.
const SMALL: usize = 16 * 1024;

const CLOSED: u8 = 0;
const READY: u8 = 255;

/// From the launcher to the desk of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToDesk {
    /// Always first: open it. The worker answers with [`FromDesk::Ready`], or closes the channel.
    Open {
        /// The socket's name for wrappers.
        socket: String,
        /// Bytes that may be under way.
        window: usize,
        /// Whether ranks may write to the worker's own log.
        pod_log: bool,
    },
    /// So many bytes more have been read.
    Taken {
        /// Of the channel, headers included.
        bytes: usize,
    },
    /// Nothing of the job is left: hand on what is there, then close the channel.
    Close,
}

/// From the desk of a host to the launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromDesk {
    /// It is open: what is started from now on will find it.
    Ready,
    /// Something to show.
    Piece(Piece),
}

/// Why a channel of lines cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// A kind that is not known here.
    #[error("read a host's lines: there is no frame of kind {0}")]
    Kind(u8),
    /// Beyond the bound.
    #[error("read a host's lines: {0} bytes announced, at most {MAX_FRAME} allowed")]
    TooLong(usize),
}

/// Puts frames into bytes for the channel; small ones are gathered.
#[derive(Debug, Default)]
pub struct Gather {
    small: BytesMut,
}

impl Gather {
    /// Adds a frame; what comes back is to be sent at once, in this order.
    pub fn push(&mut self, message: &FromDesk) -> [Option<Bytes>; 2] {
        let (source, kind, payload) = match message {
            FromDesk::Ready => (0, READY, &Bytes::new()),
            FromDesk::Piece(Piece { source, part }) => match part {
                Part::Frame(kind, payload) => (source.0, *kind as u8, payload),
                Part::Closed => (source.0, CLOSED, &Bytes::new()),
            },
        };
        self.small.put_u32(source);
        self.small.put_u8(kind);
        #[expect(clippy::cast_possible_truncation, reason = "frames keep to MAX_FRAME")]
        self.small.put_u32(payload.len() as u32);
        if self.small.len() + payload.len() <= SMALL {
            self.small.extend_from_slice(payload);
            return [None, None];
        }
        [self.take(), (!payload.is_empty()).then(|| payload.clone())]
    }

    /// What has been gathered, if anything.
    pub fn take(&mut self) -> Option<Bytes> {
        (!self.small.is_empty()).then(|| self.small.split().freeze())
    }
}

/// Takes frames out of a channel that is cut anywhere.
#[derive(Debug, Default)]
pub struct Demux {
    buffer: BytesMut,
}

impl Demux {
    /// Adds what arrived.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole frame, or none until more arrives.
    ///
    /// # Errors
    /// The channel is of no use afterwards.
    pub fn take(&mut self) -> Result<Option<FromDesk>, MuxError> {
        let Some(mut header) = self.buffer.get(..HEADER) else { return Ok(None) };
        let (source, kind) = (Source(header.get_u32()), header.get_u8());
        let length = header.get_u32() as usize;
        if length > MAX_FRAME {
            return Err(MuxError::TooLong(length));
        }
        if self.buffer.len() < HEADER + length {
            self.buffer.reserve(HEADER + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let payload = self.buffer.split_to(length).freeze();
        let part = match (kind, Kind::of(kind)) {
            (READY, _) => return Ok(Some(FromDesk::Ready)),
            (CLOSED, _) => Part::Closed,
            (_, Some(kind @ (Kind::Hello | Kind::Stdout | Kind::Stderr))) => {
                Part::Frame(kind, payload)
            }
            // The others are between a wrapper and its desk.
            (_, Some(_) | None) => return Err(MuxError::Kind(kind)),
        };
        Ok(Some(FromDesk::Piece(Piece { source, part })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let piece = |source, part| FromDesk::Piece(Piece { source: Source(source), part });
        let messages = [
            FromDesk::Ready,
            piece(1, Part::Frame(Kind::Hello, Bytes::from_static(b"{}"))),
            piece(2, Part::Frame(Kind::Stdout, Bytes::from(vec![7; 3 * SMALL]))),
            piece(1, Part::Frame(Kind::Stderr, Bytes::from_static(b"x"))),
            piece(1, Part::Closed),
        ];
        let (mut gather, mut bytes) = (Gather::default(), Vec::new());
        for message in &messages {
            gather.push(message).into_iter().flatten().for_each(|part| bytes.extend(part));
        }
        bytes.extend(gather.take().unwrap());
        assert!(gather.take().is_none());
        for size in [1, 8, 9, 10, 1000, bytes.len()] {
            let (mut demux, mut seen) = (Demux::default(), Vec::new());
            for chunk in bytes.chunks(size) {
                demux.push(chunk);
                while let Some(message) = demux.take().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let take = |bytes: &[u8]| {
            let mut demux = Demux::default();
            demux.push(bytes);
            demux.take()
        };
        assert!(matches!(take(&[0, 0, 0, 1, 9, 0, 0, 0, 0]), Err(MuxError::Kind(9))));
        assert!(matches!(take(b"SSH-2.0-x"), Err(MuxError::TooLong(_))));
    }
}
