//! What mpirun itself prints, and what it carries: passed on in whole lines, because it shares our
//! stdout and stderr with the lines of ranks.
//!
//! Must not change a byte of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use memchr::memrchr;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::output::Stream;
use crate::output::tail::Tail;
use crate::relay::printer::Print;

/// How long a line without an end waits for it: a prompt, a progress bar.
const IDLE: Duration = Duration::from_millis(50);

/// How long the pipe may be silent after mpirun's end before it is given up: somebody else holds it.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes of a line that are held back at most.
const HELD: usize = 64 * 1024;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// What is kept of what it said: the beginning, and the last lines.
const HEAD: usize = 64 * 1024;
const TAIL: (usize, usize) = (2000, 256 * 1024);

/// What mpirun has said so far, as much as is kept.
#[derive(Debug)]
pub struct Heard {
    head: Vec<u8>,
    tail: Tail,
}

impl Default for Heard {
    fn default() -> Self {
        Self { head: Vec::new(), tail: Tail::new(TAIL.0, TAIL.1) }
    }
}

impl Heard {
    fn hear(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.push(&bytes[room..]);
    }

    /// Its words, without the middle of many.
    #[must_use]
    pub fn words(&self) -> Vec<u8> {
        [&self.head[..], self.tail.bytes()].concat()
    }
}

/// Passes one of its streams on, to its end; `exited` says when mpirun itself has ended.
pub(super) async fn carry(
    mut pipe: pipe::Receiver,
    stream: Stream,
    mut exited: watch::Receiver<bool>,
    printer: mpsc::Sender<Print>,
    heard: Arc<Mutex<Heard>>,
) {
    let mut held = BytesMut::new();
    let mut over = false;
    loop {
        held.reserve(CHUNK);
        let limit = match (over, held.is_empty()) {
            (true, _) => LINGER,
            (false, false) => IDLE,
            (false, true) => Duration::MAX,
        };
        let ready = tokio::select! {
            read = timeout(limit, pipe.read_buf(&mut held)) => match read {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) if held.len() < HELD => memrchr(b'\n', &held).map_or(0, |at| at + 1),
                Err(_) if over => break,
                Ok(Ok(_)) | Err(_) => held.len(),
            },
            // Gone without a word counts as well.
            _ = async { exited.wait_for(|exited| *exited).await.is_ok() }, if !over => {
                over = true;
                0
            }
        };
        if ready > 0 {
            let bytes = held.split_to(ready).freeze();
            heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&bytes);
            if !send(&printer, stream, bytes).await {
                return;
            }
        }
    }
    if !held.is_empty() {
        heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&held);
        send(&printer, stream, held.freeze()).await;
    }
}

async fn send(printer: &mpsc::Sender<Print>, stream: Stream, bytes: Bytes) -> bool {
    printer.send(Print::Raw(stream, bytes)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn next(inbox: &mut mpsc::Receiver<Print>) -> Option<String> {
        match inbox.recv().await? {
            Print::Raw(Stream::Err, bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            _ => panic!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_stay_whole_and_prompts_are_not_held_for_ever() {
        let (mut to, from) = pipe::pipe().unwrap();
        let (exited, after) = watch::channel(false);
        let (queue, mut inbox) = mpsc::channel(4);
        let task = tokio::spawn(carry(from, Stream::Err, after, queue, Arc::default()));
        to.write_all(b"a line\nhalf").await.unwrap();
        assert_eq!(next(&mut inbox).await.unwrap(), "a line\n");
        assert_eq!(next(&mut inbox).await.unwrap(), "half");
        to.write_all(b" a line\nno end").await.unwrap();
        drop(to);
        assert_eq!(next(&mut inbox).await.unwrap(), " a line\n");
        assert_eq!(next(&mut inbox).await.unwrap(), "no end");
        assert_eq!(next(&mut inbox).await, None);
        task.await.unwrap();
        drop(exited);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_others_hold_is_given_up_after_the_end() {
        let (_to, from) = pipe::pipe().unwrap();
        let (exited, after) = watch::channel(false);
        let (queue, mut inbox) = mpsc::channel(4);
        let task = tokio::spawn(carry(from, Stream::Err, after, queue, Arc::default()));
        exited.send_replace(true);
        assert_eq!(next(&mut inbox).await, None);
        task.await.unwrap();
    }
}
