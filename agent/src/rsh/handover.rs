//! Hands a command to the launcher's engine and carries its streams, without a runtime.
//!
//! Must stay small: a thousand of these may run at once. It leaves every host to the engine that the
//! engine reaches by the way that the command line asks for: port, user, key.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use nix::libc;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::unregister;

use super::streams::{read, write_all};
use super::target::key_asked;
use super::{FAILED, Outcome, bytes, variables};
use crate::config::env::Environment;
use crate::launch::socket::{Kind, Request, STOPPED, WayAsked, receive, send};
use crate::process::resident;
use crate::ssh::options::RshOptions;
use crate::ssh::remote::Ended;

/// Bytes of standard input that are read at a time.
const CHUNK: usize = 32 * 1024;

/// Runs the command through the engine; none where there is no engine, the host is none of its job's,
/// or the command line asks for another way to it than the engine's.
#[must_use]
pub fn run(socket: &Path, options: &RshOptions, env: &Environment) -> Option<Outcome> {
    // A rank on a worker inherits the variable under Hydra, but not the socket.
    let stream = Arc::new(UnixStream::connect(socket).ok()?);
    match converse(&stream, options, env) {
        Ok(outcome) => outcome,
        Err(error) => {
            let words = format!("hear from the launcher's engine at {}: {error}", socket.display());
            Some(Outcome::Failed(words, None))
        }
    }
}

fn converse(
    stream: &Arc<UnixStream>,
    options: &RshOptions,
    env: &Environment,
) -> io::Result<Option<Outcome>> {
    let handlers = stop_on_signals(stream)?;
    let (port, user, key) = (options.port, options.user.clone(), key_asked(options, env));
    let request = Request {
        host: options.host_name.clone().unwrap_or_else(|| options.host.to_string()),
        env: variables(options, env),
        way: WayAsked { port, user, key },
    };
    send(stream, Kind::Request, &serde_json::to_vec(&request)?)?;
    send(stream, Kind::Command, bytes(&options.command))?;
    let mut buffer = Vec::new();
    // Nothing of the input is touched before: it may be for a connection of our own.
    match receive(stream, &mut buffer)? {
        Kind::Ours => {}
        Kind::NotOurs => {
            for handler in handlers {
                unregister(handler);
            }
            return Ok(None);
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    if options.stdin_null {
        // A command that has ended already needs no input; how it did is still to be read.
        let _ = send(stream, Kind::StdinEnd, &[]);
    } else {
        let input = Arc::clone(stream);
        // Ends with the process: a read of a terminal cannot be called back.
        std::thread::Builder::new().stack_size(64 * 1024).spawn(move || carry_input(&input))?;
    }
    resident::drop_startup_code();
    loop {
        let written = match receive(stream, &mut buffer)? {
            Kind::Stdout => write_all(io::stdout(), &buffer),
            Kind::Stderr => write_all(io::stderr(), &buffer),
            Kind::Ended => {
                let ended: Ended = serde_json::from_slice(&buffer)?;
                return Ok(Some(Outcome::Ended(ended)));
            }
            Kind::Failed => {
                let words = String::from_utf8_lossy(&buffer).into_owned();
                return Ok(Some(Outcome::Failed(words, None)));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if let Err(error) = written {
            return Ok(Some(super::unwritten(&error)));
        }
    }
}

/// Carries standard input until it ends.
fn carry_input(stream: &UnixStream) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let sent = match read(io::stdin(), &mut buffer) {
            Ok(0) => {
                let _ = send(stream, Kind::StdinEnd, &[]);
                return;
            }
            Ok(n) => send(stream, Kind::Stdin, &buffer[..n]),
            Err(_) => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// mpirun ends its agents by a signal. The engine must learn that this is no accident, and the
/// process must end with 255, never of the signal.
fn stop_on_signals(stream: &UnixStream) -> io::Result<Vec<SigId>> {
    let fd = stream.as_raw_fd();
    let stop = move || {
        // Not even where the engine's end is full may this wait.
        // SAFETY: send is async-signal-safe, the buffer is static, and the descriptor is open for
        // as long as the handler is registered.
        unsafe {
            libc::send(
                fd,
                STOPPED.as_ptr().cast(),
                STOPPED.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        signal_hook::low_level::exit(FAILED.into());
    };
    // SAFETY: the handler calls nothing but send and _exit.
    let register = |signal| unsafe { signal_hook::low_level::register(signal, stop) };
    [SIGTERM, SIGINT, SIGHUP].into_iter().map(register).collect()
}
