//! Runs a command over a connection of its own: by hand, from a worker, or to a host outside the job.
//!
//! Must not be on the path of a launch, where the engine has connections already.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::{Outcome, bytes, variables};
use crate::config::env::Environment;
use crate::discovery::dns::Resolver;
use crate::discovery::lookup::Lookup;
use crate::exit::Explain;
use crate::ids::HostName;
use crate::ssh::client::{Connection, DialError, ExecEvent, HostKeys, Login};
use crate::ssh::keys;
use crate::ssh::options::{Family, RshOptions};

/// The port of a muster worker.
pub const DEFAULT_PORT: u16 = 2222;

/// For one attempt, where `ConnectTimeout` says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts to connect, at most; operators ask for ten.
const MAX_ATTEMPTS: u32 = 100;

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
    Ok(Login { key, user, host_keys })
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

/// The name to log in by: of this user, or of its number where it has none.
#[must_use]
pub fn user_name(env: &Environment) -> String {
    let uid = nix::unistd::geteuid();
    let by_passwd = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    env.non_empty("USER")
        .map(ToOwned::to_owned)
        .or_else(by_passwd)
        .unwrap_or_else(|| uid.to_string())
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
            Err(failure) => return Outcome::Failed(failure, hint(&login, port)),
        }
    };
    let env = variables(options, env);
    let exec = match connection.exec(bytes(&options.command), &env).await {
        Ok(exec) => exec,
        Err(error) => return Outcome::Failed(error.to_string(), None),
    };
    let (mut events, input) = exec.split();
    let mut carrying = Box::pin(async {
        let mut stdin = tokio::io::stdin();
        loop {
            if options.stdin_null {
                break;
            }
            let mut buffer = vec![0; 32 * 1024];
            match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => buffer.truncate(n),
            }
            if input.write(Bytes::from(buffer)).await.is_err() {
                return;
            }
        }
        // The connection's end shows itself on the other side.
        let _ = input.eof().await;
    });
    let mut input_open = true;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut carrying, if input_open => {
                input_open = false;
                continue;
            }
        };
        let written = match event {
            ExecEvent::Stdout(data) => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(&data).and_then(|()| stdout.flush())
            }
            ExecEvent::Stderr(data) => std::io::stderr().write_all(&data),
            ExecEvent::Ended(ended) => {
                connection.close().await;
                return Outcome::Ended(ended);
            }
        };
        if let Err(error) = written {
            return Outcome::Failed(format!("write the command's output: {error}"), None);
        }
    }
}

async fn connect(options: &RshOptions, login: &Login, port: u16) -> Result<Connection, String> {
    let limit = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let name = match &options.host_name {
        Some(name) => HostName::from(name.as_str()),
        None => options.host.clone(),
    };
    let mut last = format!("connect to {name}: no address of the wanted family");
    for address in addresses(&name, limit).await? {
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
            Err(error) => last = format!("connect to {name} ({peer}): {}", words(&error, login)),
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

fn words(error: &DialError, login: &Login) -> String {
    let key: &Path = login.key.path();
    match error {
        DialError::KeyRefused => format!("{error} ({})", key.display()),
        other => other.to_string(),
    }
}

fn hint(login: &Login, port: u16) -> Option<String> {
    (login.host_keys == HostKeys::Job).then(|| {
        format!(
            "muster workers listen on 2222 (asked for port {port}: -p or MUSTER_PORT); a stock sshd \
             with a host key of its own needs MUSTER_HOST_KEY=known-hosts"
        )
    })
}
