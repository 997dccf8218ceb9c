//! A wrapper's bytes, cut into its frames.
//!
//! Must not look into a frame, and holds no more than one of them and what was read with it.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::rank::protocol::{END_AT, HEADER, Kind, NO_END, ProtocolError, read_header};

/// Bytes read at once: what a wrapper sends at once, and its header.
const READ: usize = 132 * 1024;

/// Takes frames out of a stream that is cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Adds what somebody else has read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; none at the end of the stream. What is left of a frame that its wrapper could
    /// not finish, because it was killed, comes last.
    ///
    /// # Errors
    /// The stream is no wrapper's, or cannot be read.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<(Kind, Bytes)>, ProtocolError> {
        loop {
            let mut wanted = HEADER;
            if let Some(header) = self.buffer.first_chunk::<HEADER>() {
                let (kind, length) = read_header(*header)?;
                wanted += length;
                if self.buffer.len() >= wanted {
                    self.buffer.advance(HEADER);
                    return Ok(Some((kind, self.buffer.split_to(length).freeze())));
                }
            }
            self.buffer.reserve(READ.max(wanted - self.buffer.len()));
            // A peer that was killed with bytes unread resets the stream; what came before counts.
            if stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return self.rest();
            }
        }
    }

    fn rest(&mut self) -> Result<Option<(Kind, Bytes)>, ProtocolError> {
        let rest = std::mem::take(&mut self.buffer);
        let Some((header, payload)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, _) = read_header(*header)?;
        let mut payload = payload.to_vec();
        // Whatever its header says, its last line has no end.
        if let (Kind::Stdout | Kind::Stderr, Some(end)) = (kind, payload.get_mut(END_AT)) {
            *end = NO_END;
        }
        Ok((!payload.is_empty()).then(|| (kind, payload.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::protocol::header;

    async fn frames(mut bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        while let Some((kind, payload)) = frames.next(&mut bytes).await.unwrap() {
            all.push((kind, payload.to_vec()));
        }
        all
    }

    #[tokio::test]
    async fn whole_frames_and_the_rest_of_one() {
        let mut bytes = header(Kind::Stdout, 4).to_vec();
        bytes.extend(b"abcd");
        bytes.extend(header(Kind::Stderr, 10));
        bytes.extend(b"half");
        let expected = [(Kind::Stdout, b"abcd".to_vec()), (Kind::Stderr, b"half".to_vec())];
        assert_eq!(frames(&bytes).await, expected);
        assert_eq!(frames(&bytes[..11]).await, expected[..1]);
        assert!(frames(b"").await.is_empty());
        assert!(Frames::default().next(&mut &b"SSH-2.0"[..]).await.is_err());
    }

    #[tokio::test]
    async fn the_stream_may_be_cut_anywhere() {
        let mut bytes = header(Kind::Stdout, 4).to_vec();
        bytes.extend(b"abcd");
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            let mut stream = tokio::io::AsyncReadExt::chain(first, second);
            let mut frames = Frames::default();
            let (kind, payload) = frames.next(&mut stream).await.unwrap().unwrap();
            assert_eq!((kind, &payload[..]), (Kind::Stdout, &b"abcd"[..]));
            assert!(frames.next(&mut stream).await.unwrap().is_none());
        }
    }
}
