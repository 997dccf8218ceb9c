//! Promise: the job of `jobs.rs` runs unchanged in pods as other operators and settings make them: no root, no
//! passwd entry, no capability, a read-only root, short names, the launcher among the hosts, an RSA key.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lab::{Cmd, FileSpec, HostSpec, Install, KeyKind, KeyPair, MpiJob, TrainJob};
use muster_tests::{Cluster, LONG, ranks_by_host, run_muster};

/// Both forms of a launch put two ranks on each of these hosts, and no other.
fn runs_on(cluster: &Cluster, install: Install, planned: &[&str]) {
    let size = 2 * planned.len();
    let program = install.program("ranks").display().to_string();
    let form1 = run_muster(["launch", "--", &program, "hello"]);
    let count = size.to_string();
    let form2 = run_muster(["launch", "--", "mpirun", "-n", &count, &program, "hello"]);
    for command in [form1, form2] {
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{output:?}");
        let hosts = ranks_by_host(&output.stdout, size);
        assert_eq!(hosts.keys().collect::<Vec<_>>(), planned, "{output:?}");
        assert!(hosts.values().all(|ranks| ranks.len() == 2), "{output:?}");
    }
}

const WORKERS: [&str; 4] = ["pi-worker-0", "pi-worker-1", "pi-worker-2", "pi-worker-3"];

/// mpi-operator's non-root pattern under the "restricted" standard, and a read-only root on top.
fn mpi_operator_restricted(install: Install) {
    let job = MpiJob::new("pi", install, 4).unwrap().slots(2).non_root(1000);
    let cluster = Cluster::start_with(&job, HostSpec::read_only_root);
    runs_on(&cluster, install, &WORKERS);
}

/// `runLauncherAsWorker`: the hostfile's first host is the launcher, where no worker runs.
fn mpi_operator_launcher_works(install: Install) {
    let job = MpiJob::new("pi", install, 3).unwrap().slots(2).launcher_works();
    let cluster = Cluster::start(&job);
    runs_on(&cluster, install, &["pi-launcher", WORKERS[0], WORKERS[1], WORKERS[2]]);
}

fn trainer(install: Install) {
    let job = TrainJob::new("tune", install, 4, 2).unwrap();
    let cluster = Cluster::of(job.all_nodes(), job.launcher());
    let nodes = ["tune-node-0-0", "tune-node-0-1", "tune-node-0-2", "tune-node-0-3"];
    runs_on(&cluster, install, &nodes);
}

/// The launcher is the last host of the hostfile.
fn trainer_launcher_is_node(install: Install) {
    let job = TrainJob::new("tune", install, 3, 2).unwrap().launcher_is_node();
    let cluster = Cluster::of(job.all_nodes(), job.launcher());
    let hosts = ["tune-launcher-0-0", "tune-node-0-0", "tune-node-0-1", "tune-node-0-2"];
    runs_on(&cluster, install, &hosts);
}

/// Volcano's plugins `svc`, `ssh` and `env`: RSA PKCS#1 key, hosts without slots in variables and files.
fn volcano(install: Install) {
    let key = KeyPair::generate(KeyKind::Rsa2048).unwrap();
    let hosts: Vec<String> = (0..4).map(|index| format!("vj-worker-{index}.vj")).collect();
    let pod = |name: String, index: usize| {
        HostSpec::new(name)
            .domain("vj.default.svc.cluster.local")
            .mpi(install)
            .cpus(2.0)
            .files(key.files("/root/.ssh", 0o600))
            .file(FileSpec::new("/etc/volcano/worker.host", hosts.join("\n")))
            .file(FileSpec::new("/etc/volcano/master.host", "vj-master-0.vj"))
            .env("VC_WORKER_HOSTS", hosts.join(","))
            .env("VC_WORKER_NUM", "4")
            .env("VC_MASTER_HOSTS", "vj-master-0.vj")
            .env("VC_MASTER_NUM", "1")
            .env("VC_TASK_INDEX", index.to_string())
            .env("VK_TASK_INDEX", index.to_string())
    };
    let workers = (0..4).map(|index| pod(format!("vj-worker-{index}"), index)).collect();
    let launcher = pod("vj-master-0".into(), 0).env("MPI_HOST", hosts.join(","));
    let cluster = Cluster::of(workers, launcher);
    runs_on(&cluster, install, &["vj-worker-0", "vj-worker-1", "vj-worker-2", "vj-worker-3"]);
}

macro_rules! with_each_install {
    ($($environment:ident: $check:expr),* $(,)?) => {$(
        mod $environment {
            use super::*;

            #[test]
            fn open_mpi_4() {
                $check(Install::OpenMpi4);
            }
            #[test]
            fn open_mpi_5() {
                $check(Install::OpenMpi5);
            }
            #[test]
            fn mpich_4() {
                $check(Install::Mpich4);
            }
            #[test]
            fn mpich_5() {
                $check(Install::Mpich5);
            }
            #[test]
            fn intel_mpi() {
                $check(Install::IntelMpi);
            }
        }
    )*};
}

with_each_install! {
    restricted: mpi_operator_restricted,
    launcher_as_worker: mpi_operator_launcher_works,
    trainer_nodes: trainer,
    trainer_launcher_as_node: trainer_launcher_is_node,
    volcano_variables: volcano,
}

/// Why it matters: Open MPI 5 reads none of the operator's variables, and reports success all the same.
#[test]
fn without_muster_open_mpi_5_stays_on_the_launcher() {
    let install = Install::OpenMpi5;
    let cluster = Cluster::start(&MpiJob::new("pi", install, 2).unwrap());
    let program = install.program("ranks").display().to_string();
    let output =
        cluster.launcher.run(Cmd::new("mpirun").args(["-n", "1", &program, "hello"]), LONG);
    let output = output.unwrap();
    assert!(output.success(), "{output:?}");
    assert_eq!(ranks_by_host(&output.stdout, 1).keys().collect::<Vec<_>>(), ["pi-launcher"]);
}
