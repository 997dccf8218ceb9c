//! Promise: with no hosts named anywhere, `muster launch` runs on this machine alone, and behaves the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Cmd, Host, HostSpec, Input, Install, Lab, Output, Proc, Signal};
use muster_tests::{LONG, muster, run_muster};

/// Hosts of their own for each MPI, with no hostfile, no key and no OpenSSH.
fn hosts(lab: &Lab) -> Vec<Host> {
    let spec = |install: Install| HostSpec::new(install.name()).mpi(install);
    lab.boot_idle(Install::ALL.into_iter().map(spec)).unwrap()
}

fn with_each(check: impl Fn(Install, &Host)) {
    let lab = Lab::new().unwrap();
    let hosts = hosts(&lab);
    for (install, host) in Install::ALL.into_iter().zip(&hosts) {
        check(install, host);
        nothing_is_left(host);
    }
}

fn nothing_is_left(host: &Host) {
    let alone = |all: &[lab::ProcessInfo]| all.len() == 1;
    host.wait_for_processes("nothing but PID 1", LONG, alone).unwrap();
    // A killed MPI leaves files of its own, whoever kills it.
    let list = "ls -A /tmp /dev/shm | grep -v -e : -e '^ompi[.]' -e '^prte[.]' -e '^mpich_shm'";
    let output = host.run(Cmd::sh(list).as_lab(), LONG).unwrap();
    assert_eq!(output.stdout.trim(), "", "left in /tmp or /dev/shm of {}", host.name());
}

fn launch<const N: usize>(words: [&str; N]) -> Cmd {
    run_muster(["launch"]).args(words)
}

fn run(host: &Host, command: Cmd) -> Output {
    host.run(command, LONG).unwrap()
}

/// A rank's shell line; the pause is for Open MPI 5, which hangs at the end of instant jobs.
fn shell(line: &str) -> [String; 3] {
    let rank = "r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}";
    ["sh".into(), "-c".into(), format!("{rank}; sleep 0.5; {line}")]
}

#[test]
fn four_ranks_and_their_exit_code() {
    with_each(|install, host| {
        let ranks = install.program("ranks").display().to_string();
        let output = run(host, launch(["-n", "4", "--", &ranks, "hello"]));
        assert!(output.success(), "{install:?}: {output:?}");
        for rank in 0..4 {
            let line = format!("rank {rank} of 4 on {}", host.name());
            assert_eq!(output.stdout.matches(&line).count(), 1, "{install:?}: {output:?}");
        }
        let three = shell("test $r = 1 && exit 3; exit 0");
        let output = run(host, launch(["-n", "2", "--"]).args(three));
        assert_eq!(output.code(), 3, "{install:?}: {output:?}");
    });
}

#[test]
fn standard_input_reaches_rank_0() {
    with_each(|install, host| {
        let cat = shell("if test $r = 0; then cat; fi; sleep 0.5");
        let input = Input::Bytes(b"one\ntwo\n".to_vec());
        let job = host.spawn(launch(["-n", "2", "--"]).args(cat).stdin(input)).unwrap();
        job.wait_for_line("two", LONG).unwrap();
        if install == Install::OpenMpi5 {
            // Its mpirun alone does not end either, where the input of such a job was a pipe.
            job.signal(Signal::SIGTERM);
        }
        let output = job.output(LONG).unwrap();
        let said = format!("[rank 0|{0}] one\n[rank 0|{0}] two\n", host.name());
        assert_eq!(output.stdout, said, "{install:?}: {output:?}");
        assert!(output.success() || install == Install::OpenMpi5, "{install:?}: {output:?}");
    });
}

#[test]
fn a_dry_run_says_why_and_starts_nothing() {
    with_each(|install, host| {
        let touch = ["launch", "-n", "2", "--dry-run", "--", "touch", "/tmp/started"];
        let output = run(host, run_muster(touch));
        assert!(output.success(), "{install:?}: {output:?}");
        assert!(output.stdout.starts_with("command   "), "{output:?}");
        let below = output.stdout.lines().skip(1);
        let set: Vec<&str> = below.filter(|line| line.contains('=')).collect();
        assert!(!set.is_empty() || install.is_hydra(), "{output:?}");
        assert!(set.iter().all(|line| line.contains("  # ")), "a reason each: {output:?}");
        let json = ["launch", "-n", "2", "--dry-run", "--json", "--", "touch", "/tmp/started"];
        let output = run(host, run_muster(json));
        assert!(output.stdout.starts_with("{\n") && output.stdout.ends_with("}\n"), "{output:?}");
        // nothing_is_left() would find the file.
    });
}

#[test]
fn an_end_that_a_wrapper_cannot_tell_plainly_is_told() {
    with_each(|install, host| {
        // Where the rank's files cannot be made, the program is not started.
        let touch = ["-n", "1", "--log-dir", "/proc/x", "--", "touch", "/tmp/started"];
        let output = run(host, launch(touch));
        assert_eq!(output.code(), 91, "{install:?}: {output:?}");
        assert!(
            output.stderr.contains("rank 0: [log-dir-not-writable] failed to keep"),
            "{output:?}"
        );
        // What a rank leaves may be too much for one report.
        let line = "head -c 65536 /dev/zero | tr '\\0' '\\1' >/dev/shm/error; head -c 40000 /dev/zero >&2; \
                    sleep 0.5; exit 9";
        let command = launch(["-n", "1", "--", "sh", "-c", line]);
        let output = run(host, command.env("TORCHELASTIC_ERROR_FILE", "/dev/shm/error"));
        assert_eq!(output.code(), 9, "{install:?}: {output:?}");
        run(host, Cmd::sh("rm /dev/shm/error").as_lab());
    });
}

/// A job that has started; what its ranks do on SIGTERM is told by `trap`.
fn job(host: &Host, grace: &str, trap: &str) -> Proc {
    let line = shell(&format!("trap '{trap}' TERM; echo up $r; while :; do sleep 0.1; done"));
    let job = host.spawn(launch(["-n", "2", "--grace", grace, "--"]).args(line)).unwrap();
    for rank in ["up 0", "up 1"] {
        job.wait_for_line(rank, LONG).unwrap();
    }
    job
}

#[test]
fn once_asks_and_twice_kills() {
    with_each(|install, host| {
        for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
            // Ranks that end when they are told to.
            let job = job(host, "60s", "exit 0");
            job.signal(signal);
            let output = job.output(LONG).unwrap();
            assert_eq!(output.code(), code, "{install:?}: {output:?}");
            assert!(output.elapsed < Duration::from_secs(30), "{install:?}: {output:?}");
            nothing_is_left(host);
        }
        // Ranks that do not: the grace ends them.
        let obstinate = job(host, "1s", "");
        obstinate.signal(Signal::SIGTERM);
        assert_eq!(obstinate.output(LONG).unwrap().code(), 143, "{install:?}");
        nothing_is_left(host);
        // Or a second signal does, once the first has been heard.
        let obstinate = job(host, "600s", "");
        obstinate.signal(Signal::SIGTERM);
        obstinate.wait_for_line("received SIGTERM; ", LONG).unwrap();
        // Two signals within a second count as one: `timeout` and shells send some twice.
        let second = Cmd::sh("sleep 1.1; kill -TERM $(pgrep -o -x muster)");
        host.run(second.as_lab(), LONG).unwrap();
        assert_eq!(obstinate.output(LONG).unwrap().code(), 143, "{install:?}");
    });
}

#[test]
fn an_mpirun_that_does_not_notice_the_end_of_its_ranks_is_ended() {
    let lab = Lab::new().unwrap();
    let hosts = hosts(&lab);
    let jobs: Vec<Proc> = hosts
        .iter()
        .map(|host| {
            let line = shell("echo up $r; while ! [ -e /tmp/end ]; do sleep 0.1; done");
            let job = host.spawn(launch(["-n", "2", "--"]).args(line)).unwrap();
            for rank in ["up 0", "up 1"] {
                job.wait_for_line(rank, LONG).unwrap();
            }
            let stopped = ["mpirun", "mpiexec", "prterun"]
                .map(|name| host.kill_matching(&format!("{name} "), Signal::SIGSTOP));
            assert!(stopped.iter().sum::<usize>() > 0, "{:?}", host.processes());
            run(host, Cmd::sh("touch /tmp/end").as_lab());
            job
        })
        .collect();
    for (job, host) in jobs.iter().zip(&hosts) {
        let output = job.output(LONG).unwrap();
        assert!(output.success(), "{}: {output:?}", host.name());
        assert!(output.stderr.contains("all ranks ended well 15 s ago"), "{output:?}");
        run(host, Cmd::sh("rm /tmp/end").as_lab());
        nothing_is_left(host);
    }
}

/// A shell line on a terminal of its own, whose keys are the stdin of the process.
fn on_a_terminal(host: &Host, line: &str) -> Proc {
    host.spawn(Cmd::new("script").args(["-qec", line, "/dev/null"]).stdin(Input::Pipe)).unwrap()
}

#[test]
fn keys_of_a_terminal() {
    with_each(|install, host| {
        let ranks = install.program("ranks").display().to_string();
        let launch = format!("{} launch -n 2 -- {ranks} sleep 1000", muster().display());
        let job = on_a_terminal(host, &launch);
        job.wait_for_line("rank 1 of 2", LONG).unwrap();
        job.write_stdin(b"\x03").unwrap();
        let output = job.output(LONG).unwrap();
        // Debian's mpiexec of MPICH takes ranks that it interrupted itself for successful now and then.
        assert!(output.code() != 0 || install == Install::Mpich4, "{install:?}: {output:?}");
        nothing_is_left(host);

        // Under a shell with job control. Open MPI stops the ranks and stays, as it does without
        // muster; with the others the shell takes over, and `fg` goes on.
        let job = on_a_terminal(host, "bash --norc -i");
        job.write_stdin(format!("PS1=; {launch}\n").as_bytes()).unwrap();
        job.wait_for_line("rank 1 of 2", LONG).unwrap();
        job.write_stdin(b"\x1a").unwrap();
        if install.is_hydra() {
            job.wait_for_line("Stopped", LONG).unwrap();
            job.write_stdin(b"echo back-$?; jobs -l; fg\n").unwrap();
            job.wait_for_line("back-147", LONG).unwrap();
        } else {
            let stopped = |all: &[lab::ProcessInfo]| all.iter().any(|info| info.state == 'T');
            host.wait_for_processes("stopped ranks", LONG, stopped).unwrap();
        }
        let goes_on = |all: &[lab::ProcessInfo]| {
            !install.is_hydra() || all.iter().all(|info| info.state != 'T')
        };
        host.wait_for_processes("the job going on", LONG, goes_on).unwrap();
        job.write_stdin(b"\x03").unwrap();
        host.wait_until_gone("sleep 1000", LONG).unwrap();
        job.write_stdin(b"exit\n").unwrap();
        job.output(LONG).unwrap();
    });
}
