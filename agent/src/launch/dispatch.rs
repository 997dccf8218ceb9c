//! The policy of a launch: what follows from what happened. A state machine without a runtime.
//!
//! The first failure starts the end: ranks get SIGTERM and their grace, mpirun is given a moment to
//! follow them, and then nobody is waited for. Pure: must not look at a clock, a process or a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Cause, Ending, Event, Loss, Response, Stop, Timer};
use super::journal::State;
use crate::ids::HostName;
use crate::process::status::WaitStatus;
use crate::relay::{Report, Source};
use crate::ssh::control::{RankSeen, Still};
use crate::ssh::remote::Ended;

mod finished;
mod placement;

use finished::Finished;
pub use placement::Expected;
use placement::Seen;

/// How long mpirun may outlive the last rank of a job that went well. PRRTE 5 sometimes overlooks the
/// end of programs that do not call MPI, and waits for ever.
const OVERDUE: Duration = Duration::from_secs(15);

/// How long mpirun has to notice that one of its daemons failed, before muster ends the job: Hydra
/// never notices some failures, Open MPI does within a second.
const NOTICE: Duration = Duration::from_secs(5);

/// How long mpirun may outlive daemons that ended well.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// How long mpirun may outlive the last rank of a job that is ending. Open MPI 4 takes a second, in
/// which a SIGTERM makes it crash; Hydra may never notice.
const FOLLOW: Duration = Duration::from_millis(1100);

/// How long a wrapper's silent end may be a consequence that is about to be explained.
const EXPLAIN: Duration = Duration::from_millis(500);

/// Between SIGTERM and SIGKILL for what mpirun left on workers.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// The same where every rank has ended and mpirun did not follow: what is left are daemons, and one
/// of Open MPI 4 may be in a sleep of a second before it looks at a SIGTERM. With [`FOLLOW`] it makes
/// less than the 1.5 s that a failed job may take to end.
const DAEMON_GRACE: Duration = Duration::from_millis(200);

/// How long the daemons of a job that ended well may take to follow mpirun.
const SETTLING: Duration = Duration::from_secs(2);

/// How long mpirun gets to end where it has nothing left to do, or a worker is lost and no rank has a
/// wrapper: Open MPI 4 waits for that worker's daemon without end.
const SHORT_GRACE: Duration = Duration::from_secs(2);

/// No mercy.
const KILL_HERE: Response = Response::ClearHere { patience: Duration::ZERO, grace: Duration::ZERO };

/// How long a killed mpirun may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// How long workers may take to clear up, beyond the grace they give. By then a worker has answered,
/// or is known to be lost: Open MPI may notice a silent host sooner than we do, and its own words must
/// not be the last.
const CLEAR_LIMIT: Duration = Duration::from_secs(20);

const SIGTERM: i32 = nix::libc::SIGTERM;
const SIGKILL: i32 = nix::libc::SIGKILL;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// mpirun runs.
    Running,
    /// Ranks, or mpirun, were asked to end.
    Stopping,
    /// mpirun was killed.
    Killing,
    /// mpirun is gone; the workers clear up.
    Clearing,
    /// Over.
    Done,
}

/// The state of one launch.
#[derive(Debug)]
pub struct Dispatch {
    expected: Expected,
    phase: Phase,
    cause: Option<Cause>,
    mpirun: Option<WaitStatus>,
    seen: Seen,
    finished: Finished,
    /// Whether mpirun was ended because all ranks had ended well, and so has no word in the matter.
    overdue: bool,
    ended_well: BTreeSet<HostName>,
    daemon_ended: Option<(HostName, Ended)>,
    /// Ranks whose wrapper has said that they run.
    running: BTreeMap<(HostName, Source), String>,
    vanished: Option<(HostName, Source)>,
    still: BTreeMap<HostName, Still>,
    /// Whether mpirun itself was asked to end.
    asked: bool,
    /// Whether every rank had ended when mpirun was killed for not following.
    only_daemons: bool,
    uncleared: BTreeSet<HostName>,
}

impl Dispatch {
    /// A launch whose mpirun has just been started.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        let uncleared = expected.workers.clone();
        Self {
            expected,
            phase: Phase::Running,
            cause: None,
            mpirun: None,
            seen: Seen::default(),
            finished: Finished::default(),
            overdue: false,
            ended_well: BTreeSet::new(),
            daemon_ended: None,
            running: BTreeMap::new(),
            vanished: None,
            still: BTreeMap::new(),
            asked: false,
            only_daemons: false,
            uncleared,
        }
    }

    /// What follows from `event`, to be done in this order.
    #[must_use]
    pub fn handle(&mut self, event: Event) -> Vec<Response> {
        match event {
            Event::Stop(stop) => self.told(stop),
            Event::ParentGone => self.kill(Cause::Told(Stop::Terminate)),
            Event::MpirunEnded(status) => self.mpirun_ended(status),
            Event::Timer(timer) => self.timer(timer),
            Event::AgentCalled(host) => {
                self.seen.reached(host);
                Vec::new()
            }
            Event::AgentEnded(host, ended) => self.agent_ended(host, ended),
            // Its own doing: it ends the job, or has noticed that the daemon is gone.
            Event::AgentStopped(_) => Vec::new(),
            Event::Ranks(host, ranks) => {
                self.finished.seen(&host, ranks.len());
                let mut responses = self.ranks(host, &ranks);
                responses.extend(self.all_ended_well());
                responses
            }
            Event::Rank(host, report) => self.rank(host, &report),
            // The rank that they befell tells; these say why.
            Event::OomKilled(..) | Event::Full(..) => Vec::new(),
            Event::Still(host, still) => self.stillness(host, still),
            Event::WorkerLost(host, loss) => self.worker_lost(host, loss),
            Event::WorkerStopping(host, grace) => {
                let words = format!("{host} was told to stop, with {} s of grace", grace.as_secs());
                self.gone_while_clearing(&host, Cause::Evicted(host.clone()));
                self.stop(Cause::Evicted(host), words)
            }
            Event::WorkerCleared(host, terminated, killed) => {
                let mut responses = Vec::new();
                if terminated > 0 {
                    responses.push(Response::Say(format!(
                        "{host}: ended {terminated} left-over processes, killed {killed} of them"
                    )));
                }
                responses.extend(self.cleared(&host));
                responses
            }
        }
    }

    fn told(&mut self, stop: Stop) -> Vec<Response> {
        let grace = self.expected.grace.as_secs();
        match (self.phase, stop) {
            (Phase::Running, Stop::Pipe) => {
                let words = "nobody reads standard output any more; the job has";
                self.stop(Cause::Told(stop), format!("{words} {grace} s to end"))
            }
            // What follows from a request to end, most likely; and nobody is in a hurry for it.
            (_, Stop::Pipe) => Vec::new(),
            (Phase::Running, _) => {
                let words = format!("received {}; the job has {grace} s to end", stop.name());
                self.stop(Cause::Told(stop), words)
            }
            (Phase::Stopping, _) => {
                let mut responses =
                    vec![Response::Say(format!("received {} again; killing", stop.name()))];
                responses.extend(self.kill(Cause::Told(stop)));
                responses
            }
            (Phase::Clearing, _) => self.finish(),
            (Phase::Killing | Phase::Done, _) => Vec::new(),
        }
    }

    /// Asks the ranks to end, once; where none has a wrapper, mpirun. Who sits at a terminal means
    /// mpirun, too: it has got the signal from there already.
    fn stop(&mut self, cause: Cause, words: String) -> Vec<Response> {
        if self.phase != Phase::Running {
            return Vec::new();
        }
        self.phase = Phase::Stopping;
        let lost = matches!(cause, Cause::Lost(..));
        let by_hand = match cause {
            Cause::Told(stop @ (Stop::Interrupt | Stop::HangUp)) => Some(stop.number()),
            _ => None,
        };
        self.cause.get_or_insert(cause);
        let mut responses =
            vec![Response::State(State::Failing, words.clone()), Response::Say(words)];
        if by_hand.is_some() || (self.running.is_empty() && !self.a_rank_failed()) {
            self.asked = true;
            responses.push(Response::Signal(by_hand.unwrap_or(SIGTERM)));
            let grace = self.expected.grace;
            let grace = if lost { grace.min(SHORT_GRACE) } else { grace };
            responses.push(Response::Arm(Timer::Grace, grace));
        } else {
            responses.push(Response::SignalRanks(SIGTERM));
            responses.push(Response::Arm(Timer::Grace, self.expected.grace));
            responses.extend(self.all_ended());
        }
        responses
    }

    fn a_rank_failed(&self) -> bool {
        matches!(self.cause, Some(Cause::Rank | Cause::Vanished(..)))
    }

    fn kill(&mut self, cause: Cause) -> Vec<Response> {
        if !matches!(self.phase, Phase::Running | Phase::Stopping) {
            return Vec::new();
        }
        self.cause.get_or_insert(cause);
        self.kill_now()
    }

    fn kill_now(&mut self) -> Vec<Response> {
        self.phase = Phase::Killing;
        vec![Response::SignalRanks(SIGKILL), KILL_HERE, Response::Arm(Timer::Kill, KILL_LIMIT)]
    }

    fn timer(&mut self, timer: Timer) -> Vec<Response> {
        match (timer, self.phase) {
            (Timer::Grace, Phase::Stopping) => {
                let mut responses = vec![Response::Say("the grace is over; killing".to_owned())];
                responses.extend(self.kill_now());
                responses
            }
            (Timer::Follow, Phase::Stopping) => {
                self.only_daemons = true;
                self.kill_now()
            }
            (Timer::Kill, Phase::Killing) => {
                let words = "mpirun does not die: it is stuck in the kernel";
                let mut responses = vec![Response::Say(words.into())];
                let signal = SIGKILL;
                responses.extend(self.mpirun_ended(WaitStatus::Signaled { signal, core: false }));
                responses
            }
            (Timer::Vanished, Phase::Running) => match self.vanished.take() {
                Some((host, source)) => {
                    let words = format!("a rank on {host} was killed together with its wrapper");
                    self.stop(Cause::Vanished(host, source), words)
                }
                None => Vec::new(),
            },
            (Timer::DaemonLeft, Phase::Running) => match self.daemon_ended.clone() {
                Some((host, ended)) => {
                    let words = format!("the MPI daemon on {host} is gone, mpirun did not notice");
                    self.stop(Cause::Daemon(host, ended), words)
                }
                None => Vec::new(),
            },
            (Timer::Overdue, Phase::Running) => match self.finished.waited() {
                true if self.running.is_empty() => self.end_overdue(),
                _ => Vec::new(),
            },
            (Timer::Clear, Phase::Clearing) => {
                let hosts: Vec<String> = self.uncleared.iter().map(ToString::to_string).collect();
                let mut responses =
                    vec![Response::Say(format!("gave up waiting for {}", hosts.join(", ")))];
                responses.extend(self.finish());
                responses
            }
            _ => Vec::new(),
        }
    }

    fn agent_ended(&mut self, host: HostName, ended: Ended) -> Vec<Response> {
        let well = ended == Ended::Status(WaitStatus::Exited(0));
        if well {
            self.ended_well.insert(host.clone());
        }
        if self.phase != Phase::Running {
            return Vec::new();
        }
        if well && self.expected.daemons_detach {
            return Vec::new();
        }
        let first_failure = match &self.daemon_ended {
            None => true,
            Some((_, before)) => !well && *before == Ended::Status(WaitStatus::Exited(0)),
        };
        if !first_failure {
            return Vec::new();
        }
        self.daemon_ended = Some((host, ended));
        vec![Response::Arm(Timer::DaemonLeft, if well { WIND_DOWN } else { NOTICE })]
    }

    fn ranks(&mut self, host: HostName, ranks: &[RankSeen]) -> Vec<Response> {
        let count = ranks.len();
        let planned = self.expected.allows(&host) || count == 0;
        let announcement = self.seen.ranks(host.clone(), ranks);
        if planned || self.phase != Phase::Running {
            let running = |words: String| {
                [Response::State(State::Running, words.clone()), Response::Say(words)]
            };
            return announcement.into_iter().flat_map(running).collect();
        }
        let ranks = if count == 1 { "rank" } else { "ranks" };
        let words = format!("{count} {ranks} started on {host}, which is not in the plan");
        self.stop(Cause::Misplaced(words.clone()), words)
    }

    fn rank(&mut self, host: HostName, report: &Report) -> Vec<Response> {
        let (source, ended) = match report {
            Report::Started(source, hello) => {
                let rank = hello.identity.as_ref().map(|identity| identity.rank);
                let name = rank.map_or_else(|| "a program".to_owned(), |n| format!("rank {n}"));
                self.running.insert((host.clone(), *source), name);
                self.finished.started(hello);
                // One that starts while the job ends has missed the signal.
                let late = self.phase == Phase::Stopping;
                let mut responses: Vec<Response> =
                    late.then_some(Response::SignalRanks(SIGTERM)).into_iter().collect();
                if let Some(identity) = &hello.identity {
                    let seen =
                        RankSeen { rank: identity.rank, size: identity.size, pid: hello.pid };
                    responses.extend(self.ranks(host, &[seen]));
                }
                return responses;
            }
            Report::Ended(source, ended) => (*source, ended),
        };
        let name = self.running.remove(&(host.clone(), source)).unwrap_or_default();
        match ended {
            _ if self.phase != Phase::Running => self.all_ended(),
            Some(ended) if ended.failed_by_itself() => {
                let words = format!("{name} on {host}: {}; ending the job", ended.status);
                self.stop(Cause::Rank, words)
            }
            Some(ended) => {
                if ended.status.success() {
                    self.finished.ended_well();
                }
                self.all_ended_well()
            }
            None => {
                self.vanished.get_or_insert((host, source));
                vec![Response::Arm(Timer::Vanished, EXPLAIN)]
            }
        }
    }

    /// Nobody is left who could need the grace: mpirun should follow now.
    fn all_ended(&self) -> Vec<Response> {
        if self.phase == Phase::Stopping && self.running.is_empty() && !self.asked {
            return vec![Response::Arm(Timer::Follow, FOLLOW)];
        }
        Vec::new()
    }

    /// Nothing is left to be done but by mpirun, which should notice.
    fn all_ended_well(&mut self) -> Vec<Response> {
        if self.phase != Phase::Running || !self.running.is_empty() || !self.finished.all() {
            return Vec::new();
        }
        self.finished.wait();
        vec![Response::Arm(Timer::Overdue, OVERDUE)]
    }

    fn end_overdue(&mut self) -> Vec<Response> {
        self.phase = Phase::Stopping;
        self.asked = true;
        self.overdue = true;
        let words = format!(
            "all ranks ended well {} s ago, and mpirun did not notice: ending it",
            OVERDUE.as_secs()
        );
        let grace = Response::Arm(Timer::Grace, SHORT_GRACE);
        vec![Response::Say(words), Response::Signal(SIGTERM), grace]
    }

    /// A stall: nobody has written for the set time, and some rank has not even computed.
    fn stillness(&mut self, host: HostName, still: Option<Still>) -> Vec<Response> {
        match still {
            Some(still) => drop(self.still.insert(host, still)),
            None => drop(self.still.remove(&host)),
        }
        let Some(limit) = self.expected.stall else { return Vec::new() };
        let long = |ms: u64| u128::from(ms) >= limit.as_millis();
        let silent = self.still.values().all(|still| long(still.silent_ms));
        let idlest = self.still.iter().max_by_key(|(_, still)| still.idle_ms);
        match idlest {
            Some((host, Still { rank, idle_ms, .. })) if silent && long(*idle_ms) => {
                let (host, rank, seconds) = (host.clone(), *rank, idle_ms / 1000);
                let words = format!(
                    "no rank has written for {} s, and rank {rank} on {host} does not compute",
                    limit.as_secs()
                );
                self.stop(Cause::Stalled { host, rank, seconds }, words)
            }
            _ => Vec::new(),
        }
    }

    fn worker_lost(&mut self, host: HostName, loss: Loss) -> Vec<Response> {
        let words = format!("lost {host}: {loss}");
        let cause = Cause::Lost(host.clone(), loss);
        self.gone_while_clearing(&host, cause.clone());
        let before = self.running.len();
        self.running.retain(|(on, _), _| *on != host);
        self.still.remove(&host);
        let mut responses = self.stop(cause, words);
        if responses.is_empty() && self.running.len() < before {
            responses.extend(self.all_ended());
        }
        responses.extend(self.cleared(&host));
        responses
    }

    /// mpirun may notice before we do that a worker is gone. Then its own end is the consequence,
    /// and the worker the cause, unless the worker had nothing more to do for a job that went well.
    fn gone_while_clearing(&mut self, host: &HostName, cause: Cause) {
        let done = self.mpirun == Some(WaitStatus::Exited(0))
            && (self.expected.daemons_detach
                || self.ended_well.contains(host)
                || !self.seen.was_reached(host));
        if self.phase == Phase::Clearing && !done {
            self.cause.get_or_insert(cause);
        }
    }

    fn cleared(&mut self, host: &HostName) -> Vec<Response> {
        self.uncleared.remove(host);
        if self.phase == Phase::Clearing && self.uncleared.is_empty() {
            return self.finish();
        }
        Vec::new()
    }

    fn mpirun_ended(&mut self, status: WaitStatus) -> Vec<Response> {
        let settled = self.overdue && self.cause.is_none();
        self.mpirun = Some(if settled { WaitStatus::Exited(0) } else { status });
        let grace = if self.only_daemons { DAEMON_GRACE } else { LEFTOVER_GRACE };
        self.phase = Phase::Clearing;
        let patience = self.patience();
        let mut responses = vec![Response::ClearHere { patience, grace }];
        if self.uncleared.is_empty() {
            responses.extend(self.finish());
        } else {
            responses.push(Response::ClearWorkers { patience, grace });
            responses.push(Response::Arm(Timer::Clear, patience + grace + CLEAR_LIMIT));
        }
        responses
    }

    /// Daemons whose mpirun ended well are on their way out; those of a failed job may never go. Ranks
    /// that have their grace keep it, whatever became of mpirun.
    fn patience(&self) -> Duration {
        let well = self.cause.is_none() && self.mpirun == Some(WaitStatus::Exited(0));
        match well {
            true => SETTLING,
            false if self.running.is_empty() || self.cause.is_none() => Duration::ZERO,
            false => self.expected.grace,
        }
    }

    fn finish(&mut self) -> Vec<Response> {
        self.phase = Phase::Done;
        let signal = SIGKILL;
        let mpirun = self.mpirun.unwrap_or(WaitStatus::Signaled { signal, core: false });
        let cause = self.final_cause(mpirun);
        let mut responses = Vec::new();
        if let Some(Cause::Misplaced(_)) = cause {
            responses.push(Response::Say(self.seen.against(&self.expected).join("\n")));
        }
        responses.push(Response::Finish(Ending { cause, mpirun }));
        responses
    }

    /// mpirun's word is taken where nothing else is known, except that its 0 must be true.
    fn final_cause(&mut self, mpirun: WaitStatus) -> Option<Cause> {
        if self.cause.is_some() || !mpirun.success() {
            // Where mpirun itself was killed, its ranks went the same way.
            let vanished = self.vanished.take().filter(|_| !is_killed(mpirun));
            return self.cause.take().or(vanished.map(|(host, on)| Cause::Vanished(host, on)));
        }
        match self.daemon_ended.take() {
            Some((host, ended)) if ended != Ended::Status(WaitStatus::Exited(0)) => {
                Some(Cause::Daemon(host, ended))
            }
            _ if self.seen.is_missing_hosts(&self.expected) => {
                Some(Cause::Misplaced(self.seen.against(&self.expected).join("; ")))
            }
            _ => None,
        }
    }
}

/// By a signal of somebody's.
pub(super) fn is_killed(mpirun: WaitStatus) -> bool {
    matches!(mpirun, WaitStatus::Signaled { .. })
}

#[cfg(test)]
mod tests;
