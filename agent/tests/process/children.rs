//! Spawning and reaping.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use muster::exit::{Class, Explain as _};
use muster::process::end::end;
use muster::process::guard::Guarded;
use muster::process::reaper::Reaper;
use muster::process::scope::Scope;
use muster::process::spawn::{SpawnError, spawn};
use muster::process::status::WaitStatus;
use nix::sys::signal::{SigSet, Signal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::harness::{CASE, Case, ROLE};

pub(crate) const CASES: &[Case] = &[
    ("reaper_reports_how_children_end", || run(statuses())),
    ("reaper_loses_no_child_in_a_storm", || run(storm())),
    ("reaper_reaps_orphans", || run(orphans())),
    ("reaper_signals_only_its_own", || run(signals())),
    ("spawn_pipes", || run(pipes())),
    ("spawn_starts_with_default_signals", || run(dispositions())),
    ("spawn_explains_failures", || run(failures())),
];

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, case).await.unwrap() });
}

pub(crate) fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).env_remove(ROLE).env_remove(CASE);
    command
}

/// The working child of the guard's tests: runs a job until the parent is gone, then ends it.
pub(crate) async fn work(guarded: Guarded) {
    let mut terminated =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let reaper = Reaper::start().unwrap();
    let script =
        "(env -i setsid sh -c 'trap \"\" TERM; echo up; exec sleep 1000' &); exec sleep 1000";
    let _job = spawn(&reaper, sh(script)).unwrap();
    println!("{}", std::process::id());
    guarded.parent_gone().await.unwrap();
    println!("the parent is gone");
    terminated.recv().await;
    let ended = end(Scope::all_descendants(), Duration::from_millis(200)).await.unwrap();
    println!("ended {} killed {} left {}", ended.termed, ended.killed, ended.left.len());
}

async fn statuses() {
    let reaper = Reaper::start().unwrap();
    for (script, status) in [
        ("exit 0", WaitStatus::Exited(0)),
        ("exit 3", WaitStatus::Exited(3)),
        ("kill -9 $$", WaitStatus::Signaled { signal: 9, core: false }),
        ("kill -40 $$", WaitStatus::Signaled { signal: 40, core: false }),
    ] {
        let exited = spawn(&reaper, sh(script)).unwrap().exit.await.unwrap();
        assert_eq!(exited.status, status, "{script}");
        assert!(exited.usage.max_rss_kib > 100, "{:?}", exited.usage);
    }
    let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let exited = spawn(&reaper, sh(busy)).unwrap().exit.await.unwrap();
    assert!(exited.usage.user_us > 5_000, "{:?}", exited.usage);
}

async fn storm() {
    let reaper = Reaper::start().unwrap();
    let spawners: Vec<_> = (0..8)
        .map(|spawner: u8| {
            let reaper = reaper.clone();
            tokio::spawn(async move {
                for round in 0..40_u8 {
                    let code = (spawner * 5 + round) % 200;
                    let child = spawn(&reaper, sh(&format!("exit {code}"))).unwrap();
                    assert_eq!(child.exit.await.unwrap().status, WaitStatus::Exited(code));
                }
            })
        })
        .collect();
    for spawner in spawners {
        spawner.await.unwrap();
    }
}

async fn orphans() {
    let reaper = Reaper::start().unwrap();
    for code in 0..5 {
        let mut command = sh(&format!("setsid sh -c 'sleep 0.1; exit {code}' >&- & echo $!"));
        command.stdout(Stdio::piped());
        let mut child = spawn(&reaper, command).unwrap();
        let mut orphan = String::new();
        child.stdout.take().unwrap().read_to_string(&mut orphan).await.unwrap();
        assert!(child.exit.await.unwrap().status.success());
        let ended = reaper.adopted(orphan.trim().parse().unwrap(), PATIENCE).await.unwrap();
        assert_eq!(ended.status, WaitStatus::Exited(code));
    }
    assert_eq!(crate::harness::left(), [""; 0]);
}

async fn signals() {
    let reaper = Reaper::start().unwrap();
    let child = spawn(&reaper, sh("exec sleep 1000")).unwrap();
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(child.id.pid))).unwrap();
    assert_eq!(group.as_raw(), child.id.pid);
    assert!(reaper.signal(child.id.pid, Signal::SIGTERM));
    let status = child.exit.await.unwrap().status;
    assert_eq!(status, WaitStatus::Signaled { signal: 15, core: false });
    assert!(!reaper.signal(child.id.pid, Signal::SIGTERM), "reaped: the number is not ours");
    assert!(!reaper.signal(1, Signal::SIGCONT));
}

async fn pipes() {
    let reaper = Reaper::start().unwrap();
    let mut command = sh("cat; echo err >&2");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&reaper, command).unwrap();
    let text = vec![b'x'; 1 << 20];
    let mut stdin = child.stdin.take().unwrap();
    let sent = text.clone();
    let writer = tokio::spawn(async move { stdin.write_all(&sent).await });
    let (mut out, mut err) = (Vec::new(), String::new());
    child.stdout.take().unwrap().read_to_end(&mut out).await.unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    writer.await.unwrap().unwrap();
    assert!(out == text && err == "err\n");
    assert!(child.exit.await.unwrap().status.success());
    let mut null = sh("exit 0");
    null.stdin(Stdio::null());
    let child = spawn(&reaper, null).unwrap();
    assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
    child.exit.await.unwrap();
}

async fn dispositions() {
    let reaper = Reaper::start().unwrap();
    // A mask and handlers of our own must not reach the child.
    SigSet::all().thread_block().unwrap();
    let _handled = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let mut command = Command::new("cat");
    command.arg("/proc/self/status").stdout(Stdio::piped());
    let mut child = spawn(&reaper, command).unwrap();
    let mut status = String::new();
    child.stdout.take().unwrap().read_to_string(&mut status).await.unwrap();
    for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let set = u64::from_str_radix(line.trim(), 16).unwrap();
        // glibc's posix_spawn ignores its own two signals, 32 and 33, in the child; musl does not.
        let of_glibc = (1 << 31) | (1 << 32);
        assert_eq!(set & !of_glibc, 0, "{name} {set:#x}");
    }
}

async fn failures() {
    let reaper = Reaper::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let failed = |command: Command| spawn(&reaper, command).unwrap_err();

    let error = failed(Command::new("no-such-program"));
    assert!(matches!(error, SpawnError::NotFound { .. }), "{error:?}");
    assert_eq!(error.to_string(), "start no-such-program: no such program");
    assert_eq!(error.class(), Class::CommandNotFound);
    assert!(error.hint().unwrap().contains("PATH"));

    let error = failed(Command::new(file("script", "#!/no/interpreter\n", 0o755)));
    assert!(matches!(error, SpawnError::NoInterpreter { .. }), "{error:?}");
    let error = failed(Command::new(file("plain", "#!/bin/sh\n", 0o644)));
    assert!(matches!(error, SpawnError::PermissionDenied { .. }), "{error:?}");
    let error = failed(Command::new(file("garbage", "\x7fELFgarbage", 0o755)));
    assert!(matches!(error, SpawnError::Format { .. }), "{error:?}");

    let mut command = Command::new("true");
    command.current_dir("/no/such/directory");
    let error = failed(command);
    assert!(matches!(error, SpawnError::Directory { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Config);

    let mut command = Command::new("true");
    command.arg("x".repeat(1 << 20));
    let error = failed(command);
    assert!(matches!(error, SpawnError::TooLong { .. }), "{error:?}");
    assert_eq!(crate::harness::left(), [""; 0], "a failed start leaves nobody to reap");
}
