//! Promise: hosts with several interfaces, one of them of the same address everywhere, do not hang a job; what
//! is required of hosts and missing is told before mpirun starts.
//!
//! No RDMA hardware was at hand: the choice of it is tested as a table (`agent/src/fabric`).

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::openssh::CLIENT;
use lab::{Cmd, FileSpec, Host, HostSpec, Install, LabError, MpiJob, Signal};
use muster_tests::{Cluster, LONG, ranks_by_host, run_muster};

/// What Docker gives its bridge on every machine.
const DOCKER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// In which a job of four ranks that say hello ends many times over; a hang is longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two hosts with two slots each, behind a second network and a docker0.
fn cluster(install: Install, change: impl Fn(HostSpec) -> HostSpec) -> Cluster {
    let job = MpiJob::new("pi", install, 2).unwrap().slots(2);
    Cluster::start_with(&job, |spec| change(spec.second_network().decoy("docker0", DOCKER)))
}

fn program(install: Install) -> String {
    install.program("ranks").display().to_string()
}

/// Runs it, and says how it went where it did not come to a good end in time; what is left of it is killed.
fn failure(cluster: &Cluster, command: Cmd) -> Option<String> {
    let failed = match cluster.launcher.run(command, PATIENCE) {
        Ok(output) => {
            let well = output.success() && output.stdout.matches("hello rank").count() == 4;
            (!well).then(|| format!("{output:?}"))
        }
        Err(error @ LabError::Deadline { .. }) => Some(error.to_string()),
        Err(error) => panic!("{error}"),
    };
    let hosts: Vec<&Host> = cluster.workers.iter().chain([&cluster.launcher]).collect();
    for host in hosts {
        for part in ["mpirun", "mpiexec", "orted", "prted", "proxy", "ranks", "muster launch"] {
            host.kill_matching(part, Signal::SIGKILL);
        }
        host.wait_until_gone("ranks", LONG).unwrap();
    }
    failed
}

fn agent(spec: HostSpec) -> HostSpec {
    let agent = format!("#!/bin/sh\nexec /usr/bin/ssh {} -p 2222 \"$@\"\n", CLIENT.join(" "));
    spec.openssh().file(FileSpec::new("/usr/local/bin/agent", agent.as_str()).mode(0o755))
}

/// The MPI alone, over OpenSSH's client, as images have it.
fn by_itself(install: Install) -> Cmd {
    let mpirun = Cmd::new("mpirun")
        .env("OMPI_MCA_plm_rsh_agent", "/usr/local/bin/agent")
        .env("PRTE_MCA_plm_ssh_agent", "/usr/local/bin/agent")
        .env("PRTE_MCA_prte_default_hostfile", "/etc/mpi/hostfile")
        .env("PRTE_MCA_hwloc_default_binding_policy", "none")
        .env("HYDRA_LAUNCHER_EXEC", "/usr/local/bin/agent")
        .env("HYDRA_IFACE", "eth0")
        .env("I_MPI_HYDRA_BOOTSTRAP_EXEC", "/usr/local/bin/agent")
        .env("I_MPI_HYDRA_IFACE", "eth0");
    mpirun.args(["-n", "4", &program(install), "hello"])
}

/// muster's launch ends well. Where the MPI by itself does not, one with `--fabric none` does not either.
fn a_decoy(install: Install, fails_by_itself: bool) {
    let cluster = cluster(install, agent);
    let launch = |words: &[&str]| {
        run_muster(["launch"]).args(words.iter().copied()).args(["--", &program(install), "hello"])
    };
    let output = cluster.launcher.run(launch(&[]), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let hosts = ranks_by_host(&output.stdout, 4);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["pi-worker-0", "pi-worker-1"], "{output:?}");
    let said = "muster: fabric: TCP over eth0 (10.77.0.0/16";
    assert!(output.stderr.contains(said), "{output:?}");

    // Also where the line is the user's own.
    let line = run_muster(["launch", "--", "mpirun", "-n", "4", &program(install), "hello"]);
    let output = cluster.launcher.run(line, LONG).unwrap();
    assert!(output.success(), "{output:?}");

    for command in [by_itself(install), launch(&["--fabric", "none"])] {
        let failure = failure(&cluster, command.clone());
        println!("{command:?}: {failure:?}");
        assert!(failure.is_some() || !fails_by_itself, "{command:?} ended well");
    }
}

/// Hangs: connections end at docker0 of the host itself.
#[test]
fn a_decoy_open_mpi_4() {
    a_decoy(Install::OpenMpi4, true);
}

/// Aborts for the same reason.
#[test]
fn a_decoy_open_mpi_5() {
    a_decoy(Install::OpenMpi5, true);
}

/// Aborts: UCX 1.13 takes the refused connection for the peer's answer.
#[test]
fn a_decoy_mpich_4() {
    a_decoy(Install::Mpich4, true);
}

/// Its newer UCX asks the kernel for routes, and so it works by itself too.
#[test]
fn a_decoy_mpich_5() {
    a_decoy(Install::Mpich5, false);
}

/// Hangs.
#[test]
fn a_decoy_intel() {
    a_decoy(Install::IntelMpi, true);
}
