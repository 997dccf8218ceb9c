//! One command on a channel: its three streams, its signals and its end, carried to the peer.
//!
//! Must not choose what is run or how; it moves bytes and reports the end once.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

use super::session::Line;
use super::wire::{self, Gauge};
use crate::exit::Explain;
use crate::process::reaper::Exited;
use crate::process::spawn::Child;
use crate::process::status::{WaitStatus, from_ssh_name, ssh_name};

/// How long the output of a command that has ended is still read when nothing comes any more: a
/// process that it left behind may hold the pipe open for ever.
const LINGER: Duration = Duration::from_millis(500);

/// SSH's number of the standard error stream (RFC 4254 section 5.2).
const STDERR: u32 = 1;

/// Runs `command` and closes the channel when it has ended; ends it when the peer goes away first.
pub async fn serve(line: Line, command: Vec<u8>, env: Vec<(String, String)>) {
    let Line { link, mut read, write, handle, gauge } = line;
    let id = link.id;
    let child = match link.worker.start(id, &command, &env) {
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
    let output = pump(stdout, &write, None, after_exit.clone());
    let errors = pump(stderr, &write, Some(STDERR), after_exit);
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
    match status.map(|Exited { status, .. }| status) {
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
async fn listen(
    read: &mut ChannelReadHalf,
    mut stdin: Option<pipe::Sender>,
    gauge: &Gauge,
    group: i32,
) {
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if let Some(pipe) = &mut stdin
                    && write_or_leave(pipe, &data).await.is_err()
                {
                    // The command closed its input; what still comes is thrown away.
                    stdin = None;
                }
                gauge.consumed(data.len());
            }
            Some(ChannelMsg::Eof) => stdin = None,
            Some(ChannelMsg::Signal { signal }) => signal_group(group, &signal),
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

async fn write_or_leave(pipe: &mut pipe::Sender, data: &Bytes) -> io::Result<()> {
    pipe.write_all(data).await
}

fn signal_group(group: i32, signal: &Sig) {
    let number = from_ssh_name(&super::signal_name(signal));
    if let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) {
        // The group is gone only when the command has just ended.
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

fn signal_to_ssh(signal: i32) -> Sig {
    super::signal_from_name(&ssh_name(signal))
}

/// Carries one output stream to the peer, as fast as the peer takes it.
async fn pump(
    pipe: Option<pipe::Receiver>,
    write: &ChannelWriteHalf<Msg>,
    stream: Option<u32>,
    mut exited: watch::Receiver<bool>,
) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(wire::PACKET as usize);
        let over = *exited.borrow();
        let read = if over {
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
        let data = buffer.split().freeze();
        let sent = match stream {
            None => write.data_bytes(data).await,
            Some(stream) => write.extended_data_bytes(stream, data).await,
        };
        if sent.is_err() {
            return;
        }
    }
}
