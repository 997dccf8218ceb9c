//! Promise: `muster rank` serves an engineer by hand, under plain mpirun and mpiexec.hydra, without any
//! worker: each line of a real MPI program knows its rank, and a signal to mpirun reaches each rank once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Cmd, Host, HostSpec, Install, Lab, Signal};
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
