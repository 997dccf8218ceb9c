//! Facts to verdict. Pure.
//!
//! Must not match text; `scan` has done that, and is asked here only for a rank's last words. The order
//! of proof is in the module's documentation; each step below says which part of it it keeps.

use std::sync::Arc;

use crate::exit::Class;
use crate::outcome::facts::{Culprit, Facts, HostEvent, HostFact, RankEnd};
use crate::outcome::rules::Rules;
use crate::outcome::scan::{Finding, Scanner, Source};
use crate::outcome::verdict::{Evidence, ExitPolicy, FirstFailure, Verdict, exit_code};
use crate::process::status::WaitStatus;

mod case;
mod text;
mod words;

use case::Case;

/// Failures further apart than this, microseconds, have nothing to do with each other's order of report:
/// ranks and workers report over different connections, and cgroups are looked at in intervals.
const TOGETHER: u64 = 2_000_000;
/// An OOM kill noticed so long before a failure, microseconds, was survived.
const RECENT: u64 = 60_000_000;
/// Ends so close to each other, microseconds, have no order: a busy machine reaps one later than another.
const MOMENT: u64 = 100_000;
/// How long after a failure the rank that caused it may still be the one whose end is seen, microseconds.
const REACTION: u64 = 10_000_000;
/// First failures in a verdict.
const FIRST: usize = 8;

/// With what a rank of Open MPI 5 leaves that has lost a peer, without a word of its own.
const LEFT_ALONE: WaitStatus = WaitStatus::Exited(14);

const SIGKILL: i32 = 9;
const SIGBUS: i32 = 7;
const SIGTERM: i32 = 15;

/// Decides how a run ended.
#[must_use]
pub fn classify(facts: &Facts, rules: &Arc<Rules>, policy: ExitPolicy) -> Verdict {
    let case = judge(facts, rules);
    let mut failures = first_failures(facts);
    if let Some(at) = failures.iter().position(|failure| failure.culprit == case.culprit) {
        // What decided stands first, though a reaction was reported earlier.
        failures[..=at].rotate_right(1);
    }
    failures.truncate(FIRST);
    Verdict {
        class: case.class,
        code: exit_code(case.class, case.application, policy),
        retryable: case.retry.unwrap_or(case.class.retryable()),
        explanation: case.explanation(),
        culprit: case.culprit,
        failures,
        evidence: case.evidence,
        remedies: case.remedies,
    }
}

fn judge(facts: &Facts, rules: &Arc<Rules>) -> Case {
    if let Some(stage) = &facts.stage {
        return Case::stage(stage);
    }
    let first = first_failures(facts).first().map(|failure| failure.at);
    if let Some(told) = facts.told.filter(|told| first.is_none_or(|first| told.at <= first)) {
        return Case::told(told);
    }
    // What happened before it was noticed may be the reason; what came after is how the job was ended.
    if let Some(stall) =
        facts.stall.as_ref().filter(|stall| first.is_none_or(|first| stall.at <= first))
    {
        return Case::stall(stall, &facts.ranks);
    }
    if let Some(event) = evicted(facts) {
        return Case::evicted(event);
    }
    if let Some((event, rank)) = oom_kill(facts) {
        return Case::oom_kill(event, rank);
    }
    match (earliest_rank(facts, rules), earliest_loss(facts)) {
        (Some((rank, own)), loss) if loss.is_none_or(|event| rank.at <= event.at) => {
            rank_case(rank, &own, facts)
        }
        (_, Some(event)) => Case::host(event),
        _ => match &facts.stall {
            Some(stall) => Case::stall(stall, &facts.ranks),
            None => text_case(facts, rules),
        },
    }
}

/// Ranks that failed by themselves, in the order of time.
fn failed(facts: &Facts) -> Vec<&RankEnd> {
    let mut failed: Vec<_> =
        facts.ranks.iter().filter(|end| !end.status.success() && !end.told).collect();
    failed.sort_by_key(|end| end.at);
    failed
}

fn first_failures(facts: &Facts) -> Vec<FirstFailure> {
    let ranks = failed(facts).into_iter().map(|end| FirstFailure {
        culprit: end.culprit(),
        what: end.status.to_string(),
        at: end.at,
    });
    let hosts = facts.hosts.iter().map(|event| FirstFailure {
        culprit: Culprit { pod: event.pod.clone(), ..Culprit::host(&event.host) },
        what: words::host_fact(&event.what),
        at: event.at,
    });
    let mut all: Vec<_> = ranks.chain(hosts).collect();
    all.sort_by_key(|failure| failure.at);
    all
}

/// A worker that was told to stop before anything failed, or whose ranks felt it first.
fn evicted(facts: &Facts) -> Option<&HostEvent> {
    let told = facts.hosts.iter().filter(|event| event.what == HostFact::ToldToStop);
    let event = told.min_by_key(|event| event.at)?;
    let failed = failed(facts);
    let others = facts.hosts.iter().filter(|other| other.what != HostFact::ToldToStop);
    let before = failed.iter().map(|end| end.at).chain(others.map(|other| other.at)).min();
    let felt = failed.first().is_some_and(|end| {
        end.host == event.host
            && event.at.0 <= end.at.0.saturating_add(TOGETHER)
            && matches!(end.status, WaitStatus::Signaled { signal: SIGTERM, .. })
    });
    (felt || before.is_none_or(|before| event.at <= before)).then_some(event)
}

/// A counted OOM kill that explains the first failure, and the rank that it took. Failures make hosts look, so
/// that one which belongs to it was not noticed long before.
fn oom_kill(facts: &Facts) -> Option<(&HostEvent, Option<&RankEnd>)> {
    let failed = failed(facts);
    let first = failed.first();
    let kills = facts.hosts.iter().filter(|event| {
        matches!(event.what, HostFact::OomKill { .. })
            && first.is_none_or(|first| first.at.0.saturating_sub(event.at.0) <= RECENT)
    });
    kills.into_iter().find_map(|event| {
        // Also one that was told to end meanwhile: a large process takes its time to die.
        let killed = facts.ranks.iter().find(|end| {
            end.host == event.host
                && matches!(end.status, WaitStatus::Signaled { signal: SIGKILL, .. })
        });
        let explains = match (killed, first) {
            (Some(killed), Some(first)) => killed.at.0 <= first.at.0.saturating_add(TOGETHER),
            // It took a helper of the rank that failed, or what no wrapper watched.
            (None, Some(first)) => first.host == event.host,
            (_, None) => facts.mpirun.is_none_or(|status| !status.success()),
        };
        explains.then_some((event, killed))
    })
}

/// A worker that was lost, or a daemon that failed.
fn earliest_loss(facts: &Facts) -> Option<&HostEvent> {
    let losses = facts.hosts.iter().filter(|event| {
        matches!(
            event.what,
            HostFact::ConnectionLost { .. }
                | HostFact::HeartbeatsMissed { .. }
                | HostFact::DaemonFailed { .. }
        )
    });
    losses.min_by_key(|event| event.at)
}

/// How much an end looks like the cause among those that came at the same moment. Who talked to a rank
/// that dies may end before that is reaped.
fn weight(end: &RankEnd, words: &[Finding]) -> u8 {
    let named = text::decide(words, Some(end.status)).is_some_and(text::names_cause);
    match end.status {
        _ if named => 3,
        LEFT_ALONE => 0,
        // A peer's exit makes MPICH's ranks crash, and not the other way round.
        WaitStatus::Exited(_) => 2,
        WaitStatus::Signaled { .. } => 1,
    }
}

/// A rank that was on its way out by itself when it was told to end: whom `first` has only lost. Its
/// sockets are closed, or its crash is being printed, before its parent can see its end.
fn overtaken<'f>(first: &RankEnd, facts: &'f Facts) -> Option<&'f RankEnd> {
    let leaving = |end: &&RankEnd| {
        let by_itself = match end.status {
            LEFT_ALONE => false,
            WaitStatus::Exited(code) => (1..128).contains(&code),
            WaitStatus::Signaled { signal, .. } => !matches!(signal, SIGTERM | SIGKILL),
        };
        by_itself && end.at.0.abs_diff(first.at.0) <= TOGETHER
    };
    facts.ranks.iter().filter(leaving).min_by_key(|end| end.at)
}

/// The rank that failed first, with what is known of it in words. One whose last words only echo
/// another's failure makes way for that other, where its end was reported a moment later.
fn earliest_rank<'f>(facts: &'f Facts, rules: &Arc<Rules>) -> Option<(&'f RankEnd, Vec<Finding>)> {
    let failed = failed(facts);
    let first = *failed.first()?;
    let moment = failed.iter().take_while(|end| end.at.0 <= first.at.0.saturating_add(MOMENT));
    let together: Vec<_> = moment.map(|end| (*end, own_words(end, facts, rules))).collect();
    // Of equals the last one that a maximum finds would be the latest.
    let weighed = together.into_iter().rev().max_by_key(|(end, words)| weight(end, words));
    let (first, words) = weighed?;
    if weight(first, &words) == 0
        && let Some(end) = overtaken(first, facts)
    {
        return Some((end, own_words(end, facts, rules)));
    }
    if !text::only_echo(&words) {
        return Some((first, words));
    }
    let near = failed.iter().take_while(|end| end.at.0 <= first.at.0.saturating_add(REACTION));
    let mut others =
        near.filter(|end| **end != first).map(|end| (*end, own_words(end, facts, rules)));
    let cause = others.find(|(_, words)| !text::only_echo(words));
    Some(cause.unwrap_or((first, words)))
}

/// What a rank said itself: found while it ran, in its last lines, in its error file; and what mpirun
/// said of it by its number.
fn own_words(end: &RankEnd, facts: &Facts, rules: &Arc<Rules>) -> Vec<Finding> {
    let own = |finding: &&Finding| match finding.source {
        Source::Rank(rank) => rank == end.rank,
        Source::Mpirun => finding.culprit.rank == Some(end.rank),
        Source::Log { .. } | Source::Fact => false,
    };
    let mut words: Vec<Finding> = facts.findings.iter().filter(own).cloned().collect();
    let mut scanner = Scanner::new(Arc::clone(rules));
    let source = Source::Rank(end.rank);
    let elastic =
        facts.elastic.iter().filter(|error| error.rank.is_none_or(|rank| rank == end.rank));
    for line in end.stderr.lines().chain(elastic.flat_map(|error| error.message.lines())) {
        scanner.line(&source, &end.culprit(), line.as_bytes());
    }
    words.extend(scanner.findings());
    words
}

/// The verdict over a rank's end: its words outrank its status where they name a cause.
fn rank_case(end: &RankEnd, own: &[Finding], facts: &Facts) -> Case {
    let by_status = Case::rank(end);
    if let Some(said) = text::decide(own, Some(end.status)).filter(|said| text::names_cause(said)) {
        return by_status.because(said, own);
    }
    let counted = facts.findings.iter().filter(|found| text::counted_on(found, &end.host));
    if let Some(counted) = counted.min_by_key(|found| found.order) {
        return by_status.because(counted, own);
    }
    let full = facts
        .hosts
        .iter()
        .find(|event| event.host == end.host && matches!(event.what, HostFact::DiskFull { .. }));
    let may_be_full = match end.status {
        WaitStatus::Exited(_) => true,
        WaitStatus::Signaled { signal, .. } => signal == SIGBUS,
    };
    match full.filter(|_| may_be_full) {
        Some(event) => Case::full(event, by_status),
        None => by_status,
    }
}

/// No rank is known to have failed by itself: what mpirun said and how it ended, and the last words of
/// ranks that were ended by others, is all there is.
fn text_case(facts: &Facts, rules: &Arc<Rules>) -> Case {
    let mut findings = facts.findings.clone();
    for end in facts.ranks.iter().filter(|end| !end.status.success()) {
        let last = own_words(end, facts, rules).into_iter();
        findings.extend(last.filter(|finding| finding.source == Source::Rank(end.rank)));
    }
    match text::decide(&findings, facts.mpirun) {
        Some(found) if !text::overruled(found, facts.mpirun) => {
            Case::text(found, &findings, facts.mpirun)
        }
        _ => Case::mpirun(facts.mpirun),
    }
}

/// A proof from a finding.
fn evidence(finding: &Finding) -> Evidence {
    Evidence {
        source: finding.source.clone(),
        rule: Some(finding.rule.name.clone()),
        text: finding.text.clone(),
    }
}

/// The class of a rank's end, by its status alone.
fn class_of(status: WaitStatus) -> Class {
    match status {
        WaitStatus::Exited(0) => Class::Ok,
        // A shell's codes for a program that it cannot execute or find (POSIX, 2.8.2).
        WaitStatus::Exited(126 | 127) => Class::CommandNotFound,
        WaitStatus::Signaled { signal: 4 | 6 | 7 | 8 | 11, .. } => Class::AppCrash,
        // SIGKILL proves nothing without a count; any other signal is the program's own affair.
        WaitStatus::Exited(_) | WaitStatus::Signaled { .. } => Class::AppError,
    }
}

#[cfg(test)]
mod tests;
