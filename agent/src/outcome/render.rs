//! The verdict for people: the last block on stderr, and the termination message.
//!
//! Must not print, nor ask whether there is a terminal.

use crate::exit::Class;
use crate::outcome::facts::Culprit;
use crate::outcome::scan::Source;
use crate::outcome::verdict::{Evidence, Verdict};

/// The most lines that the last block has.
pub const LINES: usize = 15;
/// The most bytes that a termination message may have (Kubernetes cuts at 4,096).
pub const TERMINATION: usize = 4096;

/// Columns of text in the block, beside the label.
const WIDTH: usize = 110;
const PROOFS: usize = 3;
const REMEDIES: usize = 3;

/// The last block: no more than [`LINES`] lines, labels aligned, in colour where told.
#[must_use]
pub fn block(verdict: &Verdict, colour: bool) -> String {
    let mut lines: Vec<(&str, String)> = vec![("verdict", head(verdict))];
    lines.push(("what", verdict.explanation.clone()));
    if !verdict.culprit.is_empty() {
        lines.push(("where", place(&verdict.culprit)));
    }
    for failure in verdict.failures.iter().skip(1).take(2) {
        lines.push(("then", format!("{}: {}", place(&failure.culprit), failure.what)));
    }
    for proof in verdict.evidence.iter().take(PROOFS) {
        lines.push(("proof", self::proof(proof)));
    }
    for remedy in verdict.remedies.iter().take(REMEDIES) {
        lines.push(("try", remedy.clone()));
    }
    let mut text = String::new();
    let mut before = "";
    for (label, words) in fold(lines).into_iter().take(LINES) {
        let shown = if label == before { "" } else { label };
        before = label;
        let label = format!("{shown:<7}");
        text += &match (colour, shown) {
            (true, "verdict") => format!("\x1b[{}m{label}  {words}\x1b[0m\n", tone(verdict)),
            (true, _) => format!("\x1b[1m{label}\x1b[0m  {words}\n"),
            (false, _) => format!("{label}  {words}\n"),
        };
    }
    text
}

/// Green for what went well, yellow for what a retry may cure, else red.
fn tone(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict { class: Class::Ok, .. } => "32",
        Verdict { retryable: true, .. } => "33",
        _ => "31",
    }
}

/// The explanation may take two lines; anything else one.
fn fold(lines: Vec<(&str, String)>) -> Vec<(&str, String)> {
    let mut folded = Vec::new();
    for (label, words) in lines {
        let (first, rest) = split(&words);
        folded.push((label, first));
        if label == "what" && !rest.is_empty() {
            folded.push((label, split(rest).0));
        }
    }
    folded
}

/// The first line's worth of words, and the rest.
fn split(words: &str) -> (String, &str) {
    if words.len() <= WIDTH {
        return (words.to_owned(), "");
    }
    let end = words.floor_char_boundary(WIDTH);
    let end = words[..end].rfind(' ').unwrap_or(end);
    (words[..end].to_owned(), words[end..].trim_start())
}

fn head(verdict: &Verdict) -> String {
    let retry = match (verdict.class, verdict.retryable) {
        (Class::Ok, _) => "nothing to retry",
        (_, true) => "a retry can help",
        (_, false) => "a retry will not help",
    };
    format!("{}, exit code {}; {retry}", verdict.class, verdict.code)
}

/// `rank 3 (local rank 1), host worker-1, pod x`.
fn place(culprit: &Culprit) -> String {
    let mut parts = Vec::new();
    match (culprit.rank, culprit.local_rank) {
        (Some(rank), Some(local)) => parts.push(format!("rank {rank} (local rank {local})")),
        (Some(rank), None) => parts.push(format!("rank {rank}")),
        (None, Some(local)) => parts.push(format!("local rank {local}")),
        (None, None) => {}
    }
    parts.extend(culprit.host.iter().map(|host| format!("host {host}")));
    parts.extend(culprit.pod.iter().map(|pod| format!("pod {pod}")));
    parts.join(", ")
}

fn proof(proof: &Evidence) -> String {
    let text: String =
        proof.text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    match (&proof.source, &proof.rule) {
        (source, Some(rule)) => format!("{} [{rule}] {text}", from(source)),
        (source, None) => format!("{} {text}", from(source)),
    }
}

fn from(source: &Source) -> String {
    match source {
        Source::Log { line } => format!("line {line}:"),
        Source::Mpirun => "mpirun:".to_owned(),
        Source::Rank(rank) => format!("rank {rank}:"),
        Source::Fact => "seen:".to_owned(),
    }
}

/// The termination message: the block, then as many more proofs as fit in [`TERMINATION`] bytes.
#[must_use]
pub fn termination(verdict: &Verdict) -> String {
    let mut text = block(verdict, false);
    for proof in verdict.evidence.iter().skip(PROOFS) {
        text += &format!("proof    {}\n", self::proof(proof));
    }
    cut(&text, TERMINATION).to_owned()
}

/// No more than so many bytes: whole lines, or if the first is too long already whole characters.
fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most);
    text[..end].rfind('\n').map_or(&text[..end], |line| &text[..=line])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::verdict::FirstFailure;
    use crate::output::clock::Micros;

    fn verdict(repeat: usize) -> Verdict {
        let culprit = Culprit {
            rank: Some(3),
            local_rank: Some(1),
            host: Some("worker-1".into()),
            pod: Some("pi-worker-1".into()),
        };
        let proof = Evidence {
            source: Source::Rank(3),
            rule: Some("cuda-out-of-memory".into()),
            text: "CUDA out of memory. ü\t".repeat(repeat),
        };
        let failure =
            FirstFailure { culprit: culprit.clone(), what: "exit code 1".into(), at: Micros(1) };
        Verdict {
            class: Class::GpuOom,
            code: 84,
            retryable: false,
            culprit,
            failures: vec![failure; 5],
            evidence: vec![proof; 20],
            explanation: "A rank asked for more device memory than was free. ".repeat(repeat),
            remedies: vec!["lower the batch size".repeat(repeat); 9],
        }
    }

    #[test]
    fn a_block_reads_well() {
        let mut one = verdict(1);
        one.failures.truncate(2);
        one.evidence.truncate(1);
        one.remedies.truncate(1);
        assert_eq!(
            block(&one, false),
            "verdict  gpu-oom, exit code 84; a retry will not help\n\
             what     A rank asked for more device memory than was free. \n\
             where    rank 3 (local rank 1), host worker-1, pod pi-worker-1\n\
             then     rank 3 (local rank 1), host worker-1, pod pi-worker-1: exit code 1\n\
             proof    rank 3: [cuda-out-of-memory] CUDA out of memory. ü \n\
             try      lower the batch size\n"
        );
    }

    #[test]
    fn it_stays_within_its_bounds() {
        for repeat in [1, 10, 1000] {
            let long = verdict(repeat);
            let text = block(&long, true);
            assert!(text.lines().count() <= LINES, "{text}");
            let message = termination(&long);
            assert!(message.len() <= TERMINATION && message.ends_with('\n'));
        }
        assert_eq!(cut("aä\nb\nc", 5), "aä\n");
        assert_eq!(cut("ää", 3), "ä");
    }
}
