//! Promise: every line that a rank writes arrives at the launcher once, whole, in order, and with the
//! right rank and host before it, past mpirun.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use lab::{Install, MpiJob, Stream};
use muster_tests::{Cluster, run_muster};

/// Lines that each rank writes on each stream.
const LINES: usize = 100_000;

/// For 1.6 million lines on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(240);

const RANKS: usize = 8;

fn cluster(install: Install) -> Cluster {
    Cluster::start(&MpiJob::new("pi", install, 4).unwrap().slots(2))
}

/// Counts the lines of each rank on one stream, and holds each to its number, checksum and host.
#[derive(Default)]
struct Ledger {
    next: [usize; RANKS],
    hosts: HashMap<usize, String>,
}

impl Ledger {
    fn enter(&mut self, stream: char, rank: usize, host: &str, text: &str) {
        let (head, sum) = text.rsplit_once(' ').unwrap_or_else(|| panic!("{text:?}"));
        let hash = head
            .bytes()
            .fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        assert_eq!(sum, format!("{hash:08x}"), "{text:?}");
        let mut words = head.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{text:?}"));
        assert_eq!(word(), stream.to_string(), "{text:?}");
        assert_eq!(word(), rank.to_string(), "{text:?}");
        assert_eq!(word(), self.next[rank].to_string(), "{text:?}");
        self.next[rank] += 1;
        if let Some(known) = self.hosts.get(&rank) {
            assert_eq!(known, host, "{text:?}");
        } else {
            self.hosts.insert(rank, host.to_owned());
        }
    }

    fn close(&self) {
        assert_eq!(self.next, [LINES; RANKS]);
        for (rank, host) in &self.hosts {
            assert_eq!(*host, format!("pi-worker-{}", rank / 2));
        }
    }
}

fn lines(path: &Path) -> impl Iterator<Item = String> {
    BufReader::with_capacity(1 << 20, File::open(path).unwrap()).lines().map(Result::unwrap)
}

fn every_line_once(install: Install) {
    let cluster = cluster(install);
    let program = install.program("ranks").display().to_string();
    let count = LINES.to_string();
    for tag in ["prefix", "json"] {
        let flag = format!("--tag={tag}");
        let command = run_muster(["launch", &flag, "--", &program, "lines", &count]);
        let launch = cluster.launcher.spawn(command).unwrap();
        let status = launch.wait(VERY_LONG).unwrap();
        assert_eq!(lab::code(status), 0, "{tag}: {}", launch.tail());
        for (stream, letter) in [(Stream::Stdout, 'o'), (Stream::Stderr, 'e')] {
            let mut ledger = Ledger::default();
            for line in lines(&launch.log(stream)) {
                match tag {
                    "prefix" => prefixed(&mut ledger, letter, &line),
                    _ => object(&mut ledger, letter, &line),
                }
            }
            ledger.close();
        }
    }
}

fn prefixed(ledger: &mut Ledger, letter: char, line: &str) {
    let Some((tag, text)) = line.strip_prefix("[rank ").and_then(|rest| rest.split_once("] "))
    else {
        // What muster and mpirun have to say themselves.
        assert!(letter == 'e' && !line.contains(" e "), "{line:?}");
        return;
    };
    let (rank, host) = tag.split_once('|').unwrap();
    if !text.starts_with("hello ") {
        ledger.enter(letter, rank.parse().unwrap(), host, text);
    }
}

fn object(ledger: &mut Ledger, letter: char, line: &str) {
    if letter == 'e' && !line.starts_with('{') {
        return;
    }
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
    let word = |name: &str| line[name].as_str().unwrap();
    assert_eq!(word("stream"), if letter == 'o' { "stdout" } else { "stderr" });
    let rank = usize::try_from(line["rank"].as_u64().unwrap()).unwrap();
    if !word("msg").starts_with("hello ") {
        ledger.enter(letter, rank, word("host"), word("msg"));
    }
}

#[test]
fn open_mpi_4() {
    every_line_once(Install::OpenMpi4);
}

#[test]
fn open_mpi_5() {
    every_line_once(Install::OpenMpi5);
}

#[test]
fn mpich_4() {
    every_line_once(Install::Mpich4);
}

#[test]
fn mpich_5() {
    every_line_once(Install::Mpich5);
}

#[test]
fn intel_mpi() {
    every_line_once(Install::IntelMpi);
}
