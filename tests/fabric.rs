//! Promise: hosts with several interfaces, one of them of the same address everywhere, do not hang a job; what
//! is required of hosts and missing is told before mpirun starts.
//!
//! No RDMA hardware was at hand: the choice of it is tested as a table (`agent/src/fabric`).

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::openssh::{agent, mpirun};
use lab::{Cmd, FileSpec, Host, HostSpec, Install, LabError, MpiJob, Resource, Signal};
use muster_tests::{Cluster, LONG, ranks_by_host, run_muster};

/// What Docker and libvirt give their bridges on every machine.
const DOCKER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
const LIBVIRT: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 1);

/// In which a job of four ranks that say hello ends many times over; a hang is longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two hosts with two slots each: eth0, docker0, eth1, virbr0.
fn cluster(install: Install, change: impl Fn(HostSpec) -> HostSpec) -> Cluster {
    let job = MpiJob::new("pi", install, 2).unwrap().slots(2);
    // Which of them an MPI falls for depends on their order.
    let interfaces =
        |spec: HostSpec| spec.decoy("docker0", DOCKER).second_network().decoy("virbr0", LIBVIRT);
    Cluster::start_with(&job, |spec| change(interfaces(spec)))
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

/// The MPI alone, over OpenSSH's client, as images have it.
fn by_itself(install: Install) -> Cmd {
    mpirun(install).args(["-n", "4", &program(install), "hello"])
}

/// muster's launch ends well. Where the MPI by itself does not, one with `--fabric none` does not either.
fn a_decoy(install: Install, fails_by_itself: bool) {
    let cluster = cluster(install, |spec| spec.openssh().file(agent(2222)));
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

/// Its newer UCX finds the way by itself.
#[test]
fn a_decoy_mpich_5() {
    a_decoy(Install::Mpich5, false);
}

/// Hangs.
#[test]
fn a_decoy_intel() {
    a_decoy(Install::IntelMpi, true);
}

/// What a worker's pod sets is kept, whatever way the family takes to its ranks.
#[test]
fn each_variable_reaches_the_ranks_and_nobodys_own_is_lost() {
    for install in [Install::OpenMpi4, Install::OpenMpi5, Install::Mpich5] {
        let cluster = cluster(install, |spec| match spec.short_name() {
            "pi-worker-1" => spec.env("NCCL_IB_HCA", "theirs").env("FI_TCP_IFACE", "theirs"),
            _ => spec,
        });
        let print = r#"sleep 0.5; echo "${UCX_NET_DEVICES-} ${FI_TCP_IFACE-} ${NCCL_IB_HCA-}""#;
        let command = run_muster(["launch", "--tag", "none", "--", "sh", "-c", print]);
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{output:?}");
        let mut lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["eth0", "eth0", "eth0 theirs theirs", "eth0 theirs theirs"],
            "{output:?}"
        );
    }
}

/// Images leave interfaces out in a file; Open MPI fails where they are named by a variable as well.
#[test]
fn a_file_of_open_mpi_s_parameters_counts() {
    let file = "/etc/openmpi/openmpi-mca-params.conf";
    let exclude = "pml = ^ucx\nbtl = ^uct,openib,ofi\nmtl = ^ofi\n\
                   btl_tcp_if_exclude = lo,docker0,virbr0\n";
    let cluster = cluster(Install::OpenMpi4, |spec| spec.file(FileSpec::new(file, exclude)));
    let launch = |words: &[&str]| {
        let command = run_muster(["launch"]).args(words.iter().copied());
        let command = command.args(["--", &program(Install::OpenMpi4), "hello"]);
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{output:?}");
        output.stdout
    };
    let text = launch(&["--dry-run"]);
    assert!(text.contains("OMPI_MCA_btl_tcp_if_exclude=lo,docker0,virbr0 "), "{text}");
    assert!(!text.contains("btl_tcp_if_include"), "{text}");
    assert_eq!(ranks_by_host(&launch(&[]), 4).len(), 2);
}

#[test]
fn a_dry_run_tells_every_variable_and_who_set_it() {
    let cluster = cluster(Install::OpenMpi4, |spec| spec);
    let dry = |words: &[&str]| {
        let command = run_muster(["launch", "--dry-run"]).args(words.iter().copied());
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{output:?}");
        output.stdout
    };
    let text = dry(&["--", "./train"]);
    for part in [
        "fabric    TCP over eth0 (10.77.0.0/16",
        "OMPI_MCA_btl_tcp_if_include=eth0 ",
        "OMPI_MCA_oob_tcp_if_include=eth0 ",
        "UCX_NET_DEVICES=eth0 ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = dry(&["--", "mpirun", "--mca", "btl_tcp_if_exclude", "lo,docker0", "./train"]);
    assert!(text.contains("OMPI_MCA_btl_tcp_if_exclude=lo,docker0"), "{text}");
    assert!(text.contains("# set on the mpirun line"), "{text}");
    assert!(!text.contains("btl_tcp_if_include"), "{text}");
    let text = dry(&["--fabric", "tcp", "--", "./train"]);
    assert!(text.contains(": --fabric tcp"), "{text}");
    assert!(!dry(&["--fabric", "none", "--", "./train"]).contains("_include"));
}

#[test]
fn what_is_required_and_missing_is_told_before_mpirun_starts() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap().slots(1);
    let cluster = Cluster::start_with(&job, |spec| match spec.short_name() {
        "pi-worker-1" => spec.shm(32 << 20).limit(Resource::RLIMIT_MEMLOCK, 8 << 20),
        _ => spec.shm(1 << 30),
    });
    let mark = cluster.lab.shared_dir().join("started").display().to_string();
    let launch = |words: &[&str]| {
        let command = run_muster(["launch"]).args(words.iter().copied());
        cluster.launcher.run(command.args(["--", "touch", &mark]), LONG).unwrap()
    };
    for (required, parts) in [
        ("shm=64Mi", &["pi-worker-1 has 32 MiB of 64 MiB /dev/shm"][..]),
        ("memlock=unlimited", &["pi-worker-1 has 8 MiB of unlimited locked memory"]),
        (
            "rdma=1,gpus=8",
            &["pi-worker-0 has 0 of 1 usable RDMA devices", "pi-worker-1 has 0 of 8 usable GPUs"],
        ),
    ] {
        let output = launch(&["--require", required]);
        assert_eq!(output.code(), 91, "{output:?}");
        for part in
            parts.iter().chain(&["failed to meet --require: ", "hint: ", "(local-resource)"])
        {
            assert!(output.stderr.contains(part), "{part} in {output:?}");
        }
    }
    let output = launch(&["--fabric", "rdma"]);
    assert_eq!(output.code(), 91, "{output:?}");
    assert!(output.stderr.contains("failed to use RDMA on every host: "), "{output:?}");
    assert!(!std::path::Path::new(&mark).exists());
    let output = launch(&["--require", "cpus=1,shm=32Mi,memlock=8Mi,memory=64Mi"]);
    assert!(output.success(), "{output:?}");
    assert!(std::path::Path::new(&mark).exists());
}
