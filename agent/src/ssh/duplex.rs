//! A socket whose writes do not wait for the peer to read.
//!
//! russh writes and reads in turn: while the peer's socket is full it does not read, and where both ends
//! have much to send neither ever does again. So what the socket does not take is kept here, and goes
//! out while russh reads. SSH's windows bound it. See docs/adr/0001.
//!
//! Must not look at the bytes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may be kept: the windows of more channels than are ever busy both ways. Beyond it writes
/// wait, as they would without.
const MOST: usize = 32 * 1024 * 1024;

/// The socket, and what it has not taken yet.
#[derive(Debug)]
pub struct Duplex<S> {
    socket: S,
    kept: VecDeque<u8>,
}

impl<S> Duplex<S> {
    /// Around a fresh socket.
    #[must_use]
    pub fn new(socket: S) -> Self {
        Self { socket, kept: VecDeque::new() }
    }
}

impl<S: AsyncWrite + Unpin> Duplex<S> {
    /// Sends what is kept; ready when nothing is left, and woken when more can be sent.
    fn send_kept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let (front, _) = self.kept.as_slices();
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, front))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..sent);
        }
        // A burst is over; its memory need not stay with every connection.
        self.kept = VecDeque::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Duplex<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(sent) = self.send_kept(context) {
            sent?;
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Duplex<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = match self.send_kept(context) {
            Poll::Ready(sent) => {
                sent?;
                Pin::new(&mut self.socket).poll_write(context, bytes)?
            }
            Poll::Pending => Poll::Pending,
        };
        match sent {
            Poll::Pending if self.kept.len() + bytes.len() <= MOST => {
                self.kept.extend(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            sent => sent.map(Ok),
        }
    }

    /// Reading goes on with it.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_kept(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Duration, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// As russh does it: each end writes all that it has, and only then reads.
    #[tokio::test]
    async fn two_ends_that_write_before_they_read_both_get_through() {
        let (left, right) = duplex(1024);
        let end = |socket, byte: u8| async move {
            let mut socket = Duplex::new(socket);
            socket.write_all(&vec![byte; 1 << 20]).await.unwrap();
            socket.flush().await.unwrap();
            let mut got = vec![0; 1 << 20];
            socket.read_exact(&mut got).await.unwrap();
            // What is still kept goes out with the good-bye.
            socket.shutdown().await.unwrap();
            got
        };
        let both = async { tokio::join!(end(left, 1), end(right, 2)) };
        let (by_left, by_right) = timeout(LIMIT, both).await.unwrap();
        assert_eq!((by_left, by_right), (vec![2; 1 << 20], vec![1; 1 << 20]));
    }

    #[tokio::test]
    async fn no_more_is_kept_than_the_bound() {
        let (socket, mut peer) = duplex(1);
        let mut socket = Duplex::new(socket);
        let much = vec![7; MOST];
        timeout(LIMIT, socket.write_all(&much)).await.unwrap().unwrap();
        let more = timeout(Duration::from_millis(50), socket.write_all(&much));
        assert!(more.await.is_err(), "it waits");
        assert!(socket.kept.len() <= MOST);
        assert_eq!(peer.read_u8().await.unwrap(), 7);
    }
}
