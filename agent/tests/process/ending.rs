//! Ending whole trees.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster::config::variables::MUSTER_SESSION;
use muster::process::end::{Ended, end};
use muster::process::reaper::Reaper;
use muster::process::scope::Scope;
use muster::process::spawn::{Child, spawn};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{ForkResult, Uid, alarm, fork, setuid};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::children::{run, sh};
use crate::harness::{Case, ROLE, left, this, wait_for_all};

pub(crate) const CASES: &[Case] = &[
    ("end_finds_what_daemonised_itself", || run(daemonised())),
    ("end_kills_what_ignores_sigterm", || run(stubborn())),
    ("end_wakes_what_is_stopped", || run(stopped())),
    ("end_handles_hundreds", || run(hundreds())),
    ("end_catches_what_forks_and_exits", || run(comets())),
    ("end_stops_a_fork_bomb", || run(fork_bomb())),
];

const GRACE: Duration = Duration::from_secs(10);

/// Starts a script and waits until it has said `lines` lines.
async fn started(reaper: &Reaper, mut command: Command, lines: usize) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = spawn(reaper, command).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..lines {
        output.next_line().await.unwrap().unwrap();
    }
    child
}

fn ended(termed: usize, killed: usize) -> Ended {
    Ended { termed, killed, left: Vec::new() }
}

async fn daemonised() {
    let reaper = Reaper::start().unwrap();
    let daemon = "(setsid sh -c 'sleep 1000 & echo up; wait' &)";
    let mut ours = sh(daemon);
    ours.env(MUSTER_SESSION, "ours");
    let mut other = sh(daemon);
    other.env(MUSTER_SESSION, "ours-too");
    let ours = started(&reaper, ours, 1).await;
    let other = started(&reaper, other, 1).await;
    ours.exit.await.unwrap();
    other.exit.await.unwrap();
    assert_eq!(end(Scope::of([ours.id]), GRACE).await.unwrap(), ended(0, 0), "the link is lost");
    let scope = Scope::of([ours.id]).session("ours");
    assert_eq!(end(scope, GRACE).await.unwrap(), ended(2, 0), "the mark is not");
    assert_eq!(left().len(), 2, "the other session runs on: {:?}", left());
    assert_eq!(end(Scope::all_descendants(), GRACE).await.unwrap(), ended(2, 0));
    assert_eq!(left(), [""; 0]);
}

async fn stubborn() {
    let reaper = Reaper::start().unwrap();
    let script =
        "sleep 1000 & sh -c 'trap \"\" TERM; echo up; while :; do sleep 1000; done' & wait";
    let child = started(&reaper, sh(script), 1).await;
    let begun = Instant::now();
    let grace = Duration::from_millis(300);
    // The stubborn shell's sleep may be killed by SIGTERM, and be replaced, before its parent is.
    let outcome = end(Scope::of([child.id]), grace).await.unwrap();
    assert!(outcome.termed >= 2 && outcome.killed >= 1 && outcome.left.is_empty(), "{outcome:?}");
    assert!(begun.elapsed() >= grace, "{:?}", begun.elapsed());
    assert_eq!(child.exit.await.unwrap().status.shell_code(), 143);
    assert_eq!(left(), [""; 0]);
}

async fn stopped() {
    let reaper = Reaper::start().unwrap();
    let child = started(&reaper, sh("trap 'exit 9' TERM; echo up; kill -STOP $$"), 1).await;
    let begun = Instant::now();
    assert_eq!(end(Scope::of([child.id]), GRACE).await.unwrap(), ended(1, 0));
    assert!(begun.elapsed() < GRACE);
    assert_eq!(child.exit.await.unwrap().status.shell_code(), 9, "it got to its handler");
}

async fn hundreds() {
    let reaper = Reaper::start().unwrap();
    let script =
        "i=0; while [ $i -lt 400 ]; do setsid sleep 1000 & i=$((i+1)); done; echo up; wait";
    let child = started(&reaper, sh(script), 1).await;
    assert_eq!(end(Scope::of([child.id]), GRACE).await.unwrap(), ended(401, 0));
}

/// Programs that start their successor in a new session and exit, for ever. Each lives longer than a look at
/// `/proc` takes; one that does not may escape, as `end` says.
async fn comets() {
    let reaper = Reaper::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let comet = directory.path().join("comet");
    // Stops by itself when the test removes the directory.
    fs::write(&comet, "#!/bin/sh\nsleep 1; [ -e \"$0\" ] && setsid \"$0\" <&- >&- 2>&- &\n")
        .unwrap();
    fs::set_permissions(&comet, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = sh("for i in 1 2 3 4; do \"$0\" <&- >&- 2>&- & done; echo up");
    command.arg(&comet).env(MUSTER_SESSION, "comets");
    let child = started(&reaper, command, 1).await;
    let scope = Scope::of([child.id]).session("comets");
    let outcome = end(scope, Duration::ZERO).await.unwrap();
    assert!(outcome.left.is_empty() && outcome.killed > 0, "{outcome:?}");
    // A comet that escaped has a living successor at any time, for which this would wait until it is killed.
    wait_for_all();
}

/// Forks as fast as it can; every process of it dies of its alarm should the test fail.
pub(crate) fn bomb() {
    alarm::set(20);
    setrlimit(Resource::RLIMIT_NPROC, 150, 150).unwrap();
    setuid(Uid::from_raw(54_321)).unwrap();
    println!("up");
    loop {
        // SAFETY: a single thread, and the child goes on with the same loop.
        if let Ok(ForkResult::Child) = unsafe { fork() } {
            alarm::set(20);
        }
    }
}

async fn fork_bomb() {
    let reaper = Reaper::start().unwrap();
    let mut command = this();
    command.env(ROLE, "bomb").env(MUSTER_SESSION, "bomb");
    let child = started(&reaper, command, 1).await;
    let begun = Instant::now();
    let outcome = end(Scope::of([child.id]).session("bomb"), Duration::ZERO).await.unwrap();
    assert!(outcome.left.is_empty() && outcome.killed > 1, "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(left(), [""; 0]);
}
