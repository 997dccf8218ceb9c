//! The server on a worker: listens, bounds what strangers can take, hands connections over.
//!
//! Must not know what a connection is used for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use russh::server::{self, Config};
use russh::{Disconnect, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Worker;
use super::session::{Handler, Link};
use crate::exit::{Class, Explain};
use crate::ssh::access::Access;
use crate::ssh::heartbeat::Heartbeat;
use crate::ssh::wire::{self, Brake};
use crate::text::say;

/// How long a peer may take to prove that it holds the job's key.
const LOGIN_GRACE: Duration = Duration::from_secs(20);

/// Peers that may be proving it at one time. A launcher makes one connection, tree spawn a few;
/// the rest of the room is for port scanners, which must not lock the launcher out. Each costs two
/// descriptors, and commands need what is left of the usual 1,024.
const MAX_STRANGERS: usize = 256;

/// How long accepting rests when the process is out of file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("listen on {address}: {source}")]
    Bind {
        /// As asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl Explain for ListenError {
    fn class(&self) -> Class {
        let Self::Bind { source, .. } = self;
        match source.kind() {
            io::ErrorKind::AddrNotAvailable => Class::Config,
            _ => Class::LocalResource,
        }
    }

    fn hint(&self) -> Option<String> {
        let Self::Bind { address, source } = self;
        let port = address.port();
        Some(match source.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another process has port {port}, perhaps another pod of this node under \
                 hostNetwork; choose another with --port or MUSTER_PORT, 0 picks a free one"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("port {port} needs root or CAP_NET_BIND_SERVICE; choose one above 1023")
            }
            _ => "--listen takes an address of this host, or 0.0.0.0 or [::] for all".into(),
        })
    }
}

/// How many of several addresses a worker needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// All of them: they were asked for.
    All,
    /// Any one: they are the usual ones.
    One,
}

/// One socket for both families where the kernel has IPv6, as Linux has it by default.
#[must_use]
pub fn everywhere() -> IpAddr {
    let six = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Opens the listeners.
///
/// # Errors
/// The first address that cannot be had, where it is needed.
pub fn listen(addresses: &[SocketAddr], needs: Needs) -> Result<Vec<TcpListener>, ListenError> {
    let open = |address: &SocketAddr| {
        let bind = || {
            let socket = match address {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
            }?;
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            socket.listen(4096)
        };
        bind().map_err(|source| ListenError::Bind { address: *address, source })
    };
    let opened: Vec<Result<TcpListener, ListenError>> = addresses.iter().map(open).collect();
    if needs == Needs::All || opened.iter().all(Result::is_err) {
        return opened.into_iter().collect();
    }
    let told = opened.into_iter().filter_map(|one| {
        one.inspect_err(|error| say(&format!("goes on without that: failed to {error}"))).ok()
    });
    Ok(told.collect())
}

/// What russh needs to know to serve with the host keys of `access`, and what is derived from them; a
/// client that is silent for longer than `heartbeat` allows is given up.
#[must_use]
pub fn config(access: &Access, heartbeat: Heartbeat) -> Arc<Config> {
    Arc::new(Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_secs(1),
        // The first question of every OpenSSH client is "none"; it costs nothing to say no at once.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: access.host_keys(),
        window_size: wire::WINDOW,
        maximum_packet_size: wire::PACKET,
        channel_buffer_size: wire::CHANNEL_MESSAGES,
        preferred: wire::algorithms(),
        max_auth_attempts: 6,
        inactivity_timeout: None,
        keepalive_interval: Some(heartbeat.worker_keepalive()),
        keepalive_max: wire::KEEPALIVE_MISSES,
        nodelay: true,
        ..Config::default()
    })
}

/// Accepts until the platform stops the worker; returns the connections that are open then.
pub async fn accept(listener: TcpListener, worker: Arc<Worker>) -> JoinSet<()> {
    let config = config(worker.access(), worker.heartbeat());
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = worker.stop_announced() => return connections,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&strangers).try_acquire_owned() {
                Ok(permit) => {
                    let serving = serve(stream, peer, Arc::clone(&worker), config.clone(), permit);
                    connections.spawn(serving);
                }
                Err(_) => tracing::warn!(%peer, "refused: {MAX_STRANGERS} unproven connections"),
            },
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    worker: Arc<Worker>,
    config: Arc<Config>,
    permit: OwnedSemaphorePermit,
) {
    let authenticated = Arc::new(Notify::new());
    let link = Link {
        id: worker.next_connection(),
        worker: Arc::clone(&worker),
        brake: Brake::default(),
        authenticated: Arc::clone(&authenticated),
    };
    let id = link.id;
    // A peer that resets right away shows itself at the first read.
    let _ = stream.set_nodelay(true);
    // russh cannot drop a session from outside; closing the socket under it can.
    let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
    let login = async {
        let session = server::run_stream(config, stream, Handler::new(link)).await?;
        Ok::<_, russh::Error>(session)
    };
    let deadline = tokio::time::Instant::now() + LOGIN_GRACE;
    let mut session = match tokio::time::timeout_at(deadline, login).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "not an SSH client"),
        Err(_) => return tracing::debug!(%peer, "no SSH greeting within {LOGIN_GRACE:?}"),
    };
    tokio::select! {
        // First, so that what a peer started is cleared up also where it has left again already.
        biased;
        () = authenticated.notified() => drop((permit, socket)),
        ended = &mut session => {
            return tracing::debug!(%peer, ?ended, "ended before it was authenticated");
        }
        () = tokio::time::sleep_until(deadline) => {
            tracing::debug!(%peer, "not authenticated within {LOGIN_GRACE:?}");
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
            return;
        }
    }
    tracing::debug!(%peer, %id, "authenticated");
    let handle = session.handle();
    let ended = tokio::select! {
        ended = &mut session => ended,
        () = worker.left(id) => {
            let why = "this worker was told to stop".to_owned();
            // Where this fails the connection is gone.
            let _ = handle.disconnect(Disconnect::ByApplication, why, String::new()).await;
            session.await
        }
    };
    tracing::debug!(%peer, %id, ?ended, "connection ended");
    worker.connection_ended(id);
}
