//! Promise: with each MPI, 8 ranks of a real program run on exactly the 4 planned hosts, with muster as
//! the only remote shell.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lab::{Cmd, HostSpec, Install, Lab, MpiJob};
use muster_tests::{Cluster, LONG, muster, ranks_by_host, run_muster};

fn eight_ranks_on_four_hosts(install: Install) {
    let job = MpiJob::new("pi", install, 4).unwrap().slots(2);
    let cluster = Cluster::start(&job);
    let ssh = cluster.launcher.run(
        Cmd::sh("command -v ssh sshd dbclient dropbear rsh; ls /usr/sbin/sshd /usr/bin/ssh"),
        LONG,
    );
    assert!(!ssh.unwrap().success(), "OpenSSH is reachable");
    let program = install.program("ranks").display().to_string();
    let planned = ["pi-worker-0", "pi-worker-1", "pi-worker-2", "pi-worker-3"];

    let form1 = run_muster(["launch", "--", &program, "hello"]);
    let form2 = run_muster(["launch", "--", "mpirun", "-n", "8", &program, "hello"]);
    for command in [form1, form2] {
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{output:?}");
        let hosts = ranks_by_host(&output.stdout, 8);
        assert_eq!(hosts.keys().collect::<Vec<_>>(), planned, "{output:?}");
        assert!(hosts.values().all(|ranks| ranks.len() == 2), "{output:?}");
        for worker in &cluster.workers {
            worker.wait_until_gone("ranks", LONG).unwrap();
        }
    }
}

#[test]
fn open_mpi_4() {
    eight_ranks_on_four_hosts(Install::OpenMpi4);
}

#[test]
fn open_mpi_5() {
    eight_ranks_on_four_hosts(Install::OpenMpi5);
}

#[test]
fn mpich_4() {
    eight_ranks_on_four_hosts(Install::Mpich4);
}

#[test]
fn mpich_5() {
    eight_ranks_on_four_hosts(Install::Mpich5);
}

#[test]
fn intel_mpi() {
    eight_ranks_on_four_hosts(Install::IntelMpi);
}

/// A container's usual limit is 1,024, which some hundred hosts use up.
#[test]
fn the_soft_limit_on_open_files_does_not_limit_the_hosts() {
    let cluster = Cluster::start(&MpiJob::new("pi", Install::Mpich5, 8).unwrap());
    let (muster, ranks) = (muster(), Install::Mpich5.program("ranks"));
    let line = format!("ulimit -Sn 20 && {} launch -- {} hello", muster.display(), ranks.display());
    let output = cluster.launcher.run(Cmd::sh(line), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    assert_eq!(ranks_by_host(&output.stdout, 8).len(), 8, "{output:?}");
}

/// As the README says: machines, a key that ssh-keygen made, and no operator.
#[test]
fn by_hand_on_several_hosts() {
    let lab = Lab::new().unwrap();
    let install = Install::OpenMpi4;
    let hosts =
        lab.boot_idle(["a", "b", "desk"].map(|name| HostSpec::new(name).mpi(install))).unwrap();
    let keys = lab.shared_dir().display().to_string();
    let made = format!("ssh-keygen -q -t ed25519 -N '' -f {keys}/id_ed25519");
    assert!(std::process::Command::new("sh").args(["-c", &made]).status().unwrap().success());
    for host in &hosts {
        host.publish().unwrap();
    }
    let [workers @ .., desk] = &hosts[..] else { unreachable!() };
    let _serving: Vec<_> = workers
        .iter()
        .map(|host| host.spawn(run_muster(["worker", "--key-dir", &keys])).unwrap())
        .collect();
    let program = install.program("ranks").display().to_string();
    let launch = ["launch", "--key-dir", &keys, "--hosts", "a:1,b:3", "--", &program, "hello"];
    let output = desk.run(run_muster(launch), LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let ranks: Vec<usize> = ranks_by_host(&output.stdout, 4).values().map(Vec::len).collect();
    assert_eq!(ranks, [1, 3], "{output:?}");
}

/// The script of `examples/mpi4py`, whose wheel loads whichever MPI it finds.
#[test]
fn python_s_mpi4py() {
    let python = lab::mpi::cache().join("mpi4py/bin/python3").display().to_string();
    let script = format!("{}/../examples/mpi4py/pi.py", env!("CARGO_MANIFEST_DIR"));
    for install in [Install::OpenMpi4, Install::OpenMpi5, Install::Mpich5, Install::IntelMpi] {
        let cluster = Cluster::start(&MpiJob::new("pi", install, 2).unwrap().slots(2));
        let command = run_muster(["launch", "--tag=none", "--", &python, &script]);
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{install:?}: {output:?}");
        assert!(output.stdout.contains("pi is about 3.141592654"), "{install:?}: {output:?}");
        assert_eq!(ranks_by_host(&output.stdout, 4).len(), 2, "{install:?}: {output:?}");
    }
}
