//! The policy of a launch: what follows from what happened. A state machine without a runtime.
//!
//! Pure: must not look at a clock, a process or a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Event, Outcome, Response, Stop, Timer};
use crate::exit::Class;
use crate::ids::HostName;
use crate::process::status::WaitStatus;
use crate::ssh::control::RankSeen;
use crate::ssh::remote::Ended;

/// How long mpirun has to notice that one of its daemons failed, before muster ends the job: Hydra
/// never notices some failures, Open MPI does within a second.
const NOTICE: Duration = Duration::from_secs(5);

/// How long mpirun may outlive daemons that ended well.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// Between SIGTERM and SIGKILL for what mpirun left on workers.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// How long the daemons of a job that ended well may take to follow mpirun.
const SETTLING: Duration = Duration::from_secs(2);

/// How long mpirun gets to end at most where a worker is lost: Open MPI 4 waits for that worker's
/// daemon without end.
const LOST_GRACE: Duration = Duration::from_secs(5);

/// No mercy.
const KILL_HERE: Response = Response::ClearHere { patience: Duration::ZERO, grace: Duration::ZERO };

/// How long a killed mpirun may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// How long workers may take to clear up, beyond the grace they give. By then a worker has answered,
/// or its connection is known to be lost: Open MPI may notice a silent host sooner than we do, and
/// its own words must not be the last.
const CLEAR_LIMIT: Duration = Duration::from_secs(15);

/// What a launch is held to.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The hosts of the plan; empty = this machine alone.
    pub hosts: BTreeSet<HostName>,
    /// Those of them on which ranks must start, where the plan knows.
    pub placement: Option<BTreeMap<HostName, u32>>,
    /// The hosts that run a muster worker, and so answer.
    pub workers: BTreeSet<HostName>,
    /// This machine, as the plan calls it; not in `hosts` unless ranks may run here.
    pub here: HostName,
    /// mpirun calls muster for every remote command, so that no host is reached without us seeing.
    pub agent_is_ours: bool,
    /// A daemon's foreground command ends well while the daemon lives on (Open MPI 4 without tree
    /// spawn).
    pub daemons_detach: bool,
    /// Between SIGTERM and SIGKILL for mpirun and its ranks.
    pub grace: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// mpirun runs.
    Running,
    /// mpirun was asked to end.
    Stopping,
    /// mpirun was killed.
    Killing,
    /// mpirun is gone; the workers clear up.
    Clearing,
    /// Over.
    Done,
}

/// Why a launch ends other than by mpirun's own doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    Told(Stop),
    Lost(HostName, String),
    Evicted(HostName),
    Daemon(HostName, Ended),
    Misplaced,
}

/// The state of one launch.
#[derive(Debug)]
pub struct Dispatch {
    expected: Expected,
    phase: Phase,
    cause: Option<Cause>,
    mpirun: Option<WaitStatus>,
    reached: BTreeSet<HostName>,
    ended_well: BTreeSet<HostName>,
    daemon_ended: Option<(HostName, Ended)>,
    ranks: BTreeMap<HostName, BTreeSet<u32>>,
    uncleared: BTreeSet<HostName>,
    announced: bool,
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
            reached: BTreeSet::new(),
            ended_well: BTreeSet::new(),
            daemon_ended: None,
            ranks: BTreeMap::new(),
            uncleared,
            announced: false,
        }
    }

    /// Whether somebody waits for the end.
    #[must_use]
    pub fn is_told_to_stop(&self) -> bool {
        matches!(self.cause, Some(Cause::Told(_)))
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
                self.reached.insert(host);
                Vec::new()
            }
            Event::AgentEnded(host, ended) => self.agent_ended(host, ended),
            // Its own doing: it ends the job, or has noticed that the daemon is gone.
            Event::AgentStopped(_) => Vec::new(),
            Event::Ranks(host, ranks) => self.ranks(host, &ranks),
            Event::Rank(..) => Vec::new(),
            Event::WorkerLost(host, reason) => self.worker_lost(host, reason),
            Event::WorkerStopping(host, grace) => {
                let words = format!("{host} was told to stop, with {} s of grace", grace.as_secs());
                self.gone_while_clearing(&host, Cause::Evicted(host.clone()));
                self.stop(Cause::Evicted(host), Stop::Terminate.number(), words)
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
                let signal = Stop::Terminate.number();
                self.stop(Cause::Told(stop), signal, format!("{words} {grace} s to end"))
            }
            // What follows from a request to end, most likely; and nobody is in a hurry for it.
            (_, Stop::Pipe) => Vec::new(),
            (Phase::Running, _) => {
                let words = format!("received {}; the job has {grace} s to end", stop.name());
                self.stop(Cause::Told(stop), stop.number(), words)
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

    /// Asks mpirun to end, once.
    fn stop(&mut self, cause: Cause, signal: i32, words: String) -> Vec<Response> {
        if self.phase != Phase::Running {
            return Vec::new();
        }
        self.phase = Phase::Stopping;
        let lost = matches!(cause, Cause::Lost(..));
        self.cause.get_or_insert(cause);
        vec![
            Response::Say(words),
            Response::Signal(signal),
            Response::Arm(Timer::Grace, self.grace(lost)),
        ]
    }

    fn grace(&self, lost: bool) -> Duration {
        if lost { self.expected.grace.min(LOST_GRACE) } else { self.expected.grace }
    }

    fn kill(&mut self, cause: Cause) -> Vec<Response> {
        if !matches!(self.phase, Phase::Running | Phase::Stopping) {
            return Vec::new();
        }
        self.phase = Phase::Killing;
        self.cause.get_or_insert(cause);
        vec![KILL_HERE, Response::Arm(Timer::Kill, KILL_LIMIT)]
    }

    fn timer(&mut self, timer: Timer) -> Vec<Response> {
        match (timer, self.phase) {
            (Timer::Grace, Phase::Stopping) => {
                self.phase = Phase::Killing;
                let lost = matches!(self.cause, Some(Cause::Lost(..)));
                let words = format!("the grace of {} s is over", self.grace(lost).as_secs());
                vec![Response::Say(words), KILL_HERE, Response::Arm(Timer::Kill, KILL_LIMIT)]
            }
            (Timer::Kill, Phase::Killing) => {
                let words = "mpirun does not die: it is stuck in the kernel";
                let mut responses = vec![Response::Say(words.into())];
                let signal = nix::libc::SIGKILL;
                responses.extend(self.mpirun_ended(WaitStatus::Signaled { signal, core: false }));
                responses
            }
            (Timer::DaemonLeft, Phase::Running) => match self.daemon_ended.clone() {
                Some((host, ended)) => {
                    let words = format!("the MPI daemon on {host} is gone, mpirun did not notice");
                    self.stop(Cause::Daemon(host, ended), Stop::Terminate.number(), words)
                }
                None => Vec::new(),
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
        let seen = self.ranks.entry(host.clone()).or_default();
        seen.extend(ranks.iter().map(|rank| rank.rank));
        let size = ranks.iter().find_map(|rank| rank.size);
        let planned = self.expected.hosts.is_empty() || self.expected.hosts.contains(&host);
        if planned || ranks.is_empty() || self.phase != Phase::Running {
            return self.announce(size);
        }
        self.stop(
            Cause::Misplaced,
            Stop::Terminate.number(),
            format!("{} ranks started on {host}, which is not in the plan", ranks.len()),
        )
    }

    /// Says where the ranks run, once all of them have been seen.
    fn announce(&mut self, size: Option<u32>) -> Vec<Response> {
        let seen = self.ranks.values().map(BTreeSet::len).sum::<usize>();
        if self.announced || size.is_none_or(|size| seen < size as usize) {
            return Vec::new();
        }
        self.announced = true;
        let hosts = count_by_host(self.ranks.iter().map(|(host, ranks)| (host, ranks.len())));
        vec![Response::Say(format!("{seen} ranks run: {hosts}"))]
    }

    fn worker_lost(&mut self, host: HostName, reason: String) -> Vec<Response> {
        let words = format!("lost {host}: {reason}");
        let cause = Cause::Lost(host.clone(), reason);
        self.gone_while_clearing(&host, cause.clone());
        let mut responses = self.stop(cause, Stop::Terminate.number(), words);
        responses.extend(self.cleared(&host));
        responses
    }

    /// mpirun may notice before we do that a worker is gone. Then its own end is the consequence,
    /// and the worker the cause, unless the worker had nothing more to do for a job that went well.
    fn gone_while_clearing(&mut self, host: &HostName, cause: Cause) {
        let done = self.mpirun == Some(WaitStatus::Exited(0))
            && (self.expected.daemons_detach
                || self.ended_well.contains(host)
                || !self.reached.contains(host));
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
        self.mpirun = Some(status);
        self.phase = Phase::Clearing;
        let (patience, grace) = (self.patience(), LEFTOVER_GRACE);
        let mut responses = vec![Response::ClearHere { patience, grace }];
        if self.uncleared.is_empty() {
            responses.extend(self.finish());
        } else {
            responses.push(Response::ClearWorkers { patience, grace });
            responses.push(Response::Arm(Timer::Clear, patience + grace + CLEAR_LIMIT));
        }
        responses
    }

    /// Daemons whose mpirun ended well are on their way out; those of a failed job may never go.
    fn patience(&self) -> Duration {
        let well = self.cause.is_none() && self.mpirun == Some(WaitStatus::Exited(0));
        if well { SETTLING } else { Duration::ZERO }
    }

    fn finish(&mut self) -> Vec<Response> {
        self.phase = Phase::Done;
        vec![Response::Finish(self.outcome())]
    }

    fn outcome(&self) -> Outcome {
        let by_class =
            |class: Class, lines| Outcome { code: class.code(), class: Some(class), lines };
        match &self.cause {
            Some(Cause::Told(stop)) => told_outcome(*stop),
            Some(Cause::Lost(host, reason)) => {
                by_class(Class::WorkerLost, vec![format!("worker {host} was lost: {reason}")])
            }
            Some(Cause::Evicted(host)) => {
                by_class(Class::Evicted, vec![format!("worker {host} was told to stop")])
            }
            Some(Cause::Daemon(host, ended)) => daemon_outcome(host, ended),
            Some(Cause::Misplaced) => by_class(Class::Placement, self.placement_lines()),
            None => self.mpirun_outcome(),
        }
    }

    /// mpirun ended by itself. Its word is taken, except that its 0 must be true.
    fn mpirun_outcome(&self) -> Outcome {
        let status = self.mpirun.unwrap_or(WaitStatus::Exited(Class::Internal.code()));
        if status != WaitStatus::Exited(0) {
            let lines = vec![format!("mpirun ended with {status}")];
            return Outcome { code: status.shell_code(), class: None, lines };
        }
        if let Some((host, ended)) = &self.daemon_ended
            && *ended != Ended::Status(WaitStatus::Exited(0))
        {
            return daemon_outcome(host, ended);
        }
        if !self.missing_hosts().is_empty() {
            let lines = self.placement_lines();
            return Outcome { code: Class::Placement.code(), class: Some(Class::Placement), lines };
        }
        Outcome { code: 0, class: Some(Class::Ok), lines: Vec::new() }
    }

    /// Planned hosts for which there is no sign that a rank ran there, where there would be one.
    fn missing_hosts(&self) -> Vec<&HostName> {
        if !self.expected.agent_is_ours {
            return Vec::new();
        }
        let touched = |host: &HostName| {
            *host == self.expected.here
                || self.reached.contains(host)
                || self.ranks.get(host).is_some_and(|ranks| !ranks.is_empty())
        };
        match &self.expected.placement {
            Some(placement) => placement
                .iter()
                .filter(|(host, ranks)| **ranks > 0 && !touched(host))
                .map(|(host, _)| host)
                .collect(),
            // The user's own line may use some hosts only; but none at all is no job of this plan.
            None if self.expected.hosts.iter().any(touched) => Vec::new(),
            None => self.expected.hosts.iter().collect(),
        }
    }

    fn placement_lines(&self) -> Vec<String> {
        let planned = match &self.expected.placement {
            Some(placement) => count_by_host(placement.iter().map(|(host, n)| (host, *n as usize))),
            None => {
                let hosts: Vec<&str> = self.expected.hosts.iter().map(HostName::as_str).collect();
                hosts.join(", ")
            }
        };
        let seen = count_by_host(self.ranks.iter().map(|(host, ranks)| (host, ranks.len())));
        let missing: Vec<&str> = self.missing_hosts().into_iter().map(HostName::as_str).collect();
        let mut lines = vec![
            format!("planned: {planned}"),
            format!("seen:    {}", if seen.is_empty() { "no rank on any host" } else { &seen }),
        ];
        if !missing.is_empty() {
            lines.push(format!("mpirun never reached: {}", missing.join(", ")));
        }
        lines
    }
}

/// How a launch ends that was told to stop, before mpirun or after.
#[must_use]
pub fn told_outcome(stop: Stop) -> Outcome {
    let status = WaitStatus::Signaled { signal: stop.number(), core: false };
    let class = (stop == Stop::Terminate).then_some(Class::Terminated);
    Outcome { code: status.shell_code(), class, lines: Vec::new() }
}

/// Hosts that one line names, at most.
const NAMED: usize = 16;

fn count_by_host<'a>(counts: impl Iterator<Item = (&'a HostName, usize)>) -> String {
    let mut words: Vec<String> =
        counts.filter(|(_, n)| *n > 0).map(|(host, n)| format!("{} x {n}", host.short())).collect();
    if words.len() > NAMED {
        let more = words.len() - NAMED;
        words.truncate(NAMED);
        words.push(format!("and {more} more hosts"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests;

fn daemon_outcome(host: &HostName, ended: &Ended) -> Outcome {
    let (class, words) = match ended {
        Ended::Status(WaitStatus::Exited(126 | 127)) => {
            (Class::CommandNotFound, "is missing there, or cannot be executed".to_owned())
        }
        Ended::Status(status) => (Class::DaemonFailed, format!("ended with {status}")),
        Ended::Lost(reason) => (Class::WorkerLost, format!("was lost: {reason}")),
    };
    let lines = vec![format!("the MPI daemon on {host} {words}")];
    Outcome { code: class.code(), class: Some(class), lines }
}
