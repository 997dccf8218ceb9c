//! Hands a command to the launcher's engine and carries its streams, without a runtime.
//!
//! Must stay small: a thousand of these may run at once. It leaves every host to the engine that the
//! engine reaches by the way that the command line asks for: port, user, key.

use std::io::{self, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat, makedev};
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

/// Bytes that are read of the engine at a time: enough for its answer and the end, which is mostly all.
const ANSWER: usize = 512;

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
    let request = serde_json::to_vec(&request)?;
    let call = [(Kind::Request, &request[..]), (Kind::Command, bytes(&options.command))];
    send(&mut &**stream, &call)?;
    let mut answers = BufReader::with_capacity(ANSWER, &**stream);
    let mut buffer = Vec::new();
    // Nothing of the input is touched before: it may be for a connection of our own.
    match receive(&mut answers, &mut buffer)? {
        Kind::Ours => {}
        Kind::NotOurs => {
            for handler in handlers {
                unregister(handler);
            }
            return Ok(None);
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let mut silent = !options.stdin_null && !is_null(io::stdin());
    if !silent {
        end_input(stream);
    }
    resident::drop_startup_pages();
    loop {
        if silent && answers.buffer().is_empty() {
            silent = await_input(stream)?;
        }
        let written = match receive(&mut answers, &mut buffer)? {
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

/// Whether a file is /dev/null, as Open MPI has it for its agents.
fn is_null(file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        kind == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3)
    })
}

/// Waits for the input or the engine, and has the input carried once it has something to say; tells whether
/// it has not yet. Only then it needs a thread, which Hydra's agents never do.
fn await_input(stream: &Arc<UnixStream>) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut either = [stdin.as_fd(), stream.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    while let Err(error) = poll(&mut either, PollTimeout::NONE) {
        if error != Errno::EINTR {
            return Err(error.into());
        }
    }
    match either[0].revents() {
        Some(said) if said.is_empty() => return Ok(true),
        Some(PollFlags::POLLHUP) => end_input(stream),
        _ => {
            let input = Arc::clone(stream);
            // Ends with the process: a read of a terminal cannot be called back.
            std::thread::Builder::new().stack_size(64 * 1024).spawn(move || carry_input(&input))?;
        }
    }
    Ok(false)
}

/// Carries standard input until it ends.
fn carry_input(stream: &UnixStream) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let sent = match read(io::stdin(), &mut buffer) {
            Ok(0) => return end_input(stream),
            Ok(n) => send(&mut &*stream, &[(Kind::Stdin, &buffer[..n])]),
            Err(_) => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn end_input(mut stream: &UnixStream) {
    // A command that has ended already needs no input; how it did is still to be read.
    let _ = send(&mut stream, &[(Kind::StdinEnd, &[])]);
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
