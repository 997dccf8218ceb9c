//! The verdict for machines: JSON after `docs/verdict.schema.json`.
//!
//! Must not write a file. A field is never renamed or dropped within a schema version.

use serde::Serialize;

use crate::outcome::facts::Culprit;
use crate::outcome::scan::Source;
use crate::outcome::verdict::Verdict;
use crate::output::clock::rfc3339;

/// The version of the format; a reader refuses one that it does not know.
pub const SCHEMA: &str = "muster.verdict/1";

/// The document.
#[derive(Debug, Serialize)]
pub struct Report<'v> {
    schema: &'static str,
    class: &'static str,
    code: u8,
    retryable: bool,
    explanation: &'v str,
    culprit: Who<'v>,
    first_failures: Vec<First<'v>>,
    evidence: Vec<Proof<'v>>,
    rules: Vec<&'v str>,
    remedies: &'v [String],
}

#[derive(Debug, Serialize)]
struct Who<'v> {
    rank: Option<u32>,
    local_rank: Option<u32>,
    host: Option<&'v str>,
    pod: Option<&'v str>,
}

impl<'v> From<&'v Culprit> for Who<'v> {
    fn from(culprit: &'v Culprit) -> Self {
        Self {
            rank: culprit.rank,
            local_rank: culprit.local_rank,
            host: culprit.host.as_deref(),
            pod: culprit.pod.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
struct First<'v> {
    time: String,
    what: &'v str,
    #[serde(flatten)]
    who: Who<'v>,
}

#[derive(Debug, Serialize)]
struct Proof<'v> {
    source: &'static str,
    line: Option<u64>,
    rank: Option<u32>,
    rule: Option<&'v str>,
    text: &'v str,
}

impl<'v> From<&'v Verdict> for Report<'v> {
    fn from(verdict: &'v Verdict) -> Self {
        let mut rules: Vec<&str> = Vec::new();
        for rule in verdict.evidence.iter().filter_map(|proof| proof.rule.as_deref()) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let firsts = verdict.failures.iter().map(|failure| First {
            time: String::from_utf8_lossy(&rfc3339(failure.at)).into_owned(),
            what: &failure.what,
            who: Who::from(&failure.culprit),
        });
        let proofs = verdict.evidence.iter().map(|proof| {
            let (source, line, rank) = match proof.source {
                Source::Log { line } => ("log", Some(line), None),
                Source::Mpirun => ("mpirun", None, None),
                Source::Rank(rank) => ("rank", None, Some(rank)),
                Source::Fact => ("fact", None, None),
            };
            Proof { source, line, rank, rule: proof.rule.as_deref(), text: &proof.text }
        });
        Self {
            schema: SCHEMA,
            class: verdict.class.name(),
            code: verdict.code,
            retryable: verdict.retryable,
            explanation: &verdict.explanation,
            culprit: Who::from(&verdict.culprit),
            first_failures: firsts.collect(),
            evidence: proofs.collect(),
            rules,
            remedies: &verdict.remedies,
        }
    }
}

/// The verdict as a JSON text, indented, with a newline at its end.
///
/// # Errors
/// None that this type can have; serde's interface knows no such promise.
pub fn json(verdict: &Verdict) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Report::from(verdict)).map(|text| text + "\n")
}
