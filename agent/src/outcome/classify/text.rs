//! Between findings: which line decides, and whom the others help to name.
//!
//! Must not invent: a rank or host comes from a line or is not named.

use std::cmp::Reverse;

use crate::exit::Class;
use crate::outcome::facts::Culprit;
use crate::outcome::rules::Strength;
use crate::outcome::scan::{Finding, merge};
use crate::process::status::WaitStatus;

/// How much a strength weighs. A likely cause and a first-hand end weigh the same: the earlier decides.
fn weight(strength: Strength) -> u8 {
    match strength {
        Strength::Proof => 5,
        Strength::Cause => 4,
        Strength::Likely | Strength::End => 3,
        Strength::Banner => 2,
        Strength::Echo => 1,
        Strength::Note => 0,
    }
}

/// The finding that decides. What ended with 0 has not failed, unless the line says so in so many words.
pub(super) fn decide(findings: &[Finding], exit: Option<WaitStatus>) -> Option<&Finding> {
    let succeeded = exit.is_some_and(WaitStatus::success);
    let counts = |found: &&Finding| {
        found.rule.strength > Strength::Note
            && (!succeeded || found.rule.despite_zero)
            && !(exit.is_none() && got_over(found, findings))
    };
    // Of equals the first: a user's rules stand before ours.
    findings.iter().filter(counts).min_by_key(|found| {
        let strength = found.rule.strength;
        (Reverse(weight(strength)), found.order, Reverse(strength))
    })
}

/// Lines that a job writes after what it got over.
const GOOD_LINES: u64 = 20;

/// Whether the job went on: it wrote more, and nothing later speaks of a failure.
fn got_over(found: &Finding, all: &[Finding]) -> bool {
    let later = |other: &Finding| {
        other.order > found.order && other.rule.name != found.rule.name && !other.rule.recovers
    };
    found.rule.recovers
        && found.after >= GOOD_LINES
        && !all.iter().any(|other| other.rule.strength > Strength::Note && later(other))
}

/// Whether a line says more than how the process ended.
pub(super) fn names_cause(found: &Finding) -> bool {
    weight(found.rule.strength) >= weight(Strength::End)
}

/// Whether all that was said is about somebody else's failure.
pub(super) fn only_echo(words: &[Finding]) -> bool {
    decide(words, None).is_some_and(|found| found.rule.strength == Strength::Echo)
}

/// Whether kernel or scheduler counted this, there or without saying where.
pub(super) fn counted_on(found: &Finding, host: &str) -> bool {
    found.rule.strength == Strength::Proof
        && found.culprit.host.as_deref().is_none_or(|named| named == host)
}

/// Whether mpirun's own end says more than a line: it was killed, and what it printed in reaction is
/// no cause.
pub(super) fn overruled(found: &Finding, exit: Option<WaitStatus>) -> bool {
    weight(found.rule.strength) <= weight(Strength::Banner)
        && matches!(exit, Some(WaitStatus::Signaled { .. }))
}

/// Whether a class is about a host, so that a rank named elsewhere is not its culprit.
fn concerns_host(class: Class) -> bool {
    matches!(
        class,
        Class::NameResolution
            | Class::WorkersNotReady
            | Class::WorkerLost
            | Class::Evicted
            | Class::DaemonFailed
            | Class::AuthFailed
    )
}

/// Whom the deciding line means, completed by others that cannot mean anybody else.
pub(super) fn culprit(decided: &Finding, all: &[Finding]) -> Culprit {
    let mut culprit = decided.culprit.clone();
    let tells =
        |found: &&Finding| found.rule.strength > Strength::Echo && found.order != decided.order;
    let same_class =
        all.iter().filter(tells).filter(|found| found.rule.class == decided.rule.class);
    let launcher = all
        .iter()
        .filter(tells)
        .filter(|found| matches!(found.rule.strength, Strength::End | Strength::Banner));
    for other in same_class.chain(launcher) {
        let theirs = &other.culprit;
        if decided.rule.witness && !other.rule.witness {
            continue;
        }
        let same_host = culprit.host.is_some() && culprit.host == theirs.host;
        let same_rank = culprit.rank.is_some() && culprit.rank == theirs.rank;
        if same_host || same_rank || culprit.is_empty() {
            culprit = merge(&culprit, theirs);
        } else if culprit.rank.is_none() && culprit.host.is_none() {
            // Only a local rank so far: any that has the same, or none, may be it.
            let fits = theirs.local_rank.is_none() || theirs.local_rank == culprit.local_rank;
            if fits {
                culprit = merge(&culprit, theirs);
            }
        }
    }
    if concerns_host(decided.rule.class) && culprit.host.is_some() {
        culprit.rank = decided.culprit.rank;
        culprit.local_rank = decided.culprit.local_rank;
    }
    culprit
}

/// The application's own exit code: from the line, from another that speaks of an end, from mpirun.
pub(super) fn code(decided: &Finding, all: &[Finding], exit: Option<WaitStatus>) -> Option<u8> {
    let launcher = all.iter().filter(|found| found.rule.strength > Strength::Note);
    decided.code.or_else(|| launcher.filter_map(|found| found.code).next()).or(match exit {
        Some(WaitStatus::Exited(code)) if code != 0 => Some(code),
        _ => None,
    })
}
