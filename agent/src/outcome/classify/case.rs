//! A verdict in the making: one constructor for each way in which a run can end.
//!
//! Must not choose between them; `judge` does.

use super::{class_of, evidence, text, words};
use crate::exit::Class;
use crate::outcome::advice;
use crate::outcome::facts::{Culprit, HostEvent, HostFact, RankEnd, StageFailure, Stall, Told};
use crate::outcome::rules::Strength;
use crate::outcome::scan::{Finding, Source};
use crate::outcome::verdict::Evidence;
use crate::process::status::WaitStatus;

/// Proofs in a verdict.
const PROOFS: usize = 6;

/// Of an end that came from outside.
const AFTERWARDS: &str =
    "No rank had failed before; ranks that ended afterwards did so because of this.";

/// What is decided so far.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) class: Class,
    pub(super) culprit: Culprit,
    /// The program's own exit code.
    pub(super) application: Option<u8>,
    pub(super) retry: Option<bool>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) remedies: Vec<String>,
    /// The two sentences.
    what: String,
    then: String,
}

impl Case {
    fn new(class: Class, culprit: Culprit, what: String, then: String) -> Self {
        let remedies = advice::remedies(class).iter().map(|&remedy| remedy.to_owned()).collect();
        Self {
            class,
            culprit,
            application: None,
            retry: None,
            evidence: Vec::new(),
            remedies,
            what,
            then,
        }
    }

    fn fact(mut self, words: String) -> Self {
        self.evidence.push(Evidence { source: Source::Fact, rule: None, text: words });
        self
    }

    pub(super) fn explanation(&self) -> String {
        format!("{} {}", self.what, self.then)
    }

    /// A stage failed before a rank ran, or found ranks elsewhere than planned.
    pub(super) fn stage(stage: &StageFailure) -> Self {
        let what = words::sentence(&format!("muster failed to {}", first_line(&stage.words)));
        let then = match stage.class {
            Class::Placement => "Ranks started elsewhere than planned, or not on every host.",
            _ => "No rank was started.",
        };
        let case = Self::new(stage.class, Culprit::default(), what, then.to_owned());
        let mut case = case.fact(stage.words.clone());
        if let Some(hint) = &stage.hint {
            case.remedies.insert(0, hint.clone());
        }
        case
    }

    /// The launcher was told to stop.
    pub(super) fn told(told: Told) -> Self {
        let signal = words::signal(told.signal);
        let what = format!("The launcher was told to stop ({signal}).");
        let then = AFTERWARDS.to_owned();
        Self::new(Class::Terminated, Culprit::default(), what, then)
            .fact(format!("the launcher got {signal}"))
    }

    /// The platform told a worker to stop.
    pub(super) fn evicted(event: &HostEvent) -> Self {
        let what = format!("The platform told the worker on {} to stop.", event.host);
        let then = AFTERWARDS.to_owned();
        Self::new(Class::Evicted, on(event), what, then).fact(words::host_line(event))
    }

    /// The kernel's OOM killer, counted.
    pub(super) fn oom_kill(event: &HostEvent, rank: Option<&RankEnd>) -> Self {
        let culprit = rank.map_or_else(|| on(event), RankEnd::culprit);
        let who = words::who(&culprit);
        let what = words::sentence(&format!("{who} was killed by the kernel's OOM killer"));
        let then = words::sentence(&words::memory(&event.what));
        let mut case = Self::new(Class::HostOom, culprit, what, then).fact(words::host_line(event));
        if let Some(rank) = rank {
            case = case.fact(words::rank_line(rank));
        }
        case
    }

    /// A worker or a daemon was lost.
    pub(super) fn host(event: &HostEvent) -> Self {
        let class = match event.what {
            HostFact::DaemonFailed { status: WaitStatus::Exited(126 | 127), .. } => {
                Class::CommandNotFound
            }
            HostFact::DaemonFailed { .. } => Class::DaemonFailed,
            _ => Class::WorkerLost,
        };
        let what = words::sentence(&words::loss(event));
        let then = "Ranks that ended after it did so in consequence.".to_owned();
        Self::new(class, on(event), what, then).fact(words::host_line(event))
    }

    /// Nobody wrote, and one rank did not compute.
    pub(super) fn stall(stall: &Stall, ranks: &[RankEnd]) -> Self {
        let of = |rank| ranks.iter().find(|end| end.rank == rank).map(RankEnd::culprit);
        // Whom the end of the job has overtaken is known by its number and host alone.
        let alone =
            |rank| Culprit { rank: Some(rank), host: stall.host.clone(), ..Culprit::default() };
        let culprit =
            stall.rank.map(|rank| of(rank).unwrap_or_else(|| alone(rank))).unwrap_or_default();
        let seconds = stall.seconds;
        let (what, then) = match stall.rank {
            Some(rank) => (
                format!("No rank wrote a line, and rank {rank} used no CPU time for {seconds} s."),
                format!(
                    "Rank {rank} has been idle the longest; ranks that wait for it in MPI may spin."
                ),
            ),
            None => {
                (format!("No rank wrote a line for {seconds} s."), "No rank stands out.".to_owned())
            }
        };
        Self::new(Class::Stalled, culprit, what.clone(), then).fact(what)
    }

    /// A rank's end, by its status alone.
    pub(super) fn rank(end: &RankEnd) -> Self {
        let not_started = end.not_started();
        let class = not_started.unwrap_or_else(|| class_of(end.status));
        let who = words::who(&end.culprit());
        let what = words::sentence(&format!("{who} was the first to fail: {}", end.status));
        let then = match (class, end.status) {
            (Class::AppError, WaitStatus::Signaled { signal: 9, .. }) => {
                "Nothing was counted that tells who killed it.".to_owned()
            }
            _ if not_started.is_some() => "Its program was not started.".to_owned(),
            (Class::CommandNotFound, _) => {
                "That is a shell's code for a program that it cannot find or execute.".to_owned()
            }
            _ => "Its last lines name no cause that muster knows.".to_owned(),
        };
        let mut case = Self::new(class, end.culprit(), what, then).fact(words::rank_line(end));
        if let WaitStatus::Exited(code) = end.status {
            case.application = Some(code);
        }
        let last = end.stderr.lines().rev().find(|line| !line.trim().is_empty());
        case.evidence.extend(last.map(|line| Evidence {
            source: Source::Rank(end.rank),
            rule: None,
            text: line.trim().chars().take(200).collect(),
        }));
        case
    }

    /// The same end, with its cause in words. A general class of the words leaves the status' own.
    pub(super) fn because(mut self, said: &Finding, own: &[Finding]) -> Self {
        if said.rule.class != Class::AppError {
            self.class = said.rule.class;
        }
        self.then = std::mem::replace(&mut self.what, said.rule.says.clone());
        self.retry = said.rule.retry;
        self.remedies = advised(said, self.class);
        self.evidence.retain(|proof| proof.source == Source::Fact);
        self.evidence.insert(0, evidence(said));
        self.evidence.extend(supporting(said, own));
        self.evidence.truncate(PROOFS);
        self
    }

    /// A full file system explains the end.
    pub(super) fn full(event: &HostEvent, ended: Self) -> Self {
        let path = match &event.what {
            HostFact::DiskFull { path } => path.as_str(),
            _ => "",
        };
        let what = format!("{path} is full on {}.", event.host);
        let mut case = Self::new(Class::LocalResource, ended.culprit, what, ended.what);
        case = case.fact(words::host_line(event));
        case.evidence.extend(ended.evidence);
        case
    }

    /// Text is all there is.
    pub(super) fn text(found: &Finding, all: &[Finding], exit: Option<WaitStatus>) -> Self {
        let culprit = text::culprit(found, all);
        let then = match (culprit.is_empty(), found.rule.strength >= Strength::Likely) {
            (false, _) => format!("The log names {}.", words::who(&culprit)),
            (true, true) => "The log does not say which rank or host it was.".to_owned(),
            (true, false) => "The log names no cause beyond this.".to_owned(),
        };
        let mut case = Self::new(found.rule.class, culprit, found.rule.says.clone(), then);
        case.application = text::code(found, all, exit);
        case.retry = found.rule.retry;
        case.remedies = advised(found, case.class);
        case.evidence.push(evidence(found));
        case.evidence.extend(supporting(found, all));
        case.evidence.truncate(PROOFS);
        case
    }

    /// mpirun's own end is all there is.
    pub(super) fn mpirun(exit: Option<WaitStatus>) -> Self {
        let none = Culprit::default();
        match exit {
            None => Self::new(
                Class::Ok,
                none,
                "No line tells of a failure.".to_owned(),
                "The exit code is not known, so that is all that can be said.".to_owned(),
            ),
            Some(status) if status.success() => Self::new(
                Class::Ok,
                none,
                "Every rank ended with 0.".to_owned(),
                "Warnings on the way did no harm.".to_owned(),
            ),
            Some(status) => {
                let stopped = matches!(status, WaitStatus::Signaled { signal: 2 | 9 | 15, .. })
                    || matches!(status, WaitStatus::Exited(130 | 143));
                let class = if stopped { Class::Terminated } else { class_of(status) };
                let what = words::sentence(&format!("mpirun ended: {status}"));
                let then = "Nothing that it or a rank said tells why.".to_owned();
                let mut case = Self::new(class, none, what, then).fact(format!("mpirun: {status}"));
                if let WaitStatus::Exited(code) = status {
                    case.application = Some(code);
                }
                case
            }
        }
    }
}

fn on(event: &HostEvent) -> Culprit {
    Culprit { pod: event.pod.clone(), ..Culprit::host(&event.host) }
}

fn first_line(words: &str) -> &str {
    words.lines().next().unwrap_or_default()
}

/// A rule's remedies, or where it has none those of the class.
fn advised(found: &Finding, class: Class) -> Vec<String> {
    if !found.rule.remedies.is_empty() {
        return found.rule.remedies.clone();
    }
    advice::remedies(class).iter().map(|&remedy| remedy.to_owned()).collect()
}

/// Lines of other rules that belong to it: of its class, or about the end.
fn supporting<'f>(decided: &'f Finding, all: &'f [Finding]) -> impl Iterator<Item = Evidence> + 'f {
    let mut rules = vec![decided.rule.name.as_str()];
    let fits = |found: &&Finding| {
        found.order != decided.order
            && (found.rule.class == decided.rule.class
                || matches!(found.rule.strength, Strength::End | Strength::Banner))
    };
    all.iter().filter(fits).filter_map(move |found| {
        let name = found.rule.name.as_str();
        let fresh = !rules.contains(&name);
        rules.push(name);
        fresh.then(|| evidence(found))
    })
}
