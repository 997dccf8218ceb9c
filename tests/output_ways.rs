//! Promise: what ranks print goes where `--output`, `--ranks`, `--log-dir` and a slow or absent reader
//! send it, and nothing is lost on the way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::io::Write as _;
use std::process::{Command, Stdio};

use lab::{Cmd, Host, Install, MpiJob, Proc, ProcessInfo, Signal, Stream};
use muster_tests::{Cluster, LONG, muster};

/// Two workers with two ranks each, unless a test says otherwise.
fn cluster(install: Install) -> Cluster {
    Cluster::start(&MpiJob::new("pi", install, 2).unwrap().slots(2))
}

/// `muster launch` with these flags, around a shell script that every rank runs.
fn launch(flags: &[&str], script: &str) -> Cmd {
    Cmd::new(muster().display().to_string())
        .arg("launch")
        .args(flags.iter().copied())
        .args(["--", "sh", "-c", script])
}

/// The rank as each of the MPIs tells it.
const RANK: &str = "r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK};";

/// The lines of stdout or stderr that ranks wrote, in order of rank.
fn ranks_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_rank_killed_in_the_middle_of_a_line_has_said_everything() {
    for install in [Install::OpenMpi4, Install::OpenMpi5, Install::Mpich5, Install::IntelMpi] {
        let cluster = cluster(install);
        let script = format!(
            "{RANK} if [ $r = 3 ]; then i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); \
             done; printf 'half a li'; kill -9 $$; fi"
        );
        let output = cluster.launcher.run(launch(&["--tag=short"], &script), LONG).unwrap();
        assert_ne!(output.code(), 0, "{install:?}: {output:?}");
        let mut said = output.stdout.lines().filter_map(|line| line.strip_prefix("[3] "));
        for number in 0..5000 {
            assert_eq!(said.next(), Some(&*format!("line {number}")), "{install:?}");
        }
        assert_eq!(said.next(), Some("half a li"), "{install:?}");
    }
}

#[test]
fn pods_keep_their_own_log() {
    let cluster = cluster(Install::OpenMpi4);
    let script = format!("{RANK} echo out $r; echo err $r >&2");
    for (way, at_launcher) in [("pod", 0), ("both", 4)] {
        let way = format!("--output={way}");
        let flags = [way.as_str(), "--tag={rank} {stream} "];
        let output = cluster.launcher.run(launch(&flags, &script), LONG).unwrap();
        assert!(output.success(), "{output:?}");
        let said = |text: &str, word| text.lines().filter(|line| line.contains(word)).count();
        assert_eq!(said(&output.stdout, "stdout out"), at_launcher, "{output:?}");
        assert_eq!(said(&output.stderr, "stderr err"), at_launcher, "{output:?}");
        assert_eq!(output.stderr.matches("logs of their pods").count(), 1, "{output:?}");
    }
    for (server, ranks) in cluster.servers.iter().zip([[0, 1], [2, 3]]) {
        for rank in ranks {
            for (stream, word) in [(Stream::Stdout, "stdout out"), (Stream::Stderr, "stderr err")] {
                let line = format!("{rank} {word} {rank}");
                let seen = Cell::new(0);
                let second = |read: &str| read == line && seen.replace(seen.get() + 1) == 1;
                // A pod's log may lag behind the end of the launch.
                server.wait_for(&format!("{line:?} once more"), LONG, second).unwrap();
                let log = server.written(stream);
                assert_eq!(log.lines().filter(|read| **read == line).count(), 2, "{log}");
            }
        }
    }
}

#[test]
fn files_hold_every_byte_and_the_launcher_shows_whom_it_was_asked_for() {
    let cluster = cluster(Install::Mpich5);
    // Progress bars, every byte, a line of 10 MB, single bytes, and no end.
    let script = "printf '1%%\\r2%%\\r3%%\\n'; i=0; while [ $i -lt 256 ]; do \
                  printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done; \
                  head -c 10000000 /dev/zero | tr '\\0' x; echo; printf '\\0end'";
    let flags = ["--tag=json", "--ranks=1,3", "--log-dir=/tmp/logs"];
    let output = cluster.launcher.run(launch(&flags, script), LONG).unwrap();
    assert!(output.success(), "{}", output.stderr);
    let mut seen = [0; 4];
    for line in output.stdout.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        seen[usize::try_from(line["rank"].as_u64().unwrap()).unwrap()] += 1;
    }
    assert_eq!((seen[0], seen[2]), (0, 0));
    assert!(seen[1] > 10_000_000 / 65536 && seen[1] == seen[3], "{seen:?}");
    let mut expected = b"1%\r2%\r3%\n".to_vec();
    expected.extend(0..=255);
    expected.extend(std::iter::repeat_n(b'x', 10_000_000));
    expected.extend(b"\n\0end");
    let expected = sum(&expected);
    for (worker, ranks) in cluster.workers.iter().zip([[0, 1], [2, 3]]) {
        for rank in ranks {
            let line = format!("sha256sum < /tmp/logs/rank.{rank:06}.out");
            let output = worker.run(Cmd::sh(line), LONG).unwrap();
            assert_eq!(output.stdout, expected, "rank {rank}");
        }
    }
}

#[test]
fn of_a_progress_bar_longer_than_any_line_the_last_state_is_shown() {
    let cluster = cluster(Install::OpenMpi4);
    let dots = ".".repeat(70);
    let script = format!(
        "{RANK} [ $r = 3 ] || exit 0; i=0; while [ $i -lt 3000 ]; do \
         printf 'step %05d {dots}\\r' $i; i=$((i+1)); done; echo; echo done"
    );
    let output = cluster.launcher.run(launch(&["--tag=short"], &script), LONG).unwrap();
    let lines = [format!("[3] step 02999 {dots}"), "[3] done".into()];
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), lines, "{output:?}");
}

/// What `sha256sum` says of these bytes.
fn sum(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn only_the_rank_that_fails_speaks() {
    let cluster = cluster(Install::OpenMpi4);
    let script = format!(
        "{RANK} for i in 1 2 3 4; do echo $r says $i; done; \
         if [ $r = 2 ]; then echo why >&2; exit 7; fi; sleep 600"
    );
    let flags = ["--tag=short", "--quiet-ranks-until-failure=2"];
    let output = cluster.launcher.run(launch(&flags, &script), LONG).unwrap();
    assert_eq!(output.code(), 7, "{output:?}");
    assert_eq!(ranks_lines(&output.stdout), ["[2] 2 says 3", "[2] 2 says 4"], "{output:?}");
    assert!(output.stderr.lines().any(|line| line == "[2] why"), "{output:?}");
}

#[test]
fn a_slow_reader_loses_nothing_and_none_ends_the_job() {
    let cluster = cluster(Install::OpenMpi4);
    let muster = muster().display().to_string();
    // 8 MB a rank, far more than all the buffers on the way.
    let script = "i=0; while [ $i -lt 100000 ]; do \
                  echo line $i of some more than eighty bytes, so that it comes to eight megabytes for a rank; \
                  i=$((i+1)); done";
    let slow = format!(
        "{muster} launch --tag=short -- sh -c '{script}' | (sleep 3; dd bs=333 2>/dev/null) | \
         grep -c '^.[0-3]. line [0-9]* of some.*for a rank$'"
    );
    let output = cluster.launcher.run(Cmd::sh(slow), LONG * 2).unwrap();
    assert_eq!(output.stdout, "400000\n", "{}", output.stderr);

    let gone =
        format!("{{ {muster} launch --tag=short -- yes for ever; echo code $? >&2; }} | head -n 1");
    let output = cluster.launcher.run(Cmd::sh(gone), LONG).unwrap();
    assert!(output.stderr.contains("nobody reads standard output"), "{output:?}");
    assert!(output.stderr.contains("code 141"), "{output:?}");
    for worker in &cluster.workers {
        worker.wait_until_gone("yes for ever", LONG).unwrap();
    }
}

/// A launch whose stdout, and what else is said here, goes into a pipe that nobody reads before `/tmp/read` can be
/// read from. Given back once muster waits for that reader.
fn stalled(host: &Host, flags: &str, streams: &str, script: &str) -> Proc {
    let line = format!(
        "cd /tmp; rm -f stalled read got all report; mkfifo stalled read; \
         {{ read go < read; cat > got; mv got all; }} < stalled & \
         exec {} {flags} --tag=short --report=/tmp/report -- sh -c \"$SCRIPT\" > stalled {streams}",
        muster().display()
    );
    let launch = host.spawn(Cmd::sh(line).env("SCRIPT", script)).unwrap();
    // The system call in which a thread waits, and its first argument: the descriptor.
    let waits = "until grep -qsE '^[0-9]+ 0x1 ' $(grep -lsx printer /proc/[0-9]*/task/*/comm | \
                 sed s/comm/syscall/) /dev/null; do sleep 0.1; done";
    let output = host.run(Cmd::sh(waits).as_lab(), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    launch
}

#[test]
fn a_reader_that_stalls_holds_up_no_end() {
    let cluster = cluster(Install::OpenMpi4);
    let script = format!(
        "{RANK} trap 'touch /tmp/told.$r; kill $!; exit 0' TERM; yes for ever & wait; wait"
    );
    for streams in ["", "2>&1"] {
        let launch = stalled(&cluster.launcher, "launch --grace=2s", streams, &script);
        launch.signal(Signal::SIGTERM);
        let status = launch.wait(LONG).unwrap();
        assert_eq!(lab::code(status), 143, "{streams} {}", launch.tail());
        // What muster says itself is told where somebody reads.
        let said = launch.stderr_so_far();
        assert_eq!(said.contains("received SIGTERM"), streams.is_empty(), "{said}");
        assert_eq!(said.contains("exit code 143"), streams.is_empty(), "{said}");
        let report = cluster.launcher.run(Cmd::sh("cat /tmp/report"), LONG).unwrap().stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["code"], 143, "{report}");
        // Every rank had its chance to write a checkpoint.
        for (worker, ranks) in cluster.workers.iter().zip(["0 1", "2 3"]) {
            let told = format!("cd /tmp && for r in {ranks}; do rm told.$r || exit 1; done");
            assert!(worker.run(Cmd::sh(told), LONG).unwrap().success(), "{streams} {ranks}");
        }
    }
}

#[test]
fn a_reader_that_stalls_for_longer_than_a_worker_waits_costs_no_job() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap().slots(2);
    let cluster = Cluster::start_with(&job, |spec| spec.env("MUSTER_HEARTBEAT", "1s"));
    let script = "i=0; while [ $i -lt 30000 ]; do echo line $i for a reader; i=$((i+1)); done & \
                  sleep 15; wait";
    let launch = stalled(&cluster.launcher, "-v launch", "2>&1", script);
    let over = |found: &[ProcessInfo]| !found.iter().any(|info| info.cmdline == "sleep 15");
    for worker in &cluster.workers {
        worker.wait_for_processes("all that ranks wait for", LONG, over).unwrap();
    }
    cluster.launcher.run(Cmd::sh("echo go > /tmp/read"), LONG).unwrap();
    let status = launch.wait(LONG).unwrap();
    let count = "cd /tmp && until [ -e all ]; do sleep 0.1; done; \
                 grep -c '^.[0-3]. line [0-9]* for a reader$' all; tail -n 20 all >&2";
    let output = cluster.launcher.run(Cmd::sh(count), LONG).unwrap();
    assert_eq!((lab::code(status), &*output.stdout), (0, "120000\n"), "{}", output.stderr);
}

#[test]
fn through_mpirun_where_that_is_asked_for_or_nothing_else_is_left() {
    for install in [Install::OpenMpi4, Install::OpenMpi5, Install::Mpich5, Install::IntelMpi] {
        let cluster = cluster(install);
        // MPI programs: with others prterun of Open MPI 5 waits for ever at the end of one run in ten or so, its
        // daemons idle.
        let (muster, program) = (muster().display().to_string(), install.program("ranks"));
        for line in [
            format!("{muster} launch --output=mpirun --tag=short -- {} hello", program.display()),
            // The user's own line.
            format!("{muster} launch --tag=short -- mpirun -n 4 {} hello", program.display()),
        ] {
            let output = cluster.launcher.run(Cmd::sh(&line), LONG).unwrap();
            let lines = ranks_lines(&output.stdout);
            let own = |(r, line): (usize, &String)| {
                line.starts_with(&format!("[{r}] hello rank {r} of 4"))
            };
            let all = lines.len() == 4 && lines.iter().enumerate().all(own);
            assert!(all, "{install:?} {line}: {output:?}");
        }
    }
}
