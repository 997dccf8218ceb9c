//! Promise: a job that goes well ends with 0, without a warning, and leaves nothing, a hundred times in a
//! row.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use lab::{Cmd, Host, Install, MpiJob};
use muster_tests::{Cluster, LONG, ranks_by_host, run_muster};

/// Within this after the last job its hosts look as before the first.
const SOON: Duration = Duration::from_secs(10);

/// Between two looks that must agree.
const PAUSE: Duration = Duration::from_millis(100);

/// Files, listeners and named sockets of a host. Unix sockets that are connected but have no name are
/// `muster worker`'s own affair; its descriptors are counted.
const LISTING: &str = "find /tmp /var/tmp /dev/shm /run /root /home -mindepth 1 2>/dev/null
    awk 'NR > 1 && NF > 7 { print \"unix\", $8 }' /proc/net/unix
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == \"0A\" { print \"tcp\", $2 }'";

/// What a host has at this moment.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    listing: BTreeSet<String>,
    /// Command lines, with the number of open files.
    processes: Vec<(String, usize)>,
}

fn look(host: &Host) -> Look {
    let listing = host.run(Cmd::sh(LISTING), LONG).unwrap().stdout;
    let open = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let processes = host.processes();
    let processes = processes.into_iter().map(|info| (info.cmdline, open(info.outer))).collect();
    Look { listing: listing.lines().map(str::to_owned).collect(), processes }
}

/// What a host has at rest: a worker that has just started looks at its devices, with files open.
fn look_at_rest(host: &Host) -> Look {
    let until = Instant::now() + SOON;
    let mut before = look(host);
    loop {
        std::thread::sleep(PAUSE);
        let now = look(host);
        if now == before {
            return now;
        }
        let name = host.name();
        assert!(Instant::now() < until, "{name} does not come to rest: {before:?} became {now:?}");
        before = now;
    }
}

/// Waits until the host looks as it did; where it does not come to that, shows the difference.
fn looks_again(host: &Host, before: &Look) {
    let until = Instant::now() + SOON;
    loop {
        let now = look(host);
        if now == *before {
            return;
        }
        let more: Vec<_> = now.listing.difference(&before.listing).collect();
        let (was, is) = (&before.processes, &now.processes);
        let name = host.name();
        assert!(Instant::now() < until, "{name} has {more:?} more; {was:?} became {is:?}");
    }
}

/// What stderr says of a job that goes well, line by line.
const SAID: [&str; 5] = [
    "muster: 2 hosts from /etc/mpi/hostfile ",
    "muster: 2/2 workers ready",
    "muster: 2 slots: 1 on each of pi-worker-0, pi-worker-1 (hostfile)",
    "muster: fabric: TCP over eth0 (10.77.0.0/16",
    "muster: 2 ranks run: pi-worker-0 x 1, pi-worker-1 x 1",
];

/// Open MPI's own race, 4's and 5's: its child was faster to make a group of itself and to become the
/// agent. Other agents see it, too.
const RACE: [&str; 2] = ["plm:rsh: Warning: setpgid(", "plm:ssh: Warning: setpgid("];

/// In the lines of a wait that takes a second or more, which a busy machine may need.
const WAITS: &str = "/2 workers ready; ";

/// The port of `muster worker`, 2222, as /proc/net/tcp writes it.
const PORT: &str = ":08AE";

fn clean(install: Install, runs: usize) {
    let job = MpiJob::new("pi", install, 2).unwrap();
    let cluster = Cluster::start(&job);
    let hosts: Vec<&Host> = cluster.workers.iter().chain([&cluster.launcher]).collect();
    let before: Vec<Look> = hosts.iter().map(|host| look_at_rest(host)).collect();
    let listens = |look: &Look| look.listing.iter().any(|line| line.ends_with(PORT));
    let listeners: Vec<bool> = before.iter().map(listens).collect();
    assert_eq!(listeners, [true, true, false], "this test can see what listens");
    let program = install.program("ranks").display().to_string();
    for run in 1..=runs {
        let command = run_muster(["launch", "--", &program, "hello"]);
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "run {run}: {output:?}");
        let counts =
            |line: &&str| !line.contains(WAITS) && !RACE.iter().any(|race| line.contains(race));
        let said: Vec<&str> = output.stderr.lines().filter(counts).collect();
        let expected = said.len() == SAID.len()
            && said.iter().zip(SAID).all(|(line, expected)| line.starts_with(expected));
        assert!(expected, "run {run}: {output:?}");
        assert_eq!(output.stdout.lines().count(), 2, "run {run}: {output:?}");
        let placed = ranks_by_host(&output.stdout, 2);
        assert_eq!(placed.len(), 2, "run {run}: {output:?}");
    }
    for (host, before) in hosts.iter().zip(&before) {
        looks_again(host, before);
    }
}

#[test]
fn open_mpi_4() {
    clean(Install::OpenMpi4, 100);
}

#[test]
fn open_mpi_5() {
    clean(Install::OpenMpi5, 10);
}

#[test]
fn mpich() {
    clean(Install::Mpich5, 10);
}

#[test]
fn intel() {
    clean(Install::IntelMpi, 10);
}
