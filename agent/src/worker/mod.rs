//! A worker: what its server does for those who hold the job's key, and what becomes of the
//! processes that they started.
//!
//! Must not choose algorithms, keys or frames; that is `ssh`.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::env::Environment;
use crate::config::variables::MUSTER_RANK_SOCKET;
use crate::devices::collect::{self, Resolve};
use crate::devices::host::Roots;
use crate::devices::report::Report;
use crate::devices::trouble::{OomCounter, full};
use crate::process::end::{Ended, end, settle};
use crate::process::reaper::Reaper;
use crate::process::scope::Scope;
use crate::process::spawn::{Child, SpawnError};
use crate::process::tree::ProcessId;
use crate::relay::printer::{Print, Printer};
use crate::relay::roll::Roll;
use crate::ssh::access::Access;
use crate::ssh::control::{Hello, ToLauncher};
use crate::ssh::heartbeat::Heartbeat;
use crate::text::matches;

pub mod as_sshd;
pub mod call_back;
pub mod control;
pub mod exec;
pub mod hello;
pub mod lines;
pub mod pid_file;
pub mod plain;
pub mod ranks;
pub mod run;
pub mod server;
pub mod session;
pub mod shell;

/// How old what a hello tells of devices may be: launches that follow each other need not ask a driver
/// each time, and a GPU that was lost an hour ago must not be promised.
pub const FRESH: Duration = Duration::from_secs(60);

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
    /// Variables for every command, over the worker's own and over a peer's.
    pub set_env: Vec<(String, String)>,
    /// How long processes live on when the connection that started them is lost.
    pub orphan_grace: Duration,
    /// Between SIGTERM and SIGKILL when the platform stops this worker.
    pub grace: Duration,
    /// When a silent peer counts as lost.
    pub heartbeat: Heartbeat,
}

/// Between SIGTERM and SIGKILL for processes whose launcher is gone: nobody waits for them.
const ORPHAN_KILL: Duration = Duration::from_secs(2);

/// How long peers may take to hear how their commands ended, when the platform stops this worker;
/// and then once more for them to say good-bye.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// The state of a worker, shared by its connections.
pub struct Worker {
    access: Access,
    hello: Hello,
    /// When it was looked what this host has, and what was seen.
    devices: tokio::sync::Mutex<Option<(Instant, Option<Report>)>>,
    settings: Settings,
    reaper: Reaper,
    connections: AtomicU64,
    launchers: Mutex<HashMap<u64, Launcher>>,
    log: OnceLock<Option<Printer>>,
    started: watch::Sender<()>,
    running: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
}

/// A connection that is a launcher's.
struct Launcher {
    answers: mpsc::Sender<ToLauncher>,
    /// Where wrappers find the desk of this launch, while it is open.
    rank_socket: Option<String>,
    /// Its ranks.
    roll: Arc<Roll>,
    oom: Arc<Mutex<OomCounter>>,
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
    pub fn new(access: Access, hello: Hello, settings: Settings, reaper: Reaper) -> Self {
        Self {
            access,
            hello,
            devices: tokio::sync::Mutex::default(),
            settings,
            reaper,
            connections: AtomicU64::new(0),
            launchers: Mutex::new(HashMap::new()),
            log: OnceLock::new(),
            started: watch::channel(()).0,
            running: watch::channel(0).0,
            phase: watch::channel(Phase::Serving).0,
        }
    }

    /// Who may enter, and what it shows of itself.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// When a silent peer counts as lost.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        self.settings.heartbeat
    }

    /// What it says of itself, once its devices are known.
    pub async fn hello(&self) -> Hello {
        hello::complete(&self.hello, self.devices(FRESH).await)
    }

    /// What this host has, as it was at most so long ago. Looking anew takes [`collect::LIMIT`] at most;
    /// who comes meanwhile waits for the same look.
    pub async fn devices(&self, age: Duration) -> Option<Report> {
        let mut last = self.devices.lock().await;
        if let Some((_, report)) = last.as_ref().filter(|(looked, _)| looked.elapsed() < age) {
            return report.clone();
        }
        let (roots, env) = (Roots::default(), Environment::from_process());
        let report = collect::report(&roots, &env, &self.reaper, Resolve::Nothing).await;
        let report = report.inspect_err(|error| tracing::warn!("failed to {error}")).ok();
        *last = Some((Instant::now(), report.clone()));
        report
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
    pub async fn start(
        &self,
        connection: ConnectionId,
        command: &[u8],
        env: &[(String, String)],
    ) -> Result<Child, SpawnError> {
        let mut env = [env, &self.settings.set_env].concat();
        let socket = self.rank_socket(connection);
        env.extend(socket.map(|name| (MUSTER_RANK_SOCKET.to_owned(), name)));
        let mark = session_mark(connection);
        let child = shell::start(&self.reaper, command, &env, &mark).await?;
        self.started.send_replace(());
        Ok(child)
    }

    /// Changes when a command was started, from now on.
    #[must_use]
    pub fn command_started(&self) -> watch::Receiver<()> {
        self.started.subscribe()
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
    pub fn register_launcher(&self, connection: ConnectionId, answers: mpsc::Sender<ToLauncher>) {
        let launcher = Launcher {
            answers,
            rank_socket: None,
            roll: Arc::default(),
            oom: Arc::new(Mutex::new(OomCounter::new(Roots::default()))),
        };
        self.launchers().insert(connection.0, launcher);
    }

    /// Notes where the wrappers of what this launcher starts find its desk.
    pub fn set_rank_socket(&self, connection: ConnectionId, socket: Option<String>) {
        if let Some(launcher) = self.launchers().get_mut(&connection.0) {
            launcher.rank_socket = socket;
        }
    }

    /// The only waiter here.
    #[must_use]
    pub fn reaper(&self) -> Reaper {
        self.reaper.clone()
    }

    /// The ranks of this launcher.
    #[must_use]
    pub fn roll(&self, connection: ConnectionId) -> Arc<Roll> {
        self.launchers().get(&connection.0).map(|of| Arc::clone(&of.roll)).unwrap_or_default()
    }

    fn rank_socket(&self, connection: ConnectionId) -> Option<String> {
        self.launchers().get(&connection.0).and_then(|of| of.rank_socket.clone())
    }

    /// Tells the launcher of OOM kills since it was last told, if there were any.
    pub async fn tell_of_oom(&self, connection: ConnectionId) {
        let counter = self.launchers().get(&connection.0).map(|of| Arc::clone(&of.oom));
        let kills = counter
            .and_then(|counter| counter.lock().unwrap_or_else(PoisonError::into_inner).look());
        if let Some(kills) = kills {
            self.tell_launcher(connection, ToLauncher::OomKilled(kills)).await;
        }
    }

    /// Tells the launcher what may be the reason for a failure here.
    pub async fn tell_of_trouble(&self, connection: ConnectionId) {
        self.tell_of_oom(connection).await;
        let paths = full().await;
        if !paths.is_empty() {
            self.tell_launcher(connection, ToLauncher::Full { paths }).await;
        }
    }

    /// Tells the launcher of this connection something, if it is there.
    pub async fn tell_launcher(&self, connection: ConnectionId, message: ToLauncher) {
        let answers = self.launchers().get(&connection.0).map(|of| of.answers.clone());
        if let Some(answers) = answers {
            // It has just gone where this fails.
            let _ = answers.send(message).await;
        }
    }

    /// Prints to this worker's own stdout and stderr; none where that cannot be done.
    pub fn log(&self) -> Option<mpsc::Sender<Print>> {
        let start = || {
            let printer = Printer::start(|| ());
            printer.inspect_err(|error| tracing::warn!(%error, "no log of ranks here")).ok()
        };
        self.log.get_or_init(start).as_ref().map(Printer::queue)
    }

    /// Has everything printed, within a moment.
    pub async fn flush_log(&self) {
        if let Some(Some(printer)) = self.log.get() {
            printer.hurry();
            printer.flush().await;
        }
    }

    /// Clears up after a connection, if it was a launcher's.
    ///
    /// A plain SSH client may leave a daemon behind on purpose, as with any sshd; a launcher may
    /// not, however it ended.
    pub fn connection_ended(&self, connection: ConnectionId) {
        if self.launchers().remove(&connection.0).is_none() {
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
        if !self.launchers().contains_key(&connection.0) {
            std::future::pending::<()>().await;
        }
    }

    async fn reached(&self, phase: Phase) {
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    fn launchers(&self) -> MutexGuard<'_, HashMap<u64, Launcher>> {
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
