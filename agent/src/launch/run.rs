//! The one loop of a launch: what happens goes to the policy, what follows is done.
//!
//! Must not decide; [`Dispatch`] does.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::dispatch::{Dispatch, Expected};
use super::engine::Engine;
use super::event::{Cause, Ending, Event, Response, Stop, Timer};
use super::fleet::Fleet;
use super::journal::{Journal, State};
use super::lines::{Lines, Oom};
use super::terminal;
use super::witness::Witness;
use crate::config::variables::MUSTER_SESSION;
use crate::exit::{Failure, RuntimeError};
use crate::ids::HostName;
use crate::output::clock::Micros;
use crate::plan::{Family, Plan};
use crate::process::end::{end, settle};
use crate::process::guard::Guarded;
use crate::process::reaper::Reaper;
use crate::process::resident;
use crate::process::scope::Scope;
use crate::process::spawn::{Child, spawn};
use crate::process::status::WaitStatus;
use crate::rank::gpus::Allotment;
use crate::relay::Report;
use crate::relay::printer::LastWords;
use crate::relay::roll::Roll;
use crate::ssh::control::{Still, ToWorker};
use crate::text::{say, voice};
use crate::worker::ranks;

/// Events that may wait for the loop.
const EVENTS: usize = 1024;

/// Signals closer together than this are one wish: a shell's `kill %1` reaches this process directly
/// and through its guard, and a second wish means "now".
const ONE_KEYSTROKE: Duration = Duration::from_millis(500);

/// Beyond what ending local processes takes by itself.
const CLEAR_LIMIT: Duration = Duration::from_secs(20);

/// Where events go, and where they come from.
pub struct Events {
    /// For those to whom things happen.
    pub sender: mpsc::Sender<Event>,
    /// For the loop.
    pub inbox: mpsc::Receiver<Event>,
}

impl Events {
    /// Events, with those from outside on their way already: signals and the guard's death.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub fn watch(guarded: Guarded) -> Result<Self, Failure> {
        let (sender, inbox) = mpsc::channel(EVENTS);
        for (kind, stop) in [
            (SignalKind::terminate(), Stop::Terminate),
            (SignalKind::interrupt(), Stop::Interrupt),
            (SignalKind::hangup(), Stop::HangUp),
        ] {
            let mut signals = signal(kind).map_err(RuntimeError)?;
            let events = sender.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    voice::hurry();
                    if events.send(Event::Stop(stop)).await.is_err() {
                        return;
                    }
                    let one = Instant::now() + ONE_KEYSTROKE;
                    while timeout_at(one, signals.recv()).await.is_ok_and(|more| more.is_some()) {}
                }
            });
        }
        let events = sender.clone();
        tokio::spawn(async move {
            // Where it cannot be watched, the kernel's SIGTERM still tells.
            if guarded.parent_gone().await.is_ok() {
                voice::hurry();
                let _ = events.send(Event::ParentGone).await;
            }
        });
        Ok(Self { sender, inbox })
    }

    /// Resolves when muster is told to stop; other events before a launch mean nothing.
    pub async fn stopped(&mut self) -> Stop {
        loop {
            match self.inbox.recv().await {
                Some(Event::Stop(stop)) => return stop,
                Some(Event::ParentGone) | None => return Stop::Terminate,
                Some(_) => {}
            }
        }
    }
}

/// A launch whose plan is made and whose files are written.
pub struct Launch {
    /// What to start.
    pub plan: Plan,
    /// Whose daemons are watched.
    pub family: Family,
    /// What to hold it to.
    pub expected: Expected,
    /// Where it runs.
    pub fleet: Arc<Fleet>,
    /// The engine's socket.
    pub listener: UnixListener,
    /// The name under which wrappers look for a desk.
    pub rank_socket: String,
    /// Whether ranks may write to the logs of their pods.
    pub pod_logs: bool,
    /// The GPUs of this machine, for ranks that run on it.
    pub gpus: Option<Allotment>,
    /// How often workers are to give signs of life.
    pub heartbeat: Duration,
    /// Starts and reaps.
    pub reaper: Reaper,
}

/// How a launch ended, and what mpirun said.
#[derive(Debug)]
pub struct Over {
    /// What the policy knows.
    pub ending: Ending,
    /// Of mpirun's output as much as is kept.
    pub said: Vec<u8>,
    /// The end of each rank's stderr.
    pub last_words: Vec<LastWords>,
}

/// Runs it to the end.
///
/// # Errors
/// mpirun cannot be started.
pub async fn run(
    launch: Launch,
    mut events: Events,
    witness: &mut Witness,
    journal: &mut Journal,
) -> Result<Over, Failure> {
    let Launch { plan, family, expected, fleet, listener, .. } = launch;
    let Launch { rank_socket, pod_logs, gpus, heartbeat, reaper, .. } = launch;
    // A reader that stalls must hold up no loop: workers would take this launcher for lost.
    voice::apart();
    let (oom, own) = (Oom::count(), (gpus, &reaper));
    let mut lines = Lines::open(&fleet, &rank_socket, pod_logs, own, &oom, &events.sender).await?;
    if !lines.without.is_empty() {
        let hosts: Vec<&str> = lines.without.iter().map(HostName::short).collect();
        say(&format!("warning: mpirun carries the lines of {}", hosts.join(", ")));
    }
    if let (true, Some(host)) = (pod_logs, fleet.workers().next()) {
        let host = host.short();
        say(&format!("what ranks print is in the logs of their pods: kubectl logs {host}, …"));
    }
    let engine = Engine {
        fleet: Arc::clone(&fleet),
        family,
        reaper: reaper.clone(),
        rank_socket,
        env: plan.daemon_env.clone(),
        events: events.sender.clone(),
    };
    tokio::spawn(engine.serve(listener));
    let heartbeat_ms = u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX);
    fleet.tell_workers(&ToWorker::Watch { heartbeat_ms }).await;
    let mut mpirun = start(&plan, &reaper)?;
    journal.reached("spawn");
    journal.state(State::Launching, json!({ "ranks": plan.ranks, "fabric": plan.fabric }));
    let (exited, after_exit) = watch::channel(false);
    lines.follow_mpirun(&mut mpirun, &after_exit);
    let group = mpirun.id.pid;
    let _terminal = terminal::lend(group);
    report_end(mpirun, exited, (oom, fleet.here().clone()), events.sender.clone());
    watch_here(fleet.here(), lines.roll(), heartbeat, &events.sender);

    let (sender, roll) = (events.sender.clone(), lines.roll());
    let mut acting = Acting { group, fleet, roll, sender, clearing: None };
    let mut dispatch = Dispatch::new(expected);
    loop {
        let Some(event) = events.inbox.recv().await else {
            unreachable!("`acting` holds a sender")
        };
        tracing::debug!(?event);
        witness.see(&event, Micros::from(SystemTime::now()));
        match &event {
            Event::Rank(_, Report::Started(..)) => journal.reached("first_rank"),
            Event::WorkerLost(host, _) => lines.lost(host),
            _ => {}
        }
        for response in dispatch.handle(event) {
            tracing::debug!(?response);
            match response {
                Response::Finish(ending) => {
                    acting.finish().await;
                    if matches!(ending.cause, Some(Cause::Told(_))) {
                        lines.printer().hurry();
                    }
                    let last_words = print_the_rest(&mut lines, &mut events, witness).await;
                    acting.fleet.close().await;
                    return Ok(Over { ending, said: lines.heard(), last_words });
                }
                Response::State(state, why) => {
                    match state {
                        State::Running => {
                            journal.reached("all_ranks");
                            resident::drop_startup_pages();
                        }
                        State::Failing => witness.failing(Micros::from(SystemTime::now())),
                        State::Queued | State::Waiting | State::Launching | State::Ended => {}
                    }
                    journal.state(state, json!({ "why": why }));
                }
                other => acting.perform(other).await,
            }
        }
    }
}

/// Watches the ranks of this machine, as workers watch theirs.
fn watch_here(here: &HostName, roll: Arc<Roll>, pause: Duration, events: &mpsc::Sender<Event>) {
    let (host, sender) = (here.clone(), events.clone());
    tokio::spawn(async move {
        let report = |ranks| Event::Ranks(host.clone(), ranks);
        // mpirun has just started.
        let (mpirun, started) = watch::channel(());
        mpirun.send_replace(());
        ranks::watch(started, &sender, report).await;
    });
    let (host, sender) = (here.clone(), events.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
            let still = roll.still().map(Still::from);
            if sender.send(Event::Still(host.clone(), still)).await.is_err() {
                return;
            }
        }
    });
}

/// Prints what ranks wrote and is still on its way, and hears how those ended that mpirun did not outlive by
/// long; somebody who wants an end gets it.
async fn print_the_rest(
    lines: &mut Lines,
    events: &mut Events,
    witness: &mut Witness,
) -> Vec<LastWords> {
    let printer = lines.printer();
    let printed = lines.finish();
    tokio::pin!(printed);
    let mut hear = |event: &Event| {
        if let Event::Rank(_, Report::Started(..) | Report::Ended(_, Some(_))) = event {
            witness.see(event, Micros::from(SystemTime::now()));
        }
    };
    let printed = loop {
        tokio::select! {
            printed = &mut printed => break printed,
            Some(event) = events.inbox.recv() => match event {
                Event::Stop(_) | Event::ParentGone => printer.hurry(),
                event => hear(&event),
            },
        }
    };
    while let Ok(event) = events.inbox.try_recv() {
        hear(&event);
    }
    if !printed.all {
        say("warning: the last lines of some host did not come");
    }
    printed.last_words
}

fn start(plan: &Plan, reaper: &Reaper) -> Result<Child, Failure> {
    let mut words = plan.argv.iter();
    let program = words.next().cloned().unwrap_or_else(|| OsString::from("mpirun"));
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A launch inside another's session: Hydra would carry that mark to the hosts, over theirs.
    command.env_remove(MUSTER_SESSION);
    for setting in plan.env.iter().filter(|setting| !setting.kept) {
        command.env(&setting.name, &setting.value);
    }
    Ok(spawn(reaper, command)?)
}

fn report_end(
    mpirun: Child,
    exited: watch::Sender<bool>,
    (oom, here): (Oom, HostName),
    events: mpsc::Sender<Event>,
) {
    tokio::spawn(async move {
        let status = match mpirun.exit.await {
            Ok(exited) => exited.status,
            Err(error) => {
                tracing::error!(%error, "the end of mpirun is unknown");
                WaitStatus::Exited(crate::exit::Class::Internal.code())
            }
        };
        exited.send_replace(true);
        if matches!(status, WaitStatus::Signaled { .. }) {
            oom.tell(&here, &events).await;
        }
        let _ = events.send(Event::MpirunEnded(status)).await;
    });
}

/// The hands of the loop.
struct Acting {
    group: i32,
    fleet: Arc<Fleet>,
    roll: Arc<Roll>,
    sender: mpsc::Sender<Event>,
    clearing: Option<JoinHandle<()>>,
}

impl Acting {
    async fn perform(&mut self, response: Response) {
        match response {
            Response::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    // The group is gone only when mpirun has just ended.
                    let _ = killpg(Pid::from_raw(self.group), signal);
                }
            }
            Response::SignalRanks(signal) => {
                self.roll.signal(signal);
                self.fleet.tell_workers(&ToWorker::SignalRanks { signal }).await;
            }
            Response::ClearHere { patience, grace } => {
                self.clearing = Some(tokio::spawn(async move {
                    let everything = Scope::all_descendants();
                    let ending = async { end(settle(everything, patience).await?, grace).await };
                    if let Err(error) = ending.await {
                        tracing::error!(%error, "clearing up failed");
                    }
                }));
            }
            Response::ClearWorkers { patience, grace } => {
                let [patience_ms, grace_ms] =
                    [patience, grace].map(|time| u64::try_from(time.as_millis()).unwrap_or(0));
                self.fleet.tell_workers(&ToWorker::End { patience_ms, grace_ms }).await;
            }
            Response::Arm(timer, after) => self.arm(timer, after),
            Response::Say(words) => say(&words),
            // The loop's own affair.
            Response::Finish(_) | Response::State(..) => {}
        }
    }

    fn arm(&self, timer: Timer, after: Duration) {
        let events = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = events.send(Event::Timer(timer)).await;
        });
    }

    async fn finish(&mut self) {
        if let Some(clearing) = self.clearing.take() {
            let _ = tokio::time::timeout(CLEAR_LIMIT, clearing).await;
        }
    }
}
