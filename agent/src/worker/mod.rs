//! A worker: what its server does for those who hold the job's key, and what becomes of the
//! processes that they started.
//!
//! Must not choose algorithms, keys or frames; that is `ssh`.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, watch};

use crate::config::env::Environment;
use crate::devices::collect::{self, Resolve};
use crate::devices::host::Roots;
use crate::devices::report::Report;
use crate::process::end::{Ended, end, settle};
use crate::process::reaper::Reaper;
use crate::process::scope::Scope;
use crate::process::spawn::{Child, SpawnError};
use crate::process::tree::ProcessId;
use crate::ssh::control::Hello;
use crate::ssh::keys::JobKey;
use crate::text::matches;

pub mod call_back;
pub mod control;
pub mod exec;
pub mod hello;
pub mod ranks;
pub mod run;
pub mod server;
pub mod session;
pub mod shell;

/// Tells the connections of one worker apart; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a worker behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Variables that a peer may set for its commands, with `*` and `?` as in ssh_config(5).
    pub accept_env: Vec<String>,
    /// How long processes live on when the connection that started them is lost.
    pub orphan_grace: Duration,
    /// Between SIGTERM and SIGKILL when the platform stops this worker.
    pub grace: Duration,
}

/// Between SIGTERM and SIGKILL for processes whose launcher is gone: nobody waits for them.
const ORPHAN_KILL: Duration = Duration::from_secs(2);

/// How long peers may take to hear how their commands ended, when the platform stops this worker;
/// and then once more for them to say good-bye.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// The state of a worker, shared by its connections.
pub struct Worker {
    key: JobKey,
    hello: Hello,
    devices: OnceCell<Option<Report>>,
    settings: Settings,
    reaper: Reaper,
    connections: AtomicU64,
    launchers: Mutex<HashSet<u64>>,
    started: Notify,
    running: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
}

/// How far the end of a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// The platform stops it; its commands have some time to end.
    Stopping,
    /// Nothing runs any more; connections are closed.
    Leaving,
}

/// A command whose end the peer has not been told yet.
pub struct Untold<'a>(&'a Worker);

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

impl Worker {
    /// A worker that will introduce itself with `hello`.
    #[must_use]
    pub fn new(key: JobKey, hello: Hello, settings: Settings, reaper: Reaper) -> Self {
        Self {
            key,
            hello,
            devices: OnceCell::new(),
            settings,
            reaper,
            connections: AtomicU64::new(0),
            launchers: Mutex::new(HashSet::new()),
            started: Notify::new(),
            running: watch::channel(0).0,
            phase: watch::channel(Phase::Serving).0,
        }
    }

    /// The job's key.
    #[must_use]
    pub fn key(&self) -> &JobKey {
        &self.key
    }

    /// What it says of itself, once its devices are known.
    pub async fn hello(&self) -> Hello {
        Hello { devices: self.devices().await.clone(), ..self.hello.clone() }
    }

    /// What this host has. Asked for once, in [`collect::LIMIT`] at most, so the sooner the better.
    pub async fn devices(&self) -> &Option<Report> {
        let look = async || {
            let (roots, env) = (Roots::default(), Environment::from_process());
            let report = collect::report(&roots, &env, &self.reaper, Resolve::Nothing).await;
            report.inspect_err(|error| tracing::warn!("failed to {error}")).ok()
        };
        self.devices.get_or_init(look).await
    }

    /// A number for a new connection.
    #[must_use]
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Whether a peer may set this variable for its commands.
    #[must_use]
    pub fn accepts_variable(&self, name: &str) -> bool {
        self.settings.accept_env.iter().any(|pattern| matches(pattern, name))
    }

    /// Starts a command for a connection.
    ///
    /// # Errors
    /// See [`SpawnError`].
    pub fn start(
        &self,
        connection: ConnectionId,
        command: &[u8],
        env: &[(String, String)],
    ) -> Result<Child, SpawnError> {
        let child = shell::start(&self.reaper, command, env, &session_mark(connection))?;
        self.started.notify_waiters();
        Ok(child)
    }

    /// Rings when a command was started.
    #[must_use]
    pub fn command_started(&self) -> &Notify {
        &self.started
    }

    /// Ends a command whose peer left, and what descends from it, after the orphan grace.
    pub fn abandon(&self, process: ProcessId) {
        let grace = self.settings.orphan_grace;
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            report(end(Scope::of([process]), ORPHAN_KILL).await, "a peer that left");
        });
    }

    /// Notes that this connection is a launcher's: what it starts must not outlive it.
    pub fn is_launcher(&self, connection: ConnectionId) {
        self.launchers().insert(connection.0);
    }

    /// Clears up after a connection, if it was a launcher's.
    ///
    /// A plain SSH client may leave a daemon behind on purpose, as with any sshd; a launcher may
    /// not, however it ended.
    pub fn connection_ended(&self, connection: ConnectionId) {
        if !self.launchers().remove(&connection.0) {
            return;
        }
        let grace = self.settings.orphan_grace;
        tokio::spawn(async move {
            let scope = Scope::of([]).session(&session_mark(connection));
            tokio::time::sleep(grace).await;
            report(end(scope, ORPHAN_KILL).await, "a launcher that is gone");
        });
    }

    /// Ends everything that a connection started, after it had some time to end by itself.
    pub async fn end_session(
        &self,
        connection: ConnectionId,
        patience: Duration,
        grace: Duration,
    ) -> Ended {
        let scope = Scope::of([]).session(&session_mark(connection));
        let ending = async { end(settle(scope, patience).await?, grace).await };
        ending.await.unwrap_or_else(|error| {
            tracing::error!(%error, "clearing up failed");
            Ended::default()
        })
    }

    /// Counts a command until its peer has been told how it ended.
    pub fn untold(&self) -> Untold<'_> {
        self.running.send_modify(|running| *running += 1);
        Untold(self)
    }

    /// Tells the launchers that the platform stops this worker.
    pub fn announce_stop(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// Resolves, with the grace, when the platform stops this worker.
    pub async fn stop_announced(&self) -> Duration {
        self.reached(Phase::Stopping).await;
        self.settings.grace
    }

    /// Waits until every peer knows how its commands ended, then has the launchers' connections closed.
    pub async fn leave(&self) {
        let mut running = self.running.subscribe();
        // The senders live in self, so waiting cannot fail.
        let told = running.wait_for(|running| *running == 0);
        let _ = tokio::time::timeout(FAREWELL, told).await;
        self.phase.send_replace(Phase::Leaving);
    }

    /// Resolves when this connection is to be closed. Never for those that are no launcher's: they
    /// close it themselves when their commands have ended, and OpenSSH's ssh forgets how they did
    /// where the server is first.
    pub async fn left(&self, connection: ConnectionId) {
        self.reached(Phase::Leaving).await;
        if !self.launchers().contains(&connection.0) {
            std::future::pending::<()>().await;
        }
    }

    async fn reached(&self, phase: Phase) {
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    fn launchers(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.launchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark in the environment of everything that a connection starts, unique on the host.
fn session_mark(connection: ConnectionId) -> String {
    format!("{}.{connection}", std::process::id())
}

fn report(ended: Result<Ended, crate::process::end::EndError>, of: &str) {
    match ended {
        Ok(ended) if ended == Ended::default() => {}
        Ok(Ended { termed, killed, left }) => {
            tracing::info!(termed, killed, left = left.len(), "ended the processes of {of}");
        }
        Err(error) => tracing::error!(%error, "clearing up failed"),
    }
}
