//! Runs a command over a connection of its own: by hand, from a worker, or to a host outside the job.
//!
//! Must not be on the path of a launch, where the engine has connections already.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::{Outcome, bytes, unwritten, variables};
use crate::config::env::Environment;
use crate::devices::own::user_name;
use crate::discovery::dns::Resolver;
use crate::discovery::lookup::Lookup;
use crate::exit::Explain;
use crate::ids::HostName;
use crate::ssh::client::{Connection, DialError, HostKeys, Login};
use crate::ssh::heartbeat::Heartbeat;
use crate::ssh::keys;
use crate::ssh::options::{Family, RshOptions};
use crate::ssh::remote::{ExecEvent, ExecEvents, ExecStdin};

/// The port of a muster worker.
pub const DEFAULT_PORT: u16 = 2222;

/// For one attempt, where `ConnectTimeout` says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts to connect, at most; operators ask for ten.
const MAX_ATTEMPTS: u32 = 100;

/// Bytes of standard input that are read at a time.
const CHUNK: usize = 32 * 1024;

/// Between attempts, as ssh has it.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the command on the host.
#[must_use]
pub fn run(options: &RshOptions, env: &Environment) -> Outcome {
    let login = match login(options, env) {
        Ok(login) => login,
        Err(outcome) => return *outcome,
    };
    let port = match port(options, env) {
        Ok(port) => port,
        Err(outcome) => return *outcome,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Failed(format!("start a runtime: {error}"), None),
    };
    let outcome = runtime.block_on(converse(options, env, login, port));
    // A read of standard input may never return; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

fn login(options: &RshOptions, env: &Environment) -> Result<Login, Box<Outcome>> {
    let key = match options.identity.first() {
        Some(path) => keys::load(path),
        None => keys::find(&keys::directories(None, env)),
    };
    let key = key.map_err(|error| Box::new(Outcome::Failed(error.to_string(), error.hint())))?;
    let host_keys = match env.non_empty("MUSTER_HOST_KEY") {
        None | Some("job") => HostKeys::Job,
        Some("known-hosts") => HostKeys::KnownHosts,
        Some("any") => HostKeys::Any,
        Some(other) => {
            let words = format!("read MUSTER_HOST_KEY: '{other}' is not job, known-hosts or any");
            return Err(Box::new(Outcome::Failed(words, None)));
        }
    };
    let user = options.user.clone().unwrap_or_else(|| user_name(env));
    let host = options.host_name.clone().unwrap_or_else(|| options.host.to_string());
    Ok(Login { key, user, host_keys, host, heartbeat: Heartbeat::default() })
}

fn port(options: &RshOptions, env: &Environment) -> Result<u16, Box<Outcome>> {
    match (options.port, env.non_empty("MUSTER_PORT")) {
        (Some(port), _) => Ok(port),
        (None, None) => Ok(DEFAULT_PORT),
        (None, Some(text)) => text.parse().map_err(|_| {
            let words = format!("read MUSTER_PORT: '{text}' is not a port number");
            Box::new(Outcome::Failed(words, None))
        }),
    }
}

async fn converse(options: &RshOptions, env: &Environment, login: Login, port: u16) -> Outcome {
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
        outcome = over_own_connection(options, env, login, port) => outcome,
        () = stop => Outcome::Failed("told to stop by a signal".into(), None),
    }
}

async fn over_own_connection(
    options: &RshOptions,
    env: &Environment,
    login: Login,
    port: u16,
) -> Outcome {
    let attempts = options.connection_attempts.unwrap_or(1).clamp(1, MAX_ATTEMPTS);
    let mut attempt = 1;
    let connection = loop {
        match connect(options, &login, port).await {
            Ok(connection) => break connection,
            Err(_) if attempt < attempts => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err((words, hint)) => return Outcome::Failed(words, hint),
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
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let written = match events.next().await {
            ExecEvent::Stdout(data) => write(&mut stdout, &data).await,
            ExecEvent::Stderr(data) => write(&mut stderr, &data).await,
            ExecEvent::Ended(ended) => return Outcome::Ended(ended),
        };
        if let Err(error) = written {
            return unwritten(&error);
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    stream.write_all(data).await?;
    stream.flush().await
}

/// Carries standard input to its end; what comes of it shows itself on the other side.
async fn carry_input(input: &ExecStdin, nothing: bool) -> Infallible {
    let mut stdin = tokio::io::stdin();
    let mut buffer = BytesMut::new();
    loop {
        if nothing {
            break;
        }
        buffer.reserve(CHUNK);
        match stdin.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if input.write(buffer.split().freeze()).await.is_err() {
            break;
        }
    }
    let _ = input.eof().await;
    pending().await
}

/// What failed, and what to do about it.
type Unreached = (String, Option<String>);

async fn connect(options: &RshOptions, login: &Login, port: u16) -> Result<Connection, Unreached> {
    let limit = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let name = HostName::from(login.host.as_str());
    let mut last = (format!("connect to {name}: no address of the wanted family"), None);
    for address in addresses(&name, limit).await.map_err(|words| (words, None))? {
        let wanted = match options.family {
            None => true,
            Some(Family::V4) => address.is_ipv4(),
            Some(Family::V6) => address.is_ipv6(),
        };
        if !wanted {
            continue;
        }
        let peer = SocketAddr::new(address, port);
        match Connection::dial(peer, login.clone(), limit).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                last = (format!("connect to {name} ({peer}): {error}"), hint(&error, login));
            }
        }
    }
    Err(last)
}

async fn addresses(name: &HostName, limit: Duration) -> Result<Vec<IpAddr>, String> {
    match timeout(limit, Resolver::from_system().lookup(name)).await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(format!("resolve {name}: {error}")),
        Err(_) => Err(format!("resolve {name}: no answer in {} s", limit.as_secs())),
    }
}

fn hint(error: &DialError, login: &Login) -> Option<String> {
    let hint = match (error, login.host_keys) {
        (DialError::Refused, _) => {
            "muster workers listen on port 2222, sshd on 22: -p or MUSTER_PORT".into()
        }
        (DialError::NotSsh, _) => "another service has this port: -p or MUSTER_PORT".into(),
        (DialError::WrongHostKey, HostKeys::KnownHosts) => {
            "list the host's key in ~/.ssh/known_hosts (ssh-keyscan prints it)".into()
        }
        (DialError::WrongHostKey, _) => {
            "a stock sshd shows a key of its own: set its HostKey to the job's key, or \
             MUSTER_HOST_KEY=known-hosts here; else another job's worker answers at this address"
                .into()
        }
        (DialError::KeyRefused, _) => format!(
            "{} does not open this host: do both sides mount this job's secret?",
            login.key.path().display()
        ),
        (
            DialError::TimedOut(_)
            | DialError::Closed
            | DialError::Unreachable(_)
            | DialError::Protocol(_),
            _,
        ) => return None,
    };
    Some(hint)
}
