//! Promise: what MPI daemons need of the way back to the launcher is known before mpirun starts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lab::{Install, MpiJob};
use muster_tests::{Cluster, LONG, ranks_by_host, run_muster};

/// The launcher is not in DNS: Hydra would have its proxies call it by name.
fn nameless_launcher(install: Install) {
    let cluster = Cluster::start(&MpiJob::new("pi", install, 2).unwrap().slots(2));
    cluster.launcher.withdraw().unwrap();
    let program = install.program("ranks").display().to_string();
    let command = run_muster(["launch", "--", &program, "hello"]);
    let output = cluster.launcher.run(command, LONG).unwrap();
    assert!(output.success(), "{output:?}");
    assert_eq!(ranks_by_host(&output.stdout, 4).len(), 2, "{output:?}");
    for worker in 0..2 {
        let words = format!(
            "warning: pi-worker-{worker}.pi.default.svc cannot resolve our name pi-launcher: "
        );
        assert!(output.stderr.contains(&words), "{words:?} in {}", output.stderr);
    }
}

#[test]
fn the_launchers_name_is_not_needed_open_mpi_4() {
    nameless_launcher(Install::OpenMpi4);
}

#[test]
fn the_launchers_name_is_not_needed_open_mpi_5() {
    nameless_launcher(Install::OpenMpi5);
}

#[test]
fn the_launchers_name_is_not_needed_mpich_4() {
    nameless_launcher(Install::Mpich4);
}

#[test]
fn the_launchers_name_is_not_needed_mpich_5() {
    nameless_launcher(Install::Mpich5);
}

#[test]
fn the_launchers_name_is_not_needed_intel_mpi() {
    nameless_launcher(Install::IntelMpi);
}

/// Open MPI hangs for ever then, and so does Hydra; no family is asked.
#[test]
fn a_worker_that_cannot_connect_to_the_launcher_is_171_before_mpirun_starts() {
    let cluster = Cluster::start(&MpiJob::new("pi", Install::OpenMpi4, 2).unwrap());
    cluster.launcher.bar(cluster.workers[1].address()).unwrap();
    let command = run_muster(["launch", "--", "mpirun", "touch", "/tmp/started"]);
    let output = cluster.launcher.run(command, LONG).unwrap();
    assert_eq!(output.code(), 171, "{output:?}");
    let failed =
        "failed to be reached by every worker: pi-worker-1.pi.default.svc cannot connect: 10.77.";
    for words in [failed, "hint: ", "NetworkPolicy"] {
        assert!(output.stderr.contains(words), "{words:?} in {}", output.stderr);
    }
    assert!(!output.stderr.contains("pi-worker-0.pi.default.svc cannot"), "{}", output.stderr);
    for host in cluster.workers.iter().chain([&cluster.launcher]) {
        let started = host.run(lab::Cmd::new("test").args(["-e", "/tmp/started"]), LONG).unwrap();
        assert!(!started.success(), "mpirun started on {}", host.name());
    }
}
