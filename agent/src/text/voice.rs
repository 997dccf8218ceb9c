//! How words get to stderr where nobody may wait for its reader: from a thread of their own.
//!
//! Must not drop a word that there is room for. Until [`apart`] was called, who speaks waits.

use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Messages that may wait for their reader.
const WAITING: usize = 1024;

/// What a slow reader gets once somebody wants an end.
const HASTE: Duration = Duration::from_secs(2);

/// Of a process, because stderr is.
static APART: AtomicBool = AtomicBool::new(false);
static HURRIED: AtomicBool = AtomicBool::new(false);
/// Made when it is needed: most workers have nothing to say.
static VOICE: OnceLock<Option<mpsc::Sender<Word>>> = OnceLock::new();
/// Messages for which there was no room.
static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
enum Word {
    Say(Vec<u8>),
    /// Tell when everything before it is said.
    Flush(oneshot::Sender<()>),
}

/// From now on, who says something does not wait until it is read. Not before a fork.
pub fn apart() {
    APART.store(true, Relaxed);
}

/// From now on, what is left to be said may take two seconds at the [end](finish) and no more.
pub fn hurry() {
    HURRIED.store(true, Relaxed);
}

/// Whether there may be something to [wait](finish) for.
#[must_use]
pub fn is_apart() -> bool {
    VOICE.get().is_some()
}

/// Resolves when everything that was said is read, however slow its reader is; once `stop` resolves,
/// or has before, the reader gets two seconds.
pub async fn finish(stop: impl Future<Output = ()>) {
    let Some(Some(queue)) = VOICE.get() else { return };
    let (told, said) = oneshot::channel();
    let all = async {
        if queue.send(Word::Flush(told)).await.is_ok() {
            // A thread that panicked has said so.
            let _ = said.await;
        }
    };
    let limit = async {
        if !HURRIED.load(Relaxed) {
            stop.await;
        }
        tokio::time::sleep(HASTE).await;
    };
    tokio::select! {
        () = all => {}
        () = limit => {}
    }
}

/// Stderr for a log, whose events are whole writes.
#[derive(Debug)]
pub struct Log;

impl io::Write for Log {
    fn write(&mut self, words: &[u8]) -> io::Result<usize> {
        speak(words.to_vec());
        Ok(words.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn speak(words: Vec<u8>) {
    let voice = APART.load(Relaxed).then(|| VOICE.get_or_init(start).as_ref());
    match voice.flatten() {
        Some(queue) => {
            if queue.try_send(Word::Say(words)).is_err() {
                LEFT_OUT.fetch_add(1, Relaxed);
            }
        }
        None => write(&words),
    }
}

/// None where the process may have no more threads: then who speaks waits.
fn start() -> Option<mpsc::Sender<Word>> {
    let (queue, inbox) = mpsc::channel(WAITING);
    let thread = std::thread::Builder::new().name("voice".into());
    thread.spawn(move || speak_all(inbox)).ok().map(|_| queue)
}

fn speak_all(mut inbox: mpsc::Receiver<Word>) {
    while let Some(word) = inbox.blocking_recv() {
        match word {
            Word::Say(words) => write(&words),
            Word::Flush(told) => {
                let left_out = LEFT_OUT.swap(0, Relaxed);
                if left_out > 0 {
                    let why = "nobody read standard error for too long";
                    write(
                        format!("muster: warning: {left_out} messages left out: {why}\n")
                            .as_bytes(),
                    );
                }
                // Nobody waits any more where somebody was in haste.
                let _ = told.send(());
            }
        }
    }
}

/// In one write, so that it is not cut by the lines of ranks.
fn write(words: &[u8]) {
    // Without a stderr there is nobody to tell.
    let _ = io::stderr().write_all(words);
}
