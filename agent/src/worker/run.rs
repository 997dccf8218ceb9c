//! The life of a worker: listen, say READY, serve, and end cleanly when told to.
//!
//! Must not print anything on stdout but the READY line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{FAREWELL, FRESH, Settings, Worker};
use crate::exit::{Class, Failure};
use crate::process::background::Background;
use crate::process::end::end;
use crate::process::guard::Guarded;
use crate::process::reaper::Reaper;
use crate::process::resident;
use crate::process::scope::Scope;
use crate::ssh::access::Access;
use crate::ssh::control::Hello;
use crate::ssh::keys::JobKey;
use crate::text::{say, voice};
use crate::worker::pid_file::PidFile;
use crate::worker::server::{self, Needs};

/// A worker that is ready to run.
pub struct Config {
    /// Where to listen.
    pub addresses: Vec<SocketAddr>,
    /// Whether each of them is needed.
    pub needs: Needs,
    /// Who may enter, and what to show.
    pub access: Access,
    /// Where to write the number of the process to signal.
    pub pid_file: Option<PathBuf>,
    /// Who waits until it serves, in the foreground.
    pub background: Option<Background>,
    /// What to say of this host.
    pub hello: Hello,
    /// How to behave.
    pub settings: Settings,
}

/// Serves until told to stop.
///
/// # Errors
/// An address cannot be listened on, or the kernel refuses what a worker needs.
pub async fn run(config: Config, guarded: Guarded) -> Result<Class, Failure> {
    let mut stop = StopSignals::listen(guarded)?;
    let reaper = Reaper::start()?;
    let listeners = server::listen(&config.addresses, config.needs)?;
    let bound: Vec<String> = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .map(|address| address.to_string())
        .collect();
    let ready = ready_line(&bound, &config);
    let _pid_file = config.pid_file.map(PidFile::write);
    let grace = config.settings.grace;
    let worker = Arc::new(Worker::new(config.access, config.hello, config.settings, reaper));
    // Begun before anyone asks, so that nobody waits for a slow driver who comes a little later.
    let looking = Arc::clone(&worker);
    tokio::spawn(async move {
        looking.devices(FRESH).await;
        resident::drop_startup_pages();
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(server::accept(listener, Arc::clone(&worker)));
    }
    // Nobody reads it where stdout is closed; serving goes on.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(ready.as_bytes()).and_then(|()| stdout.flush());
    drop(stdout);
    if let Some(background) = config.background {
        background.serves();
    }

    // A log that nobody takes must hold up no connection.
    voice::apart();
    let told = stop.next().await;
    voice::hurry();
    let Some(signal) = told else {
        // Killed is not told: the launchers see the connection end, and take this worker for lost.
        say("the parent process was killed");
        end_unanswering();
        return Ok(Class::Terminated);
    };
    worker.announce_stop();
    say(&format!("received {signal}; commands have {} s to end", grace.as_secs()));
    let connections = accepting.join_all().await;
    let everything = end(Scope::all_descendants(), grace);
    tokio::select! {
        ended = everything => {
            let ended = ended.unwrap_or_default();
            say(&format!("ended: {} by SIGTERM, {} by SIGKILL", ended.termed, ended.killed));
        }
        _ = stop.next() => {
            // A second signal is impatience; the guard above kills what is left, too.
            let _ = end(Scope::all_descendants(), Duration::ZERO).await;
        }
    }
    worker.leave().await;
    let closed = async {
        for connections in connections {
            connections.join_all().await;
        }
    };
    // A peer that does not answer has lost its chance.
    let _ = timeout(FAREWELL, closed).await;
    worker.flush_log().await;
    Ok(Class::Terminated)
}

/// Kills everything, and lets nobody hear meanwhile that all is well: this thread serves the connections.
fn end_unanswering() {
    let ending = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| {
            let _ = runtime.block_on(end(Scope::all_descendants(), Duration::ZERO));
            // A look at a process in a hung driver may never come back.
            runtime.shutdown_background();
        })
    };
    // What it could not end, or where there is no room for a thread, whoever took the parent's place has to.
    let _ = std::thread::Builder::new().spawn(ending).map(std::thread::JoinHandle::join);
}

fn ready_line(bound: &[String], config: &Config) -> String {
    let hello = &config.hello;
    let mpi = match &hello.mpi {
        Some(mpi) => format!("{} {}", mpi.family, mpi.version),
        None => "no mpirun on PATH".into(),
    };
    format!(
        "READY muster {} worker {} on {}, {} CPUs, {mpi}, key {}\n",
        hello.version,
        hello.hostname,
        bound.join(" "),
        hello.cpus,
        config.access.shown().first().map_or(Path::new("none"), JobKey::path).display()
    )
}

/// What tells a worker to stop.
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    parent_gone: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    parent_is_gone: bool,
}

impl StopSignals {
    fn listen(guarded: Guarded) -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(crate::exit::RuntimeError);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            parent_gone: Box::pin(async move {
                // Where it cannot be watched, the kernel's SIGTERM still tells.
                if guarded.parent_gone().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }),
            parent_is_gone: false,
        })
    }

    /// The next signal; none: the guard above this process was killed.
    async fn next(&mut self) -> Option<&'static str> {
        tokio::select! {
            // First, because the guard's end also brings the kernel's SIGTERM.
            biased;
            () = &mut self.parent_gone, if !self.parent_is_gone => {
                self.parent_is_gone = true;
                None
            }
            _ = self.terminate.recv() => Some("SIGTERM"),
            _ = self.interrupt.recv() => Some("SIGINT"),
            _ = self.hang_up.recv() => Some("SIGHUP"),
        }
    }
}
