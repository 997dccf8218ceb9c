//! One command on a channel: its three streams, its signals and its end, carried to the peer.
//!
//! Must not choose what is run or how; it moves bytes and reports the end once.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use russh::{ChannelMsg, ChannelReadHalf, Sig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::session::Line;
use crate::exit::Explain;
use crate::process::carry::carry;
use crate::process::reaper::Exited;
use crate::process::spawn::Child;
use crate::process::status::{WaitStatus, from_ssh_name, ssh_name};
use crate::ssh::credit::Credit;
use crate::ssh::wire::Gauge;

/// SSH's number of the standard error stream (RFC 4254 section 5.2).
const STDERR: u32 = 1;

/// Runs `command` and closes the channel when it has ended; ends it when the peer goes away first.
pub async fn serve(
    line: Line,
    command: Vec<u8>,
    env: Vec<(String, String)>,
    credit: Option<Arc<Credit>>,
) {
    let Line { link, mut read, write, handle, gauge, .. } = line;
    let id = link.id;
    let _untold = link.worker.untold();
    let child = match link.worker.start(id, &command, &env).await {
        Ok(child) => child,
        Err(error) => {
            let mut words = format!("muster: failed to {error}\n");
            if let Some(hint) = error.hint() {
                words += &format!("hint: {hint}\n");
            }
            let _ = write.extended_data_bytes(STDERR, words).await;
            // 126, not 127: that would be the command line's own "not found".
            let _ = write.exit_status(126).await;
            let _ = write.eof().await;
            let _ = write.close().await;
            return;
        }
    };
    let process = child.id;
    tracing::debug!(%id, pid = process.pid, "started");
    let (exited, after_exit) = watch::channel(false);
    let Child { stdin, stdout, stderr, exit, .. } = child;
    let granted = async |bytes| {
        if let Some(credit) = &credit {
            credit.take(bytes).await;
        }
    };
    let output = carry(stdout, after_exit.clone(), async |data| {
        granted(data.len()).await;
        write.data_bytes(data).await.is_ok()
    });
    let errors = carry(stderr, after_exit, async |data| {
        granted(data.len()).await;
        write.extended_data_bytes(STDERR, data).await.is_ok()
    });
    let mut peer_left = pin!(listen(&mut read, stdin, &gauge, process.pid));
    let end = async {
        let status = exit.await;
        exited.send_replace(true);
        status
    };
    let finished = async { tokio::join!(end, output, errors) };
    let mut finished = pin!(finished);
    let status = tokio::select! {
        (status, (), ()) = &mut finished => status,
        () = &mut peer_left => {
            tracing::debug!(%id, pid = process.pid, "the peer left a running command");
            link.worker.abandon(process);
            return;
        }
    };
    let status = status.map(|Exited { status, .. }| status);
    if status.is_ok_and(|status| !status.success()) {
        // First, so that whoever hears of the end knows the reason: a daemon may be what was killed.
        link.worker.tell_of_oom(id).await;
    }
    match status {
        Ok(WaitStatus::Exited(code)) => {
            let _ = write.exit_status(code.into()).await;
        }
        Ok(WaitStatus::Signaled { signal, core }) => {
            let name = signal_to_ssh(signal);
            let text = (String::new(), String::new());
            let _ = handle.exit_signal_request(write.id(), name, core, text.0, text.1).await;
        }
        Err(error) => tracing::error!(%error, "the end of a command is unknown"),
    }
    // Where these fail the connection is gone, and with it whoever wanted to know.
    let _ = write.eof().await;
    let _ = write.close().await;
}

/// Carries the peer's input to the command, and its signals; returns when the peer left.
///
/// A command that does not read its input must not hide either of them, so what it has not taken
/// yet waits here. The brake bounds it: what waits is not counted as consumed.
async fn listen(
    read: &mut ChannelReadHalf,
    mut stdin: Option<pipe::Sender>,
    gauge: &Gauge,
    group: i32,
) {
    let mut waiting = VecDeque::new();
    let mut over = false;
    loop {
        if over && waiting.is_empty() {
            stdin = None;
        }
        let message = tokio::select! {
            message = read.wait() => message,
            written = feed(&mut stdin, &mut waiting, gauge), if !waiting.is_empty() => {
                if written.is_err() {
                    // The command closed its input; what still comes is thrown away.
                    stdin = None;
                }
                continue;
            }
        };
        match message {
            Some(ChannelMsg::Data { data }) if !over => {
                waiting.push_back(Waiting { length: data.len(), rest: data });
            }
            Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                gauge.consumed(data.len());
            }
            Some(ChannelMsg::Eof) => over = true,
            Some(ChannelMsg::Signal { signal }) => signal_group(group, &signal),
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

/// A message of the peer's input that the command has not taken yet.
struct Waiting {
    length: usize,
    rest: Bytes,
}

/// Gives the command more of its input, or throws it away where it takes none. May be cancelled.
async fn feed(
    stdin: &mut Option<pipe::Sender>,
    waiting: &mut VecDeque<Waiting>,
    gauge: &Gauge,
) -> io::Result<()> {
    let Some(first) = waiting.front_mut() else { return Ok(()) };
    if let Some(pipe) = stdin {
        let written = pipe.write(&first.rest).await?;
        first.rest.advance(written);
    } else {
        first.rest.clear();
    }
    if first.rest.is_empty() {
        gauge.consumed(first.length);
        waiting.pop_front();
    }
    Ok(())
}

fn signal_group(group: i32, signal: &Sig) {
    let number = from_ssh_name(&crate::ssh::signal_name(signal));
    if let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) {
        // The group is gone only when the command has just ended.
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

fn signal_to_ssh(signal: i32) -> Sig {
    crate::ssh::signal_from_name(&ssh_name(signal))
}
