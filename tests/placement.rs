//! Promise: a job whose ranks run elsewhere than planned is a failure that names both places, whatever
//! mpirun says of it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use lab::{Cmd, FileSpec, Host, HostSpec, Install, MpiJob};
use muster_tests::{Cluster, LONG, run_muster};

fn cluster(install: Install, change: impl Fn(HostSpec) -> HostSpec) -> Cluster {
    Cluster::start_with(&MpiJob::new("pi", install, 4).unwrap().slots(2), change)
}

fn is_misplaced(launcher: &Host, command: Cmd) {
    let output = launcher.run(command, LONG).unwrap();
    assert_eq!(output.code(), 90, "{output:?}");
    let line = |head: &str| {
        let found = output.stderr.lines().find_map(|line| line.strip_prefix(head));
        found.unwrap_or_else(|| panic!("no {head:?} in {}", output.stderr))
    };
    let (planned, seen) = (line("muster: planned: "), line("muster: seen:    "));
    for worker in 0..4 {
        assert!(planned.contains(&format!("pi-worker-{worker}")), "{}", output.stderr);
    }
    // How many of them were seen before the job was ended is a matter of luck.
    assert!(seen.starts_with("pi-launcher x "), "{}", output.stderr);
    assert!(!seen.contains("worker"), "{}", output.stderr);
    // They did start, and the verdict does not say otherwise.
    let lines = output.stderr.lines().filter_map(|line| line.strip_prefix("muster: "));
    let words = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    assert!(words.contains("Ranks started elsewhere than planned"), "{}", output.stderr);
    launcher.wait_until_gone("ranks", LONG).unwrap();
}

/// The user's own line sends everything to the launcher.
fn line(install: Install, words: &[&str]) {
    let cluster = cluster(install, |spec| spec);
    let program = install.program("ranks").display().to_string();
    for how in [&["sleep", "600"][..], &["sleep", "2"]] {
        let line = run_muster(["launch", "--", "mpirun"]).args(words.iter().copied());
        is_misplaced(&cluster.launcher, line.arg(program.clone()).args(how.iter().copied()));
    }
}

#[test]
fn a_line_for_localhost_open_mpi_4() {
    line(Install::OpenMpi4, &["--host", "localhost:8", "-n", "8"]);
}

#[test]
fn a_line_for_localhost_open_mpi_5() {
    line(Install::OpenMpi5, &["--host", "localhost:8", "-n", "8"]);
}

#[test]
fn a_line_for_localhost_mpich() {
    line(Install::Mpich5, &["-hosts", "localhost", "-n", "8"]);
}

#[test]
fn a_line_for_localhost_intel() {
    line(Install::IntelMpi, &["-hosts", "localhost", "-n", "8"]);
}

/// The image sets PRRTE's own hostfile, which muster must not override.
#[test]
fn an_environment_that_outranks_the_hostfile() {
    let cluster = cluster(Install::OpenMpi5, |spec| {
        spec.file(FileSpec::new("/opt/hosts", "localhost slots=8\n"))
            .env("PRTE_MCA_prte_default_hostfile", "/opt/hosts")
    });
    let program = Install::OpenMpi5.program("ranks").display().to_string();
    let command = run_muster(["launch", "--", "mpirun", "-n", "8", &program, "sleep", "600"]);
    is_misplaced(&cluster.launcher, command);
}
