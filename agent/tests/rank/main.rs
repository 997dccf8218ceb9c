//! Real programs under `muster rank`: what arrives, where, and how it ends.
//!
//! Programs are shell scripts. Tests wait for lines, for ends of file or for processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

mod signals;
mod terminal;
mod worker;

/// The wrapper of rank 3 of 16 with these flags, around a shell script.
fn rank(flags: &[&str], script: &str) -> Command {
    program(flags, &["sh", "-c", script])
}

fn program(flags: &[&str], words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for name in
        ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID", "MUSTER_RANK_SOCKET", "MUSTER_JOB"]
    {
        command.env_remove(name);
    }
    command.env("PMI_RANK", "3").env("PMI_SIZE", "16").env("PMI_HOSTNAME", "w1.job.svc");
    command.arg("rank").args(flags).arg("--").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(flags: &[&str], script: &str) -> Output {
    rank(flags, script).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Waits until something can be read, or accepted.
fn wait_for(fd: &impl AsFd) {
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ready, 20_000u16), Ok(1), "nothing comes");
}

/// What a wrapper prints; a test does not wait for it for ever.
struct Printed(ChildStdout);

impl io::Read for Printed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_for(&self.0);
        self.0.read(buffer)
    }
}

/// Starts it and waits for its first line, which says that its script is ready.
fn start(command: &mut Command) -> (Child, BufReader<Printed>) {
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(Printed(child.stdout.take().unwrap()));
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.ends_with("READY\n"), "{line:?}");
    (child, stdout)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[test]
fn lines_carry_the_rank_on_their_own_stream() {
    let output = run(&[], "echo out; echo err >&2; printf 'no end'");
    assert_eq!(text(&output.stdout), "[rank  3|w1] out\n[rank  3|w1] no end\n");
    assert_eq!(text(&output.stderr), "[rank  3|w1] err\n");
    let output = run(&["--tag={rank}/{size} {host} {stream}: "], "echo a");
    assert_eq!(text(&output.stdout), "3/16 w1 stdout: a\n");
}

#[test]
fn it_ends_as_the_program_ends() {
    for code in [0, 1, 3, 79, 127, 255] {
        assert_eq!(run(&[], &format!("exit {code}")).status.code(), Some(code));
    }
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34, 40, 64] {
        let status = run(&[], &format!("ulimit -c 0; kill -{signal} $$")).status;
        assert_eq!(status.signal(), Some(signal));
        assert!(!status.core_dumped());
    }
}

#[test]
fn a_program_that_cannot_be_started_is_explained() {
    let output = program(&[], &["/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(86));
    assert!(text(&output.stderr).contains("failed to start /no/such/program: no such program"));
    let output = program(&["--tag={rnk}"], &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(89));
    assert!(text(&output.stderr).contains("no field is called 'rnk'"));
    assert!(
        text(&output.stderr).contains("\nmuster: hint: the fields are rank, size, local_rank, ")
    );
    let output = program(&["--ranks=7-4"], &["true"]).output().unwrap();
    assert!(text(&output.stderr).contains("\nmuster: hint: write them as in --ranks 0,4-7\n"));
}

#[test]
fn without_a_rank_lines_stay_as_they_are() {
    let output = rank(&[], "printf 'a\\r\\nb'").env_remove("PMI_RANK").output().unwrap();
    assert_eq!(text(&output.stdout), "a\r\nb");
    assert_eq!(text(&output.stderr).lines().count(), 1);
    assert!(text(&output.stderr).contains("no rank in the environment"));
}

#[test]
fn scripts_without_an_interpreter_are_the_shells() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("n.sh");
    fs::write(&path, "echo \"hi $1\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let at = path.to_str().unwrap();
    assert_eq!(text(&program(&["--tag=none"], &[at, "you"]).output().unwrap().stdout), "hi you\n");
    let mut command = program(&["--tag=none"], &["n.sh", "there"]);
    let search = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    assert_eq!(text(&command.env("PATH", search).output().unwrap().stdout), "hi there\n");
}

#[test]
fn a_log_file_that_is_a_pipe_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("rank.000003.out");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let log = format!("--log-dir={}", directory.path().display());
    let begun = Instant::now();
    let output = run(&[&log], "true");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(91));
    let wanted = format!("in {}: it is a pipe or a socket, expected a file", pipe.display());
    assert!(text(&output.stderr).contains(&wanted), "{output:?}");
    assert!(text(&output.stderr).contains("hint: --log-dir must be writable"), "{output:?}");
}

#[test]
fn other_descriptors_and_the_environment_pass() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let fd = file.as_file().as_raw_fd();
    let script = "ls /proc/self/fd | tr '\\n' ' '; echo through >&9; env | sort";
    let mut bare = Command::new("sh");
    let mut wrapped = rank(&["--tag=none"], script);
    bare.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
    bare.env_clear().env("PATH", "/usr/bin:/bin").env("PMI_RANK", "3").env("PMI_FD", "9");
    wrapped.env_clear().env("PATH", "/usr/bin:/bin").env("PMI_RANK", "3").env("PMI_FD", "9");
    for command in [&mut bare, &mut wrapped] {
        // SAFETY: dup2 is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                let error = nix::libc::dup2(fd, 9);
                if error < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
    }
    assert_eq!(text(&wrapped.output().unwrap().stdout), text(&bare.output().unwrap().stdout));
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "through\nthrough\n");
}

#[test]
fn stdin_is_the_programs() {
    let mut child = rank(&["--tag=none"], "cat").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"for the rank\n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "for the rank\n");
}

#[test]
fn everything_written_before_a_kill_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("--log-dir={}", directory.path().display());
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; \
                  printf 'half a li'; kill -9 $$";
    let output = run(&["--tag=short", &log], script);
    assert_eq!(output.status.signal(), Some(9));
    let expected: String = (0..2000).map(|i| format!("[ 3] line {i}\n")).collect();
    assert_eq!(text(&output.stdout), expected + "[ 3] half a li\n");
    let raw = fs::read_to_string(directory.path().join("rank.000003.out")).unwrap();
    let expected: String = (0..2000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(raw, expected + "half a li");
}

#[test]
fn noise_is_kept_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    // Every byte, lines of every kind, one of 10 MB, and single bytes at the end.
    let mut noise: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
    noise.extend(b"1%\r2%\r3%\r\nline\n\n\r\n");
    noise.extend(std::iter::repeat_n(b'x', 10_000_000));
    noise.extend(b"\nend\0");
    let file = directory.path().join("noise");
    fs::write(&file, &noise).unwrap();
    let log = format!("--log-dir={}", directory.path().join("logs").display());
    let (file, log) = (file.to_str().unwrap(), log.as_str());
    for (flags, exact) in [
        (&["--tag=none", log][..], true),
        (&["--tag=prefix", log], false),
        (&["--tag=json", log], false),
    ] {
        let words = [
            "sh",
            "-c",
            "cat \"$1\"; cat \"$1\" >&2; dd if=\"$1\" bs=1 count=2000 2>/dev/null",
            "sh",
            file,
        ];
        let output = program(flags, &words).output().unwrap();
        assert!(output.status.success());
        let mut expected = noise.clone();
        expected.extend(&noise[..2000]);
        if exact {
            assert!(output.stdout == expected && output.stderr == noise);
        } else {
            let pieces = 10_000_000 / 65_536;
            assert!(output.stderr.split(|byte| *byte == b'\n').count() > pieces);
        }
        for (name, expected) in [("rank.000003.out", &expected), ("rank.000003.err", &noise)] {
            let path = directory.path().join("logs").join(name);
            assert!(&fs::read(&path).unwrap() == expected, "{name} {flags:?}");
            fs::remove_file(path).unwrap();
        }
        if flags[0] == "--tag=json" {
            for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line: serde_json::Value = serde_json::from_slice(line).unwrap();
                assert_eq!((&line["rank"], &line["host"]), (&3.into(), &"w1".into()));
            }
        }
    }
}

#[test]
fn progress_bars() {
    let script = "for i in 1 2 3; do printf '\\r%s%%' $i; done; echo; echo done";
    assert_eq!(text(&run(&["--tag=short"], script).stdout), "[ 3] 3%\n[ 3] done\n");
    assert_eq!(
        text(&run(&["--tag=short", "--cr=keep"], script).stdout),
        "[ 3] \r[ 3] 1%\r[ 3] 2%\r[ 3] 3%\n[ 3] done\n"
    );
}

#[test]
fn a_closed_reader_ends_the_program_as_without_a_wrapper() {
    let (mut child, stdout) =
        start(&mut rank(&["--tag=none"], "echo READY; while :; do echo more; done"));
    drop(stdout);
    assert_eq!(child.wait().unwrap().signal(), Some(13));
    // One that does not care about its output goes on.
    let script = "trap '' PIPE; echo READY; read x; echo more 2>/dev/null; exit 4";
    let (mut child, stdout) = start(rank(&["--tag=none"], script).stdin(Stdio::piped()));
    drop(stdout);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_slow_reader_loses_nothing_and_holds_the_program_up() {
    let script = "i=0; while [ $i -lt 100000 ]; do echo $i; i=$((i+1)); done; echo done >&2";
    let mut child = rank(&["--tag=none"], script).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut stdout = child.stdout.take().unwrap();
    let mut all = Vec::new();
    let mut piece = [0; 999];
    loop {
        let count = stdout.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        all.extend_from_slice(&piece[..count]);
    }
    let expected: String = (0..100_000).map(|i| format!("{i}\n")).collect();
    assert!(text(&all) == expected);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "done\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_gets_through_while_nobody_reads() {
    let (mut child, stdout) =
        start(&mut rank(&["--tag=none"], "echo READY; exec yes a line that fills the pipe"));
    // The pipe's reader does nothing until the program is blocked, as its wrapper then is.
    wait_until_asleep(pid(&child));
    let begun = Instant::now();
    let status = loop {
        // The first ends the program; one more says that its output is not worth the wait.
        kill(pid(&child), Signal::SIGTERM).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
    };
    assert_eq!(status.signal(), Some(15));
    drop(stdout);
}

/// Waits until a process has not run between two looks.
fn wait_until_asleep(pid: Pid) {
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut before = switches();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = switches();
        if now == before {
            return;
        }
        before = now;
    }
}

#[test]
fn children_left_behind_do_not_hold_it_up() {
    let begun = Instant::now();
    let output = run(&["--tag=none"], "sleep 30 & echo started; exit 3");
    assert_eq!((text(&output.stdout), output.status.code()), ("started\n", Some(3)));
    assert!(begun.elapsed() < Duration::from_secs(10));
    // What they write soon after its end still arrives.
    let late = "(while kill -0 $$ 2>/dev/null; do :; done; echo late) & echo started";
    let output = run(&["--tag=none"], late);
    assert_eq!(text(&output.stdout), "started\nlate\n");
}

#[test]
fn only_the_ranks_asked_for_are_shown_and_all_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("--log-dir={}", directory.path().display());
    let output = run(&["--ranks=0,4-7", &log], "echo a; echo b >&2");
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(fs::read(directory.path().join("rank.000003.out")).unwrap(), b"a\n");
    assert_eq!(fs::read(directory.path().join("rank.000003.err")).unwrap(), b"b\n");
    assert_eq!(text(&run(&["--ranks=1-3", "--tag=none"], "echo a").stdout), "a\n");
}

#[test]
fn quiet_ranks_speak_when_they_fail() {
    let lines = "for i in 1 2 3 4; do echo $i; done; echo why >&2;";
    let quiet = ["--tag=short", "--quiet-ranks-until-failure=2"];
    let output = run(&quiet, &format!("{lines} exit 0"));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let output = run(&quiet, &format!("{lines} exit 1"));
    assert_eq!(text(&output.stdout), "[ 3] 3\n[ 3] 4\n");
    assert_eq!(text(&output.stderr), "[ 3] why\nmuster: rank 3 on w1 ended: exit code 1\n");
}

#[test]
fn a_failure_is_told_in_one_true_line() {
    for (script, end) in [
        ("exit 3", "exit code 3"),
        ("ulimit -c 0; kill -15 $$", "killed by SIGTERM (15)"),
        ("kill -9 $$", "killed by SIGKILL (9)"),
        ("ulimit -c 0; kill -11 $$", "killed by SIGSEGV (11)"),
    ] {
        let told = format!("muster: rank 3 on w1 ended: {end}\n");
        assert_eq!(text(&run(&[], script).stderr), told);
        let output = run(&["--tag=json"], &format!("echo why >&2; {script}"));
        let lines: Vec<serde_json::Value> =
            text(&output.stderr).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<_> = lines.iter().map(|line| line["msg"].as_str().unwrap()).collect();
        assert_eq!(messages, ["why", told.trim_end()]);
        assert_eq!(lines[1]["rank"], 3);
    }
    // Without a rank there is one warning, and nothing is made up.
    let output = rank(&[], "exit 3").env_remove("PMI_RANK").output().unwrap();
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn files_have_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("--log-dir={}", directory.path().display());
    run(&["--log-max=64k", &log], "i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done");
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let (old, new) = (read("rank.000003.out.1"), read("rank.000003.out"));
    assert!(old.len() <= 65536 && new.len() <= 65536 && old.len() > 32768);
    let numbers: Vec<u32> = (old + &new).lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(numbers.last(), Some(&29999));
}

#[test]
fn a_file_that_takes_no_more_is_named_and_the_other_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("rank.000003.out")).unwrap();
    let log = format!("--log-dir={}", directory.path().display());
    let output = run(&["--tag=none", &log], "echo a; echo b >&2; sleep 0.2; echo c; echo d >&2");
    assert_eq!(text(&output.stdout), "a\nc\n");
    assert_eq!(text(&output.stderr).matches("warning: stopped writing /").count(), 1, "{output:?}");
    assert_eq!(fs::read(directory.path().join("rank.000003.err")).unwrap(), b"b\nd\n");
}

#[test]
fn a_pipe_that_ranks_share_gets_whole_lines() {
    let (reader, writer) = std::io::pipe().unwrap();
    let line = "x".repeat(5000);
    let script = format!("i=0; while [ $i -lt 200 ]; do echo $i {line}; i=$((i+1)); done");
    let ranks: Vec<Child> = (0..4)
        .map(|rank_number| {
            let mut command = rank(&["--tag=short"], &script);
            command.env("PMI_RANK", rank_number.to_string()).stdout(writer.try_clone().unwrap());
            command.spawn().unwrap()
        })
        .collect();
    drop(writer);
    let mut next = [0; 4];
    for read in BufReader::new(reader).lines() {
        let read = read.unwrap();
        let (tag, rest) = read.split_at(5);
        let rank_number: usize = tag.trim_matches(['[', ']', ' ']).parse().unwrap();
        assert_eq!(rest, format!("{} {line}", next[rank_number]));
        next[rank_number] += 1;
    }
    assert_eq!(next, [200; 4]);
    for mut child in ranks {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn it_stays_small() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo a line of some length $i; i=$((i+1)); done; \
                  echo READY >&2; read x";
    stays_below(2048, &mut rank(&[], script));
}

#[test]
fn it_stays_small_while_it_keeps_last_lines() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("--log-dir={}", directory.path().display());
    // Only what it cannot hold back says that it is through: its own descriptor leads around the wrapper.
    let script = "exec 9>/proc/$PPID/fd/2; seq 1 300000; seq 1 300000 >&2; echo READY >&9; read x";
    stays_below(2560, &mut rank(&["--quiet-ranks-until-failure=100000", &log], script));
}

/// Runs it until its stderr says READY, and looks at the memory of its own that it then has, KiB.
fn stays_below(most: u64, command: &mut Command) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()).unwrap());
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    // Of a debug build; the release's whole is measured in benches/.
    assert!(kib < most, "{kib} KiB");
    drop(child.stdin.take());
    child.wait().unwrap();
    reader.join().unwrap();
}
