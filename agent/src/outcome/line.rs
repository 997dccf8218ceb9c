//! A line without what launchers, loggers and shells put before it, and whose line it is by that.
//!
//! Must not say what a line means. Prefixes come in layers (`[1,3]<stderr>:[w2:00365] …`), so they are
//! taken off one by one.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde::Deserialize;

use crate::ids::short;
use crate::outcome::facts::Culprit;

/// A line as rules see it.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'l> {
    /// Without prefixes.
    pub text: Cow<'l, str>,
    /// Whose it is, as far as the prefixes say.
    pub speaker: Culprit,
}

/// Prefixes, the more telling first. Groups: `rank`, `local`, `host`.
const PREFIXES: [&str; 28] = [
    // Open MPI's --tag-output, also Horovod's over it; PRRTE puts the job's name before.
    r"^\[(?:[\w.@-]+@)?\d+,(?<rank>\d+)\] ?<\w+>: ?",
    // horovodrun with gloo.
    r"^\[(?<rank>\d+)\]<\w+>: ?",
    // muster's own.
    r"^\[rank (?<rank>\d+)\|(?<host>[^\]]+)\] ?",
    // PyTorch, from 2.2 on.
    r"^\[rank ?(?<rank>\d+)\]:? ?",
    // torchrun --tee.
    r"^\[default(?<local>\d+)\]: ?",
    // kubectl logs --prefix.
    r"^\[pod/(?<host>[\w.-]+)/[\w.-]+\] ",
    // MVAPICH.
    r"^\[(?<host>[\w.-]+):mpi_rank_(?<rank>\d+)\]",
    r"^\[cli_(?<rank>\d+)\]: ",
    // Open MPI: [host:pid].
    r"^\[(?<host>[A-Za-z][\w.-]*):\d+\] ",
    // Open MPI's transports: [host][[job],rank]; job 0 is that of the daemons.
    r"^\[(?<host>[A-Za-z][\w.-]*)\]\[\[\d+,[1-9]\d*\],(?<rank>\d+)\] ?",
    r"^\[\[\d+,[1-9]\d*\],(?<rank>\d+)\] ?",
    // UCX: [host:pid:tid], after its time.
    r"^\[(?<host>[A-Za-z][\w.-]*):\d+ *:\d+(?::\d+)?\] +",
    // Hydra; mpiexec speaks of others.
    r"^\[mpiexec@[\w.-]+\] ",
    r"^\[(?:proxy|bstrap):[\d:]+@(?<host>[\w.-]+)\] ",
    // NCCL: host:pid:tid [device].
    r"^(?<host>[A-Za-z][\w.-]*):\d+:\d+ \[(?<local>\d+)\] ",
    // Ray.
    r"^\(\w+ pid=\d+(?:, ip=(?<host>[\d.]+))?\) ",
    // mpiexec -l, and PETSc's own.
    r"^\[(?<rank>\d+)\] ?",
    r"^[Rr]ank ?(?<rank>\d+): ",
    // srun -l.
    r"^ {0,3}(?<rank>\d{1,5}): ",
    // Times: ISO 8601 in its spellings, dmesg, syslog, glog.
    r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*Z?(?:[+-]\d\d:?\d\d)?:? ?",
    r"^\[\d{4}-\d\d-\d\d[T ][\d:.,]+\w?(?:[+-]\d\d:?\d\d)?\]:? ?",
    r"^\[ *\d+\.\d+\] ",
    r"^\[\w{3} \w{3} [ \d:]+\d{4}\] ",
    r"^\w{3} [ \d]\d \d\d:\d\d:\d\d (?<host>[\w.-]+) ",
    r"^[EWIF]\d{4} \d\d:\d\d:\d\d[.\d]* +\d+ [\w/.-]+:\d+\] ",
    // DeepSpeed under pdsh, pdsh itself, clush: a host's name ends with a digit.
    r"^(?<host>[A-Za-z][A-Za-z-]*[\w.-]*\d): ",
    r"^(?<host>\d{1,3}(?:\.\d{1,3}){3}): ",
    r"^stderr: ",
];

/// With whether a line must begin with a bracket to have it, which spares most lines most of them.
static COMPILED: LazyLock<Vec<(bool, Regex)>> = LazyLock::new(|| {
    let compiled = |prefix: &&str| Some((prefix.starts_with(r"^\["), Regex::new(prefix).ok()?));
    PREFIXES.iter().filter_map(compiled).collect()
});

/// No line carries more.
const LAYERS: usize = 6;

/// Takes the prefixes off. The first that names a rank or a host wins: the outermost knows best.
#[must_use]
pub fn strip(line: &str) -> Line<'_> {
    if let Some(own) = ours(line) {
        return own;
    }
    let mut text = line;
    let mut speaker = Culprit::default();
    for _ in 0..LAYERS {
        let bracket = text.starts_with('[');
        let mut may = COMPILED.iter().filter(|(bracketed, _)| bracket || !bracketed);
        let found = may.find_map(|(_, prefix)| prefix.captures(text));
        let Some(found) = found else { break };
        let group = |name| found.name(name).map(|group| group.as_str());
        if group("host").is_some_and(no_host) {
            break;
        }
        speaker.rank = speaker.rank.or_else(|| group("rank")?.parse().ok());
        speaker.local_rank = speaker.local_rank.or_else(|| group("local")?.parse().ok());
        speaker.host = speaker.host.or_else(|| group("host").map(|host| short(host).to_owned()));
        text = &text[found.get(0).map_or(0, |all| all.end())..];
    }
    Line { text: Cow::Borrowed(text), speaker }
}

/// What stands before a colon and ends with a digit, but is a program or a library.
fn no_host(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains(".so") || ["python", "lib", "torch", "cuda"].iter().any(|no| name.starts_with(no))
}

/// A line of `--tag=json`.
#[derive(Deserialize)]
struct Ours {
    rank: u32,
    local_rank: Option<u32>,
    host: String,
    msg: String,
}

fn ours(line: &str) -> Option<Line<'_>> {
    if !line.starts_with("{\"time\":\"") {
        return None;
    }
    let line: Ours = serde_json::from_str(line).ok()?;
    let speaker = Culprit {
        rank: Some(line.rank),
        local_rank: line.local_rank,
        host: Some(line.host),
        pod: None,
    };
    Some(Line { text: Cow::Owned(line.msg), speaker })
}

/// The line as text, without terminal colours, zeros and trailing blanks.
#[must_use]
pub fn clean(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line.trim_ascii_end());
    if !text.bytes().any(|byte| byte == 0x1b || byte == 0) {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\0' => {}
            '\x1b' => {
                // ECMA-48: parameters, then one letter. Other escapes are one character.
                if chars.next() == Some('[') {
                    chars.by_ref().find(|char| matches!(char, '@'..='~'));
                }
            }
            _ => plain.push(char),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_a_regular_expression() {
        assert_eq!(COMPILED.len(), PREFIXES.len());
    }

    #[test]
    fn prefixes_come_off_and_name_the_speaker() {
        for (line, text, rank, local, host) in [
            ("[1,3]<stderr>:boom", "boom", Some(3), None, None),
            ("[prterun-w0-1@1,3]<stderr>: boom", "boom", Some(3), None, None),
            ("[1,3]<stderr>:[w2:00365] *** x", "*** x", Some(3), None, Some("w2")),
            ("[rank 3|worker-1] boom", "boom", Some(3), None, Some("worker-1")),
            ("[rank3]: boom", "boom", Some(3), None, None),
            (
                "[rank3]:[E1012 01:02:03 x.cpp:1] boom",
                "[E1012 01:02:03 x.cpp:1] boom",
                Some(3),
                None,
                None,
            ),
            ("[default5]:boom", "boom", None, Some(5), None),
            ("[3] boom", "boom", Some(3), None, None),
            ("[3]PETSC ERROR: x", "PETSC ERROR: x", Some(3), None, None),
            ("rank 3: boom", "boom", Some(3), None, None),
            ("12: boom", "boom", Some(12), None, None),
            ("[pod/pi-worker-1/worker] boom", "boom", None, None, Some("pi-worker-1")),
            (
                "[n1.example.org:mpi_rank_7][error_sighandler] x",
                "[error_sighandler] x",
                Some(7),
                None,
                Some("n1"),
            ),
            ("[cli_7]: aborting job:", "aborting job:", Some(7), None, None),
            ("[n1][[4711,1],3][btl_tcp.c:1:f] x", "[btl_tcp.c:1:f] x", Some(3), None, Some("n1")),
            ("[[4711,0],3] x", "[[4711,0],3] x", None, None, None),
            ("[proxy:0:1@w2] x", "x", None, None, Some("w2")),
            ("[mpiexec@w0] x", "x", None, None, None),
            ("n1:12:34 [2] NCCL WARN x", "NCCL WARN x", None, Some(2), Some("n1")),
            (
                "[1795327446.919996] [w30:341  :0]   sock.c:1 UCX",
                "sock.c:1 UCX",
                None,
                None,
                Some("w30"),
            ),
            ("Oct  3 12:00:00 n1 kernel: x", "kernel: x", None, None, Some("n1")),
            ("[  12.345] Out of memory", "Out of memory", None, None, None),
            ("2024-01-02T03:04:05.6Z node01: x", "x", None, None, Some("node01")),
            ("E0325 20:57:27.62 2606 a/b.py:869] failed", "failed", None, None, None),
            ("192.0.2.7: boom", "boom", None, None, Some("192.0.2.7")),
            ("worker-1: boom", "boom", None, None, Some("worker-1")),
            ("python3: can't open file", "python3: can't open file", None, None, None),
            ("libc.so.6: boom", "libc.so.6: boom", None, None, None),
            ("srun: error: x", "srun: error: x", None, None, None),
            ("[ 3] libc", "[ 3] libc", None, None, None),
            (
                r#"{"time":"t","rank":3,"host":"w1","stream":"stderr","msg":"a \"b\""}"#,
                "a \"b\"",
                Some(3),
                None,
                Some("w1"),
            ),
        ] {
            let stripped = strip(line);
            let speaker = &stripped.speaker;
            assert_eq!(stripped.text, text, "{line}");
            let found = (speaker.rank, speaker.local_rank, speaker.host.as_deref());
            assert_eq!(found, (rank, local, host), "{line}");
        }
    }

    #[test]
    fn lines_are_cleaned() {
        for (raw, plain) in [
            (&b"\x1b[31mred\x1b[0m text\r"[..], "red text"),
            (b"\0\0x", "x"),
            (b"\x1b", ""),
            (b"a\xffb", "a\u{fffd}b"),
        ] {
            assert_eq!(clean(raw), plain);
        }
    }
}
