//! Carries one output stream of a child to whoever wants it, to its end.
//!
//! Must not know where the bytes go, and must not wait for ever for a pipe that nobody will close.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the output of a child that has ended is still read when nothing comes any more: a
/// process that it left behind may hold the pipe open for ever.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes that are read at a time.
const CHUNK: usize = 32 * 1024;

/// Hands what `pipe` has to `sink`, piece by piece and as fast as that takes it, until the end of
/// file, until the sink says false, or until the child has ended and nothing comes any more.
pub async fn carry<S: Future<Output = bool>>(
    pipe: Option<pipe::Receiver>,
    mut exited: watch::Receiver<bool>,
    sink: impl Fn(Bytes) -> S,
) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let over = *exited.borrow();
        let read = if over {
            // Only silence counts: what a slow sink has kept waiting is there at once.
            match timeout(LINGER, pipe.read_buf(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return,
            }
        } else {
            tokio::select! {
                read = pipe.read_buf(&mut buffer) => read,
                _ = exited.changed() => continue,
            }
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !sink(buffer.split().freeze()).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_slow_sink_loses_nothing_after_the_end() {
        let (mut to, from) = pipe::pipe().unwrap();
        let (exited, after_exit) = watch::channel(false);
        let seen = RefCell::new(Vec::new());
        let slow = async |data: Bytes| {
            tokio::time::sleep(LINGER).await;
            seen.borrow_mut().extend_from_slice(&data);
            true
        };
        to.write_all(b"before").await.unwrap();
        exited.send_replace(true);
        let late = async {
            to.write_all(b", after").await.unwrap();
            // Held open, as by a daemon that was left behind.
            to
        };
        let (_held, ()) = tokio::join!(late, carry(Some(from), after_exit, slow));
        assert_eq!(seen.into_inner(), b"before, after");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_is_held_open_is_given_up() {
        let (_to, from) = pipe::pipe().unwrap();
        let (exited, after_exit) = watch::channel(false);
        let start = tokio::time::Instant::now();
        let end = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            exited.send_replace(true);
        };
        tokio::join!(end, carry(Some(from), after_exit, async |_| true));
        assert_eq!(start.elapsed(), Duration::from_secs(60) + LINGER);
    }
}
