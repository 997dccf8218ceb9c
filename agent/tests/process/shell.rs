//! Command lines, with a shell and without.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use muster::process::reaper::Reaper;
use muster::process::status::WaitStatus;
use muster::worker::shell::start;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::io::AsyncReadExt as _;

use crate::children::run;
use crate::harness::Case;

pub(crate) const CASES: &[Case] = &[
    ("shell_is_started_only_where_it_is_needed", || run(only_where_needed())),
    ("shell_has_the_last_word", || run(last_word())),
    ("shell_waits_for_a_file_system_that_hangs", || run(hanging())),
];

/// A directory with programs, and what a line gives with it on PATH: output and exit status.
struct Bench {
    reaper: Reaper,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { reaper: Reaper::start().unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    async fn on(&self, path: &str, line: &str) -> (String, WaitStatus) {
        let path = path.replace('@', &self.dir.path().display().to_string());
        let env = [("PATH".to_owned(), path), ("BASH_FUNC_theirs%%".into(), "() { :; }".into())];
        let mut child = start(&self.reaper, line.as_bytes(), &env, "1.1").await.unwrap();
        drop(child.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
        (out + &err, child.exit.await.unwrap().status)
    }

    async fn of(&self, line: &str) -> (String, WaitStatus) {
        self.on("@/none:@:/usr/bin:/bin", line).await
    }
}

async fn only_where_needed() {
    let bench = Bench::new();
    let us = std::process::id().to_string();
    let parent = async |line: &str| {
        let (said, _) = bench.of(line).await;
        said.split_ascii_whitespace().nth(3).unwrap().to_owned()
    };
    for plain in ["cat /proc/self/stat", " \"/bin/cat\"\t'/proc/self/stat'"] {
        assert_eq!(parent(plain).await, us, "{plain}");
    }
    assert_ne!(parent("/bin/cat /proc/self/stat; true").await, us);

    // The words, the first of them as it was given.
    let (said, status) = bench.of("cat '/proc/self/cmdline' \"\" x").await;
    assert!(said.starts_with("cat\0/proc/self/cmdline\0\0x\0"), "{said:?}");
    assert_eq!(status, WaitStatus::Exited(1));

    // The environment and the directory are a shell's, however it is started.
    let home = bench.dir.path().join("home");
    symlink("/var/tmp", &home).unwrap();
    // SAFETY: the case is a process of its own, and nobody else reads its environment now.
    unsafe { std::env::set_var("HOME", &home) };
    for line in ["env", ":; env"] {
        let (said, _) = bench.of(line).await;
        for expected in ["PWD=/var/tmp", "MUSTER_SESSION=1.1", &format!("HOME={}", home.display())]
        {
            assert!(said.lines().any(|line| line == expected), "{line}: {expected}: {said}");
        }
    }
    let (said, status) = bench.of("/bin/pwd -P").await;
    assert_eq!((said.as_str(), status), ("/var/tmp\n", WaitStatus::Exited(0)));
}

async fn last_word() {
    let bench = Bench::new();
    bench.file("none/hidden", "#!/bin/sh\necho never\n", 0o644);
    bench.file("hidden", "#!/bin/sh\necho found $0\n", 0o755);
    bench.file("bare", "echo bare $1\n", 0o755);
    bench.file("locked", "#!/bin/sh\n", 0o644);
    bench.file("lost", "#!/no/interpreter\n", 0o755);
    bench.file("theirs", "#!/bin/sh\necho ours\n", 0o755);
    bench.file("none/directory/x", "", 0o644);
    bench.file("directory", "#!/bin/sh\necho file\n", 0o755);
    let here = bench.dir.path().display().to_string();
    for (line, said, code) in [
        ("hidden", format!("found {here}/hidden\n"), 0),
        ("directory", "file\n".to_owned(), 0),
        ("bare 'a b'", "bare a b\n".to_owned(), 0),
        ("no-such-program x", "no-such-program: ".to_owned(), 127),
        ("/no/such/program x", "/no/such/program: ".to_owned(), 127),
        ("lost", "lost: ".to_owned(), 127),
        (&format!("{here}/locked"), "locked: ".to_owned(), 126),
        ("'cd' /; pwd", "/\n".to_owned(), 0),
        ("kill -9 0", String::new(), 137),
    ] {
        let (words, status) = bench.of(line).await;
        assert!(words.contains(&said), "{line}: {words}");
        assert_eq!(status.shell_code(), code, "{line}: {words}");
    }
    // A function of whoever started us, where the shell takes it over.
    let dash = Path::new("/bin/sh").canonicalize().unwrap().ends_with("dash");
    let expected = if dash { "ours\n" } else { "" };
    assert_eq!(bench.of("theirs").await.0, expected);
    // What is relative is so to the home.
    assert_eq!(bench.on(":/usr/bin:/bin", "cat /dev/null").await.1, WaitStatus::Exited(0));
}

/// Has whoever opens a file, or executes it, hang as on a file system that does not answer, until what this gives
/// is dropped: they wait for a lease on it to be given back (fcntl(2)).
fn hang(path: &Path) -> File {
    let file = File::open(path).unwrap();
    // SAFETY: to ignore a signal runs no code of ours, and a lease touches no memory.
    unsafe {
        // It tells that somebody waits.
        signal(Signal::SIGIO, SigHandler::SigIgn).unwrap();
        assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK), 0);
    }
    file
}

async fn hanging() {
    let bench = Bench::new();
    bench.file("program", "#!/bin/sh\necho $PWD $1\n", 0o755);
    let program = bench.dir.path().join("program");
    // SAFETY: the case is a process of its own, and nobody else reads its environment now.
    unsafe { std::env::set_var("HOME", "/var/tmp") };
    let env = [("PATH".to_owned(), format!("{}:/usr/bin:/bin", bench.dir.path().display()))];
    let lease = hang(&program);
    // Returns although it hangs, or this process would be killed.
    let mut child = start(&bench.reaper, b"program 'a b'", &env, "1.1").await.unwrap();
    drop(lease);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "/var/tmp a b\n");
    assert_eq!(child.exit.await.unwrap().status, WaitStatus::Exited(0));
}
