//! Promise: `muster rank` serves an engineer by hand, under plain mpirun and mpiexec.hydra, without any
//! worker: each line of a real MPI program knows its rank, and a signal to mpirun reaches each rank once.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Cmd, Host, HostSpec, Input, Install, Lab, Signal};
use muster_tests::{LONG, muster};

/// Says so for each SIGUSR1. Short sleeps, because the signal ends them, too: it goes to the group.
const ECHO: &str = "trap 'echo heard' USR1; echo READY; while :; do sleep 0.05; done";

fn mpirun(install: Install, flags: &[&str]) -> Cmd {
    let (launcher, own): (&str, &[&str]) = match install {
        Install::OpenMpi4 => ("mpirun", &["--oversubscribe"]),
        Install::OpenMpi5 => ("mpirun", &["--oversubscribe", "--bind-to", "none"]),
        // Intel's mpirun is a script that dies alone of a signal.
        Install::Mpich4 | Install::Mpich5 | Install::IntelMpi => ("mpiexec.hydra", &[]),
    };
    let muster = muster().display().to_string();
    Cmd::new(launcher)
        .args(own.iter().copied())
        .args(["-n", "4", &muster, "rank"])
        .args(flags.iter().copied().chain(["--"]))
}

fn serves(install: Install) {
    install.check().unwrap();
    let lab = Lab::new().unwrap();
    // Open MPI 4 wants to find ssh, even where it needs none.
    let desk = HostSpec::new("desk").mpi(install).openssh();
    let desk = lab.boot_idle([desk]).unwrap().remove(0);
    desk.publish().unwrap();
    lines_know_their_rank(&desk, install);
    files_and_stdin_are_each_ranks_own(&desk, install);
    if install.is_hydra() {
        scripts_start_as_bare(&desk, install);
    }
    signals_come_once(&desk, install);
}

fn lines_know_their_rank(desk: &Host, install: Install) {
    let program = install.program("ranks").display().to_string();
    let output = desk.run(mpirun(install, &[]).args([&program, "hello"]), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let mut lines: Vec<&str> = output.stdout.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    let expected: Vec<String> =
        (0..4).map(|rank| format!("[rank {rank}|desk] hello rank {rank} of 4 on desk")).collect();
    assert_eq!(lines, expected, "{output:?}");
    // Hydra is known to misreport codes; Open MPI tells what the wrapper ended with.
    if !install.is_hydra() {
        let failing = mpirun(install, &[]).args([&program, "exit", "3", "2", "after-finalize"]);
        let output = desk.run(failing, LONG).unwrap();
        assert_eq!(output.code(), 3, "{output:?}");
        // Each wrapper is alone: the rank that failed says so, and nobody else.
        let told = output.stderr.matches("muster: rank 2 on desk ended: exit code 3").count();
        assert_eq!(told, 1, "{output:?}");
        assert_eq!(output.stderr.matches("muster: ").count(), 1, "{output:?}");
    }
}

fn files_and_stdin_are_each_ranks_own(desk: &Host, install: Install) {
    let script = "r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}; [ $r != 0 ] || { read x; echo \"$x\"; }; echo out $r; echo err $r >&2";
    let job = mpirun(install, &["--tag=json", "--log-dir=/tmp/by-hand"]).args(["sh", "-c", script]);
    let job = job.stdin(Input::Bytes(b"for rank 0\n".to_vec()));
    let output = desk.run(job, LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let mut seen: Vec<(u64, String)> = Vec::new();
    for line in output.stdout.lines().chain(output.stderr.lines()) {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{output:?}"));
        seen.push((line["rank"].as_u64().unwrap(), line["msg"].as_str().unwrap().to_owned()));
    }
    seen.sort_unstable();
    let mut expected: Vec<(u64, String)> = (0..4)
        .flat_map(|rank| ["out", "err"].map(|word| (rank, format!("{word} {rank}"))))
        .collect();
    expected.push((0, "for rank 0".to_owned()));
    expected.sort_unstable();
    assert_eq!(seen, expected, "{output:?}");
    let kept = desk.run(Cmd::sh("cd /tmp/by-hand && head -n 9 *"), LONG).unwrap();
    assert!(kept.success(), "{kept:?}");
    let files: Vec<String> = (0..4)
        .flat_map(|rank| {
            let input = if rank == 0 { "for rank 0\n" } else { "" };
            [
                format!("==> rank.{rank:06}.err <==\nerr {rank}\n"),
                format!("==> rank.{rank:06}.out <==\n{input}out {rank}\n"),
            ]
        })
        .collect();
    assert_eq!(kept.stdout, files.join("\n"));
}

fn scripts_start_as_bare(desk: &Host, install: Install) {
    let script = desk.run(Cmd::sh("echo 'echo hi' > /tmp/n.sh && chmod +x /tmp/n.sh"), LONG);
    assert!(script.unwrap().success());
    let output = desk.run(mpirun(install, &["--tag=none"]).args(["/tmp/n.sh"]), LONG).unwrap();
    assert!(output.success() && output.stdout == "hi\n".repeat(4), "{output:?}");
}

fn signals_come_once(desk: &Host, install: Install) {
    let job = desk.spawn(mpirun(install, &["--tag=short"]).args(["sh", "-c", ECHO])).unwrap();
    for rank in 0..4 {
        job.wait_for_line(&format!("[{rank}] READY"), LONG).unwrap();
    }
    job.signal(Signal::SIGUSR1);
    for rank in 0..4 {
        job.wait_for_line(&format!("[{rank}] heard"), LONG).unwrap();
    }
    // A second copy would have been sent together with the first.
    std::thread::sleep(Duration::from_millis(500));
    let stdout = job.stdout_so_far();
    assert_eq!(stdout.matches("heard").count(), 4, "{stdout}");
    job.signal(Signal::SIGTERM);
    job.wait(LONG).unwrap();
}

#[test]
fn open_mpi_4() {
    serves(Install::OpenMpi4);
}

#[test]
fn open_mpi_5() {
    serves(Install::OpenMpi5);
}

#[test]
fn mpich_4() {
    serves(Install::Mpich4);
}

#[test]
fn mpich_5() {
    serves(Install::Mpich5);
}

#[test]
fn intel_mpi() {
    serves(Install::IntelMpi);
}
