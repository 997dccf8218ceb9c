//! Promise: the launchers of DeepSpeed and Horovod, as PyPI has them, start and end their ranks on every host where
//! muster is the only ssh: DeepSpeed's by pdsh, Open MPI and MPICH, Horovod's by ssh of its own and by Open MPI.
//!
//! Horovod's C++ takes minutes to compile. Without it horovodrun gets one answer of ours, and starts ranks that do
//! without Horovod; the test that needs it is ignored unless asked for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use lab::{Cmd, FileSpec, Install, MpiJob, Output, Signal};
use muster_tests::{Cluster, LONG, muster, ranks_by_host, run_muster};

/// Every process of such a launch imports PyTorch or half of Python, and here they share one machine's cores.
const SLOW: Duration = Duration::from_secs(240);

const WORKERS: [&str; 4] = ["train-worker-0", "train-worker-1", "train-worker-2", "train-worker-3"];

/// The operator's.
const HOSTFILE: &str = "/etc/mpi/hostfile";

/// A rank that needs no framework: says who it is, and sees to its end.
const RANK: &str = "/home/mpiuser/rank";
const RANK_SCRIPT: &str = r#"#!/bin/sh
rank=${RANK:-$HOROVOD_RANK}
echo "told $PYTHON_TOLD, rank $rank of ${WORLD_SIZE:-$HOROVOD_SIZE} on $(hostname)"
case $1 in
    fail) test "$rank" != 1 || exit 7 ;;
    wait) exec sleep 1000 ;;
esac
"#;

/// An MPIJob of four workers, by a user without rights, of an image in which the only `ssh` is muster.
fn job(install: Install) -> Cluster {
    let job = MpiJob::new("train", install, 4).unwrap().non_root(1000);
    let cluster = Cluster::start_with(&job, |spec| {
        // pdsh and Python ask passwd for the user's name.
        spec.passwd("mpiuser", "/bin/sh").file(FileSpec::new(RANK, RANK_SCRIPT).mode(0o755))
    });
    for host in cluster.workers.iter().chain([&cluster.launcher]) {
        let link = Cmd::new(muster().display().to_string()).args(["install", "--ssh"]).as_lab();
        assert!(host.run(link, LONG).unwrap().success());
        let found = host.run(Cmd::sh("readlink -f $(which -a ssh rsh)"), LONG).unwrap();
        assert_eq!(found.stdout, format!("{0}\n{0}\n", muster().display()), "{found:?}");
    }
    cluster
}

/// A program of a virtual environment of tests/setup.
fn installed(home: &str, name: &str) -> String {
    let path = lab::mpi::cache().join(home).join("bin").join(name);
    let hint = "hint: run tests/setup, for Horovod's C++ tests/setup horovod";
    assert!(path.exists(), "there is no {}\n{hint}", path.display());
    path.display().to_string()
}

/// A script of tests/programs.
fn script(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("programs").join(name).display().to_string()
}

/// `deepspeed` as a user calls it.
fn deepspeed(options: &[&str], command: &[&str]) -> Cmd {
    let words = options.iter().chain(command);
    Cmd::new(installed("launchers", "deepspeed"))
        .args(["--hostfile", HOSTFILE])
        .args(words.copied())
        .env("PYTHON_TOLD", "a:b")
}

/// `horovodrun` the same, or what stands for it.
fn horovodrun(program: Cmd, options: &[&str], command: &[&str]) -> Cmd {
    let hosts = ["-np", "4", "--hostfile", HOSTFILE];
    let words = options.iter().chain(&hosts).chain(command);
    // Its 30 seconds for all checks are short where everything shares a few cores.
    program.args(words.copied()).env("PYTHON_TOLD", "a:b").env("HOROVOD_START_TIMEOUT", "200")
}

/// horovodrun of a Horovod without its C++; the script says what is ours in it.
fn without_cpp() -> Cmd {
    Cmd::new(installed("launchers", "python3")).arg(script("horovodrun_without_cpp.py"))
}

/// Four ranks, one on each worker, which have all said this.
fn one_rank_a_worker(output: &Output, said: &str) {
    assert!(output.success(), "{output:?}");
    let hosts = ranks_by_host(&output.stdout, 4);
    assert_eq!(hosts.keys().collect::<Vec<_>>(), WORKERS, "{output:?}");
    assert_eq!(output.stdout.lines().filter(|line| line.contains(said)).count(), 4, "{output:?}");
}

/// What the ranks in Python say when they have added their numbers up, and have got a variable of the launcher's.
const ADDED_UP: &str = "sum 6, told a:b, by rank ";

/// Starts a launch of ranks that wait, ends it by SIGTERM once they all run, and finds none of them left.
fn a_signal_ends_every_rank(job: &Cluster, launch: Cmd) {
    let launcher = job.launcher.spawn(launch).unwrap();
    for n in 0..4 {
        launcher.wait_for_line(&format!("told a:b, rank {n} of 4"), SLOW).unwrap();
    }
    launcher.signal(Signal::SIGTERM);
    let output = launcher.output(SLOW).unwrap();
    assert_eq!(output.code(), 1, "{output:?}");
    for worker in &job.workers {
        worker.wait_until_gone("sleep", LONG).unwrap();
    }
}

/// Its default: a look at the first host by ssh, then pdsh to all.
#[test]
fn deepspeed_by_pdsh() {
    let job = job(Install::OpenMpi4);
    let ranks = script("deepspeed_ranks.py");
    let output = job.launcher.run(deepspeed(&[], &[&ranks]), SLOW).unwrap();
    one_rank_a_worker(&output, ADDED_UP);

    let two = ["--num_nodes", "2", "--no_python", "--no_local_rank"];
    let output = job.launcher.run(deepspeed(&two, &[RANK, "fail"]), SLOW).unwrap();
    assert_eq!(output.code(), 7, "{output:?}");
    a_signal_ends_every_rank(&job, deepspeed(&two[2..], &[RANK, "wait"]));
}

#[test]
fn deepspeed_by_open_mpi() {
    let job = job(Install::OpenMpi4);
    let command = deepspeed(&["--launcher", "openmpi"], &[&script("deepspeed_ranks.py")]);
    one_rank_a_worker(&job.launcher.run(command, SLOW).unwrap(), ADDED_UP);
}

#[test]
fn deepspeed_by_mpich() {
    let job = job(Install::Mpich5);
    // It does not read the operator's hostfile in MPICH's form.
    let hostfile = "sed 's/:/ slots=/' /etc/mpi/hostfile > /tmp/hostfile";
    assert!(job.launcher.run(Cmd::sh(hostfile), LONG).unwrap().success());
    let options = ["--hostfile", "/tmp/hostfile", "--launcher", "mpich"];
    let command = deepspeed(&options, &[&script("deepspeed_ranks.py")]);
    one_rank_a_worker(&job.launcher.run(command, SLOW).unwrap(), ADDED_UP);
}

/// It looks whether ssh reaches each host, has a program on each look for the networks they share, and starts each rank
/// by one line for ssh that holds the whole environment.
#[test]
fn horovodrun_by_ssh() {
    let job = job(Install::OpenMpi4);
    let gloo = |then| horovodrun(without_cpp(), &["--gloo"], &[RANK, then]);
    let output = job.launcher.run(gloo("end"), SLOW).unwrap();
    one_rank_a_worker(&output, "told a:b, rank ");

    let output = job.launcher.run(gloo("fail"), SLOW).unwrap();
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains("Process name: 1\nExit code: 7\n"), "{output:?}");
    a_signal_ends_every_rank(&job, gloo("wait"));

    // A host that is not there is named, and no rank runs.
    let missing = ["-np", "1", "-H", "none.train:1", RANK, "end"];
    let output = job.launcher.run(without_cpp().args(missing), SLOW).unwrap();
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stdout.contains("ssh not successful for host none.train:"), "{output:?}");
    assert!(!output.stdout.contains("told "), "{output:?}");
}

#[test]
fn horovodrun_by_open_mpi() {
    let job = job(Install::OpenMpi4);
    let ranks = Install::OpenMpi4.program("ranks").display().to_string();
    let command = horovodrun(without_cpp(), &["--mpi"], &[&ranks, "hello"]);
    one_rank_a_worker(&job.launcher.run(command, SLOW).unwrap(), "hello rank ");
}

/// The whole of Horovod, in Debian's PyTorch, by its own launcher and as in examples/frameworks/horovod.yaml.
#[test]
#[ignore = "`tests/setup horovod` compiles what it needs, in minutes"]
fn horovod_adds_up_over_four_hosts() {
    let job = job(Install::OpenMpi4);
    let (python, ranks) = (installed("horovod", "python3"), script("horovod_ranks.py"));
    for way in ["--gloo", "--mpi"] {
        let launch = Cmd::new(installed("horovod", "horovodrun"));
        let launch = horovodrun(launch, &[way], &[&python, &ranks]);
        one_rank_a_worker(&job.launcher.run(launch, SLOW).unwrap(), ADDED_UP);
    }
    let launch = run_muster(["launch", "--stall-timeout", "10m", "--", &python, &ranks]);
    one_rank_a_worker(&job.launcher.run(launch, SLOW).unwrap(), "sum 6, told ");
}
