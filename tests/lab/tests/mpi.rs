//! The five MPI installs run real multi-host jobs here, over the real OpenSSH: the yardstick for everything else.
//!
//! Needs tests/setup to have run; no muster.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::openssh::{Sshd, agent, mpirun};
use lab::{Host, HostSpec, Install, Lab, MpiJob};

const LONG: Duration = Duration::from_secs(60);

/// Launcher and workers with sshd on each worker, names published.
fn job(lab: &Lab, install: Install, workers: usize) -> (MpiJob, Host) {
    install.check().unwrap();
    let job = MpiJob::new("pi", install, workers).unwrap().slots(2);
    let with_agent = |spec: HostSpec| spec.openssh().file(agent(22));
    let specs = job.all_workers().into_iter().chain([job.launcher()]).map(with_agent);
    let mut hosts = lab.boot_idle(specs).unwrap();
    lab::each(&hosts, |host| {
        host.publish()?;
        Sshd::new().start(host)
    })
    .unwrap();
    (job, hosts.pop().unwrap())
}

fn four_hosts_run_pi(install: Install) {
    let lab = Lab::new().unwrap();
    let (job, launcher) = job(&lab, install, 4);
    let program = install.program("pi").display().to_string();
    let turns =
        std::env::var("LAB_TEST_TURNS").ok().and_then(|turns| turns.parse().ok()).unwrap_or(1);
    for turn in 0..turns {
        let output =
            launcher.run(mpirun(install).args(["-n", "8", &program, "1000000"]), LONG).unwrap();
        assert!(output.success(), "turn {turn}: {output:?}");
        for index in 0..4 {
            let part = format!("on pi-worker-{index}");
            assert!(
                output.stdout.contains(&part),
                "turn {turn}: rank {index} is not on {}: {output:?}",
                job.worker_name(index)
            );
        }
        assert!(output.stdout.contains("pi is 3.14159265"), "turn {turn}: {output:?}");
        // Two ranks a host: they meet in shared memory, of which a container has 64 MiB.
        let ranks = install.program("ranks").display().to_string();
        let eight = mpirun(install).args(["-n", "8", &ranks, "sleep", "0.2"]);
        let eight = launcher.run(eight, LONG).unwrap();
        assert!(eight.success(), "turn {turn}: {eight:?}");
        assert_eq!(
            eight.stdout.matches(" of 8 on pi-worker-").count(),
            8,
            "turn {turn}: {eight:?}"
        );
        if turns > 1 {
            println!("{} turn {turn}: {:.2?}", install.name(), output.elapsed);
        }
    }
}

#[test]
fn open_mpi_4() {
    four_hosts_run_pi(Install::OpenMpi4);
}

#[test]
fn open_mpi_5() {
    four_hosts_run_pi(Install::OpenMpi5);
}

#[test]
fn mpich_4() {
    four_hosts_run_pi(Install::Mpich4);
}

#[test]
fn mpich_5() {
    four_hosts_run_pi(Install::Mpich5);
}

#[test]
fn intel_mpi() {
    four_hosts_run_pi(Install::IntelMpi);
}
