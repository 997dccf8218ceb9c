//! The lines of a launch: a desk on this machine and on every worker, and the printer to which all of
//! them lead.
//!
//! Must not look at a line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::event::{Event, Stop};
use super::fleet::Fleet;
use super::mpirun::{Heard, carry};
use crate::devices::host::Roots;
use crate::devices::trouble::{OomCounter, full};
use crate::ids::HostName;
use crate::output::Stream;
use crate::process::reaper::Reaper;
use crate::process::spawn::Child;
use crate::rank::gpus::Allotment;
use crate::relay::desk::{self, Outlets};
use crate::relay::mux::FromDesk;
use crate::relay::printer::{LastWords, Print, Printer, PrinterError};
use crate::relay::roll::Roll;
use crate::relay::socket::RankSocket;
use crate::relay::{Origin, Report};
use crate::ssh::client::Connection;
use crate::ssh::lines_channel::{DeskSender, LinesChannel};

/// For a worker to open its desk.
const OPENING: Duration = Duration::from_secs(5);

/// Bytes of lines that all workers together may have under way, and each of them at most and least.
const UNDER_WAY: usize = 128 * 1024 * 1024;
const WINDOW: (usize, usize) = (64 * 1024, 1024 * 1024);

/// Reports of this machine's wrappers that may wait.
const REPORTS: usize = 64;

/// How long a host may keep silent about lines that it still owes, while nothing else is printed.
const SILENCE: Duration = Duration::from_secs(5);

/// The same for a host that is known to be lost: only what has arrived here is waited for.
const RESIDUE: Duration = Duration::from_millis(200);

/// The origin of what this machine's own wrappers show.
const HERE: Origin = Origin(0);

/// Everything between the wrappers and our stdout.
pub struct Lines {
    printer: Arc<Printer>,
    pieces: Arc<AtomicU64>,
    /// What brings lines: one a worker, and mpirun's own.
    carriers: JoinSet<()>,
    desks: Vec<Desk>,
    own: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    /// The ranks of this machine.
    roll: Arc<Roll>,
    /// What mpirun has said.
    heard: Arc<Mutex<Heard>>,
    /// Hosts that have no desk, whose lines mpirun carries.
    pub without: Vec<HostName>,
}

/// The OOM kills of this machine, wherever a failure asks for them.
#[derive(Debug, Clone)]
pub struct Oom(Arc<Mutex<OomCounter>>);

impl Oom {
    /// Counts from now on.
    #[must_use]
    pub fn count() -> Self {
        Self(Arc::new(Mutex::new(OomCounter::new(Roots::default()))))
    }

    /// Tells of those since the last time, if there were any.
    pub async fn tell(&self, here: &HostName, events: &mpsc::Sender<Event>) {
        let kills = self.0.lock().unwrap_or_else(PoisonError::into_inner).look();
        if let Some(kills) = kills {
            // Nobody listens when the launch is over.
            let _ = events.send(Event::OomKilled(here.clone(), kills)).await;
        }
    }
}

/// The desk of a worker, as seen from here.
struct Desk {
    host: HostName,
    sender: DeskSender,
    lost: watch::Sender<bool>,
}

/// What came of printing.
#[derive(Debug)]
pub struct Printed {
    /// Whether every host has sent all that it owed.
    pub all: bool,
    /// The end of each rank's stderr.
    pub last_words: Vec<LastWords>,
}

impl Lines {
    /// Opens a desk on every host; wrappers will look for `socket`. `gpus` are those of this machine.
    ///
    /// # Errors
    /// There is no thread for the printer.
    pub async fn open(
        fleet: &Fleet,
        socket: &str,
        pod_logs: bool,
        (gpus, reaper): (Option<Allotment>, &Reaper),
        oom: &Oom,
        events: &mpsc::Sender<Event>,
    ) -> Result<Self, PrinterError> {
        let unread = events.clone();
        let printer = Arc::new(Printer::start(move || {
            // The loop takes events until the end.
            let _ = unread.blocking_send(Event::Stop(Stop::Pipe));
        })?);
        let roll = Arc::<Roll>::default();
        let own = own_desk(socket, fleet.here(), &printer, (&roll, reaper), gpus, oom, events);
        let mut lines = Self {
            printer,
            pieces: Arc::default(),
            carriers: JoinSet::new(),
            desks: Vec::new(),
            without: own.is_none().then(|| fleet.here().clone()).into_iter().collect(),
            own,
            roll,
            heard: Arc::default(),
        };
        let window = UNDER_WAY / fleet.workers().count().max(1);
        let window = window.clamp(WINDOW.0, WINDOW.1);
        let mut opening = JoinSet::new();
        for (index, (host, connection)) in fleet.connections().enumerate() {
            let (host, socket) = (host.clone(), socket.to_owned());
            opening.spawn(async move {
                (index, host, open_desk(&connection, &socket, window, pod_logs).await)
            });
        }
        for (index, host, channel) in opening.join_all().await {
            match channel {
                Some(channel) => lines.follow(host, Origin(index as u64 + 1), channel),
                None => lines.without.push(host),
            }
        }
        Ok(lines)
    }

    fn follow(&mut self, host: HostName, origin: Origin, mut channel: LinesChannel) {
        let (lost, mut is_lost) = watch::channel(false);
        self.desks.push(Desk { host, sender: channel.desk(), lost });
        let (queue, pieces) = (self.printer.queue(), Arc::clone(&self.pieces));
        self.carriers.spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    message = channel.next() => message,
                    _ = async { is_lost.wait_for(|lost| *lost).await.is_ok() } => {
                        let Ok(message) = timeout(RESIDUE, channel.next()).await else { return };
                        message
                    }
                };
                let piece = match message {
                    Ok(Some(FromDesk::Piece(piece))) => piece,
                    Ok(Some(FromDesk::Ready)) => continue,
                    Ok(None) => return,
                    Err(error) => {
                        // From another version or from nobody; either way it is over.
                        tracing::warn!(%error, "closing a channel of lines");
                        return hang_up(&channel).await;
                    }
                };
                pieces.fetch_add(1, Ordering::Relaxed);
                if queue.send(Print::Piece(origin, piece)).await.is_err() {
                    return hang_up(&channel).await;
                }
            }
        });
    }

    /// Notes that a host is gone: nothing more will come from it.
    pub fn lost(&self, host: &HostName) {
        for desk in self.desks.iter().filter(|desk| desk.host == *host) {
            desk.lost.send_replace(true);
        }
    }

    /// Passes on what mpirun prints, until it has ended and nobody else holds its output.
    pub fn follow_mpirun(&mut self, mpirun: &mut Child, exited: &watch::Receiver<bool>) {
        let pipes = [mpirun.stdout.take(), mpirun.stderr.take()];
        for (pipe, stream) in pipes.into_iter().zip(Stream::BOTH) {
            let Some(pipe) = pipe else { continue };
            let queue = self.printer.queue();
            let carry = carry(pipe, stream, exited.clone(), queue, Arc::clone(&self.heard));
            self.carriers.spawn(carry);
        }
    }

    /// The ranks of this machine.
    #[must_use]
    pub fn roll(&self) -> Arc<Roll> {
        Arc::clone(&self.roll)
    }

    /// What mpirun has said, as much as is kept.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).words()
    }

    /// Where all lines end up.
    #[must_use]
    pub fn printer(&self) -> Arc<Printer> {
        Arc::clone(&self.printer)
    }

    /// Resolves when all that ranks have written is printed, however slow its reader is, unless the printer
    /// was told to hurry. Nothing of the job may run any more.
    pub async fn finish(&mut self) -> Printed {
        let printer = self.printer();
        let all = tokio::select! {
            all = self.collect() => all,
            () = printer.overdue() => false,
        };
        Printed { all, last_words: printer.flush().await }
    }

    /// Resolves when every host has sent all that it owed, or will not: whether it has.
    async fn collect(&mut self) -> bool {
        let mut closing = JoinSet::new();
        for desk in self.desks.iter().filter(|desk| !*desk.lost.borrow()) {
            let sender = desk.sender.clone();
            // A host that is gone has nothing more to send.
            closing.spawn(async move { timeout(OPENING, sender.close()).await.is_ok() });
        }
        closing.join_all().await;
        let own = self.own.take();
        if let Some((close, _)) = &own {
            close.send_replace(true);
        }
        let (carriers, printer) = (&mut self.carriers, Arc::clone(&self.printer));
        let all = async {
            if let Some((_, desk)) = own {
                let _ = desk.await;
            }
            while carriers.join_next().await.is_some() {}
        };
        tokio::select! {
            () = all => true,
            () = silence(&self.pieces, &printer) => false,
        }
    }
}

/// Resolves when nothing has come for a while although the printer could take it.
async fn silence(pieces: &AtomicU64, printer: &Printer) {
    let mut looks = interval(SILENCE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        let before = pieces.load(Ordering::Relaxed);
        looks.tick().await;
        if pieces.load(Ordering::Relaxed) == before && !printer.is_behind() {
            return;
        }
    }
}

/// None where the host has no desk in time; nor may it have one later, to which nobody listens.
async fn open_desk(
    connection: &Connection,
    socket: &str,
    window: usize,
    pod_log: bool,
) -> Option<LinesChannel> {
    let deadline = Instant::now() + OPENING;
    let mut channel = timeout_at(deadline, connection.lines()).await.ok()?.ok().flatten()?;
    let opening = async {
        channel.open(socket, window, pod_log).await.ok()?;
        matches!(channel.next().await, Ok(Some(FromDesk::Ready))).then_some(())
    };
    if timeout_at(deadline, opening).await.ok().flatten().is_none() {
        hang_up(&channel).await;
        return None;
    }
    Some(channel)
}

async fn hang_up(channel: &LinesChannel) {
    // A connection that does not take it is about to be given up.
    let _ = timeout(OPENING, channel.desk().hang_up()).await;
}

/// The desk of this machine; none where it cannot have one.
fn own_desk(
    socket: &str,
    here: &HostName,
    printer: &Printer,
    (roll, reaper): (&Arc<Roll>, &Reaper),
    gpus: Option<Allotment>,
    oom: &Oom,
    events: &mpsc::Sender<Event>,
) -> Option<(watch::Sender<bool>, JoinHandle<()>)> {
    let socket = RankSocket::bind(socket, "launcher")
        .inspect_err(|error| tracing::warn!(%error, "no socket for the ranks of this machine"))
        .ok()?;
    let (reports, mut said) = mpsc::channel::<Report>(REPORTS);
    let (roll, gpus) = (Arc::clone(roll), Arc::new(Mutex::new(gpus)));
    let reaper = reaper.clone();
    let launcher = printer.queue();
    let outlets = Outlets { origin: HERE, roll, reaper, reports, launcher, pod: None, gpus };
    let oom = oom.clone();
    let (close, closing) = watch::channel(false);
    let (here, events) = (here.clone(), events.clone());
    let task = tokio::spawn(async move {
        let hand_on = async {
            while let Some(report) = said.recv().await {
                // Nobody listens when the launch is over.
                if report.is_failure() {
                    oom.tell(&here, &events).await;
                    let paths = full().await;
                    if !paths.is_empty() {
                        let _ = events.send(Event::Full(here.clone(), paths)).await;
                    }
                }
                let _ = events.send(Event::Rank(here.clone(), report)).await;
            }
        };
        tokio::join!(desk::serve(socket, outlets, closing), hand_on);
    });
    Some((close, task))
}
