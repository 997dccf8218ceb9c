//! muster behind OpenSSH's names, and beside a real OpenSSH: manifests and tools that know ssh run unchanged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

use lab::{HostSpec, Install, Lab, MpiJob, Pod, PodCommand, Pods};
use muster_tests::{LONG, ranks_by_host};
use serde_json::{Value, json};

use crate::site::{self, image_of, serve, strict, with_programs};

/// The operator's command for workers that have OpenSSH.
fn sshd() -> PodCommand {
    PodCommand::program("/usr/sbin/sshd", ["-De", "-f", "/home/mpiuser/.sshd_config"])
}

/// A job of mpi-operator, as uid 1000, with two slots on each of these workers.
fn job(install: Install, workers: usize) -> MpiJob {
    MpiJob::new("pi", install, workers).unwrap().slots(2).non_root(1000)
}

/// Runs the launcher of a job to its end, with the workers given.
fn run(pods: &Pods, spec: &HostSpec, image: &str, command: &PodCommand) -> lab::Output {
    let launcher = pods.start(spec, image, command).unwrap();
    launcher.publish().unwrap();
    launcher.output(LONG).unwrap()
}

/// mpi-operator's example `pi`: its command lines, environment, hostfile and key, in images without OpenSSH, with the
/// program that `examples/pi` builds.
fn stock_pi(install: Install, job: &MpiJob, sshd: &PodCommand, shape: fn(HostSpec) -> HostSpec) {
    if !site::ready() {
        return;
    }
    let lab = Lab::new().unwrap();
    let pods = Pods::new(&lab).unwrap();
    let shape = |spec: HostSpec| shape(with_programs(spec, install));
    let image = format!("pi-{}", image_of(install));
    let workers = job.all_workers().into_iter().map(shape).collect();
    let workers = serve(&pods, workers, &image, sshd, "READY").unwrap();
    let names = "command -v ssh; readlink -f $(command -v ssh) /usr/sbin/sshd";
    let names = workers[0].exec(names).unwrap();
    assert_eq!(names, "/usr/local/bin/ssh\n/usr/local/bin/muster\n/usr/local/bin/muster\n");

    let launcher = shape(job.launcher());
    // Of the operator's variables Open MPI 5 reads none: its users name the hostfile, whatever the remote shell.
    let hostfile = install == Install::OpenMpi5;
    let mpirun = |line: &str| {
        let hostfile = if hostfile { "--hostfile /etc/mpi/hostfile" } else { "" };
        PodCommand::program("sh", ["-c", &format!("exec mpirun {hostfile} {line}")])
    };
    let command = mpirun("-n 2 /home/mpiuser/pi");
    let output = run(&pods, &launcher, &image, &command);
    assert!(output.success() && output.stdout.contains("pi is 3.14159265"), "{output:?}");
    let command = mpirun("-n 4 /opt/job/ranks hello");
    let output = run(&pods, &launcher, &image, &command);
    assert!(output.success(), "{output:?}");
    let hosts = ranks_by_host(&output.stdout, 4);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["pi-worker-0", "pi-worker-1"], "{output:?}");
}

#[test]
fn stock_pi_of_open_mpi() {
    stock_pi(Install::OpenMpi4, &job(Install::OpenMpi4, 2), &sshd(), strict);
}

#[test]
fn stock_pi_of_open_mpi_5() {
    stock_pi(Install::OpenMpi5, &job(Install::OpenMpi5, 2), &sshd(), strict);
}

#[test]
fn stock_pi_of_mpich() {
    stock_pi(Install::Mpich5, &job(Install::Mpich5, 2), &sshd(), strict);
}

#[test]
fn stock_pi_of_intel_mpi() {
    stock_pi(Install::IntelMpi, &job(Install::IntelMpi, 2), &sshd(), strict);
}

/// The operator's defaults: root, its key in /root/.ssh, and `sshd -De` on port 22.
#[test]
fn stock_pi_as_root() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap().slots(2);
    let sshd = PodCommand::program("/usr/sbin/sshd", ["-De"]);
    stock_pi(Install::OpenMpi4, &job, &sshd, |spec| {
        // What its examples for root say as a flag.
        spec.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    });
}

/// What an image says of itself, for whoever runs it without saying more.
#[test]
fn images_say_what_they_are() {
    if !site::ready() {
        return;
    }
    let image = |name: &str| {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/podman"))
            .args(["image", "inspect", &format!("localhost/muster-test/{name}")])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
    };
    for mpi in ["openmpi", "openmpi5", "mpich", "intel"] {
        for role in ["worker", "launcher"] {
            let of = image(&format!("{mpi}-{role}"));
            let config = &of["Config"];
            assert_eq!(config["User"], "1000", "{of}");
            assert_eq!(config["Entrypoint"], json!(["muster"]), "{of}");
            let licences = &config["Labels"]["org.opencontainers.image.licenses"];
            assert!(licences.as_str().unwrap().starts_with("Apache-2.0 AND "), "{of}");
            let health = &of["Healthcheck"]["Test"][0];
            assert_eq!(health, if role == "worker" { "CMD" } else { "NONE" }, "{of}");
        }
    }
    assert_eq!(image("muster")["Config"]["Labels"]["org.opencontainers.image.title"], "muster");
}

/// Four ranks on two workers: a launcher of one image and workers of another.
fn mixed(launcher: (&str, &PodCommand), worker: (&str, &PodCommand), ready: &str) {
    if !site::ready() {
        return;
    }
    let install = Install::OpenMpi4;
    let (lab, job) = (Lab::new().unwrap(), job(install, 2));
    let pods = Pods::new(&lab).unwrap();
    let shape = |spec: HostSpec| strict(with_programs(spec, install));
    let workers = job.all_workers().into_iter().map(shape).collect();
    let _workers = serve(&pods, workers, worker.0, worker.1, ready).unwrap();
    let output = run(&pods, &shape(job.launcher()), launcher.0, launcher.1);
    assert!(output.success(), "{output:?}");
    let hosts = ranks_by_host(&output.stdout, 4);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["pi-worker-0", "pi-worker-1"], "{output:?}");
}

#[test]
fn a_launcher_with_openssh_reaches_muster_workers() {
    let mpirun = PodCommand::program("mpirun", ["-n", "4", "/opt/job/ranks", "hello"]);
    mixed(("stock", &mpirun), ("openmpi-worker", &PodCommand::default()), "READY");
}

#[test]
fn a_launcher_with_muster_reaches_workers_with_openssh() {
    let launch = PodCommand::args(["launch", "--", "/opt/job/ranks", "hello"]);
    mixed(("openmpi-launcher", &launch), ("stock", &sshd()), "Server listening");
}

/// pdsh, from Debian and unchanged, which runs `ssh` on every host.
#[test]
fn pdsh_reaches_four_containers() {
    if !site::ready() {
        return;
    }
    let (lab, job) = (Lab::new().unwrap(), job(Install::OpenMpi4, 4));
    let pods = Pods::new(&lab).unwrap();
    let workers: Vec<_> = job.all_workers().into_iter().map(strict).collect();
    let workers = serve(&pods, workers, "openmpi-worker", &PodCommand::default(), "READY").unwrap();
    let hosts = "pi-worker-[0-3].pi.default.svc";
    let command = PodCommand::program("pdsh", ["-R", "ssh", "-w", hosts, "hostname; exit 0"]);
    let output = run(&pods, &strict(job.launcher()), "pdsh", &command);
    assert!(output.success(), "{output:?}");
    let said: BTreeSet<&str> =
        output.stdout.lines().filter_map(|line| line.split_once(": ")).map(|line| line.1).collect();
    let names: BTreeSet<&str> = workers.iter().map(Pod::name).collect();
    assert_eq!(said, names, "{output:?}");
}
