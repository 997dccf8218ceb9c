//! Runs a command over a connection of its own: by hand, from a worker, or to a host outside the job.
//!
//! Must not be on the path of a launch, where the engine has connections already.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::signal::unix::{SignalKind, signal};

use super::streams::{read, write_all};
use super::target::{Target, Unreached};
use super::{Outcome, bytes, unwritten, variables};
use crate::config::env::Environment;
use crate::exit::Explain as _;
use crate::ssh::options::RshOptions;
use crate::ssh::remote::{ExecEvent, ExecEvents, ExecStdin};

/// Attempts to connect, at most; operators ask for ten.
const MAX_ATTEMPTS: u32 = 100;

/// Bytes of standard input that are read at a time.
const CHUNK: usize = 32 * 1024;

/// Between attempts, as ssh has it.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the command on the host; the options are complete.
#[must_use]
pub fn run(options: &RshOptions, env: &Environment) -> Outcome {
    let target = match Target::resolve(options, env) {
        Ok(target) => target,
        Err(error) => return Outcome::Failed(error.to_string(), error.hint()),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Failed(format!("start a runtime: {error}"), None),
    };
    let outcome = runtime.block_on(converse(options, env, &target));
    // A read of standard input may never return; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

async fn converse(options: &RshOptions, env: &Environment, target: &Target) -> Outcome {
    let stop = async {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
        let Ok(mut hang_up) = signal(SignalKind::hangup()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    };
    tokio::select! {
        outcome = over_own_connection(options, env, target) => outcome,
        () = stop => Outcome::Failed("run the command to its end: a signal told to stop".into(), None),
    }
}

async fn over_own_connection(options: &RshOptions, env: &Environment, target: &Target) -> Outcome {
    let attempts = options.connection_attempts.unwrap_or(1).clamp(1, MAX_ATTEMPTS);
    let mut attempt = 1;
    let connection = loop {
        match target.connect(options).await {
            Ok(connection) => break connection,
            Err(unreached) if unreached.passes && attempt < attempts => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(Unreached { words, hint, .. }) => return Outcome::Failed(words, hint),
        }
    };
    let env = variables(options, env);
    let exec = match connection.exec(bytes(&options.command), &env).await {
        Ok(exec) => exec,
        Err(error) => return Outcome::Failed(error.to_string(), None),
    };
    let (events, input) = exec.split();
    let outcome = tokio::select! {
        outcome = carry_output(events) => outcome,
        never = carry_input(&input, options.stdin_null) => match never {},
    };
    connection.close().await;
    outcome
}

/// Carries what the command writes until it ends. Not on the runtime's own thread, which must
/// answer the server's questions for a sign of life while nobody reads our output.
async fn carry_output(mut events: ExecEvents) -> Outcome {
    loop {
        let written = match events.next().await {
            ExecEvent::Stdout(data) => aside(move || write_all(io::stdout(), &data)).await,
            ExecEvent::Stderr(data) => aside(move || write_all(io::stderr(), &data)).await,
            ExecEvent::Ended(ended) => return Outcome::Ended(ended),
        };
        if let Err(error) = written {
            return unwritten(&error);
        }
    }
}

/// Carries standard input to its end; what comes of it shows itself on the other side.
async fn carry_input(input: &ExecStdin, nothing: bool) -> Infallible {
    if !nothing {
        while let Ok(data) = aside(read_some).await
            && !data.is_empty()
            && input.write(data).await.is_ok()
        {}
    }
    let _ = input.eof().await;
    pending().await
}

/// What standard input has; nothing at its end.
fn read_some() -> io::Result<Bytes> {
    let mut buffer = vec![0; CHUNK];
    let length = read(io::stdin(), &mut buffer)?;
    buffer.truncate(length);
    Ok(Bytes::from(buffer))
}

/// Does what may block on a thread that may.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
