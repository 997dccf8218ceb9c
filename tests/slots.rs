//! Promise: hosts take as many ranks as they have GPUs, or as the hostfile or `--slots` says, each its own number;
//! and each rank sees its own GPUs.
//!
//! The GPUs are those of a stub of NVML (`programs/nvml_stub.c`), asked by the real helper: no machine with several
//! was at hand. What a rank is shown needs none.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use lab::{Cmd, FileSpec, Host, HostSpec, Install, MpiJob, Output};
use muster_tests::{Cluster, LONG, compile_nvml_stub, ranks_by_host, run_muster};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Where some container runtimes mount the driver's libraries, and the helper looks without being told.
const DRIVER: &str = "/usr/local/nvidia/lib64";

fn stub() -> TempDir {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    compile_nvml_stub(home.path(), &[]);
    home
}

/// A worker with so many GPUs.
fn with_gpus(spec: HostSpec, stub: &Path, gpus: usize) -> HostSpec {
    spec.bind(stub, DRIVER).env("NVML_STUB_GPUS", gpus.to_string())
}

/// Two workers of 4 and 2 GPUs, and hostfiles that say something else.
fn cluster(install: Install, stub: &Path) -> Cluster {
    let job = MpiJob::new("pi", install, 2).unwrap().slots(2);
    let workers = [4, 2].into_iter().enumerate();
    let workers = workers.map(|(at, gpus)| with_gpus(job.worker(at), stub, gpus)).collect();
    let [first, second] = [0, 1].map(|at| job.worker_name(at));
    let launcher = job
        .launcher()
        .file(FileSpec::new("/hosts/bare", format!("{first}\n{second}\n")))
        .file(FileSpec::new("/hosts/other", format!("{first} slots=2\n{second} slots=4\n")))
        .file(FileSpec::new("/hosts/blind", format!("{first} slots=4\n{second} slots=2\n")));
    Cluster::of(workers, launcher)
}

fn run(host: &Host, words: &[&str]) -> Output {
    let output = host.run(run_muster(["launch"]).args(words.iter().copied()), LONG).unwrap();
    assert!(output.success(), "{words:?}: {output:?}");
    output
}

/// A rank's line, in a program that lasts: Open MPI 5 hangs at the end of instant ones.
const SHOW: [&str; 3] = [
    "sh",
    "-c",
    "echo local ${OMPI_COMM_WORLD_LOCAL_RANK-$MPI_LOCALRANKID} sees ${CUDA_VISIBLE_DEVICES-all}; sleep 0.5",
];

/// What each rank says that it sees, by host and local rank; GPUs by the last digit of their UUID. (Open MPI 5 numbers
/// the ranks of a host 0, 2, 1, 3 where they share cores.)
fn seen(output: &Output) -> BTreeMap<(String, usize), String> {
    let rank = |line: &str| {
        let (tag, rest) = line.strip_prefix("[rank ")?.split_once("] local ")?;
        let (_, host) = tag.split_once('|')?;
        let (local, sees) = rest.split_once(" sees ")?;
        let last = |uuid: &str| uuid.chars().next_back().unwrap_or('-').to_string();
        let short =
            |uuid: &str| if uuid.starts_with("GPU-") { last(uuid) } else { uuid.to_owned() };
        let short: Vec<String> = sees.trim().split(',').map(short).collect();
        Some(((host.to_owned(), local.parse().unwrap()), short.join(",")))
    };
    output.stdout.lines().filter_map(rank).collect()
}

/// What the local ranks of each worker see, in their order.
fn expect(output: &Output, expected: [&[&str]; 2]) {
    let host = |(at, ranks): (usize, &&[&str])| {
        let rank = move |(local, sees): (usize, &&str)| {
            ((format!("pi-worker-{at}"), local), (*sees).to_owned())
        };
        ranks.iter().enumerate().map(rank).collect::<Vec<_>>()
    };
    let expected = expected.iter().enumerate().flat_map(host).collect();
    assert_eq!(seen(output), expected, "{output:?}");
}

fn hosts_differ(install: Install) {
    let stub = stub();
    let cluster = cluster(install, stub.path());
    let launcher = &cluster.launcher;

    // By GPUs: as many ranks, each with its own.
    let bare = ["--hostfile", "/hosts/bare", "--"];
    let output = run(launcher, &[&bare[..], &SHOW].concat());
    let told = "muster: 6 slots: 4 on pi-worker-0 (4 GPUs), 2 on pi-worker-1 (2 GPUs)\n";
    assert!(output.stderr.contains(told), "{output:?}");
    expect(&output, [&["0", "1", "2", "3"], &["0", "1"]]);

    // The hostfile outranks them: ranks that are fewer than the GPUs divide these, more ranks share them.
    let other = ["--hostfile", "/hosts/other", "--"];
    let output = run(launcher, &[&other[..], &SHOW].concat());
    let told = "muster: 6 slots: 2 on pi-worker-0 (hostfile), 4 on pi-worker-1 (hostfile)\n";
    assert!(output.stderr.contains(told), "{output:?}");
    let word = "muster: ranks share GPUs in turn: 4 on 2 GPUs (pi-worker-1)\n";
    assert_eq!(output.stderr.matches(word).count(), 1, "{output:?}");
    expect(&output, [&["0,1", "2,3"], &["0", "1", "0", "1"]]);

    // The same by the user's own line, where the family has another way for it.
    if install != Install::IntelMpi {
        let own = ["--hostfile", "/hosts/other", "--", "mpirun", "-n", "6"];
        expect(
            &run(launcher, &[&own[..], &SHOW].concat()),
            [&["0,1", "2,3"], &["0", "1", "0", "1"]],
        );
    }

    // A real MPI program, in both forms; Intel MPI takes slots that differ on its command line alone.
    let ranks = install.program("ranks").display().to_string();
    let mut forms = vec![vec![ranks.as_str(), "hello"]];
    if install != Install::IntelMpi {
        forms.push(vec!["mpirun", "-n", "6", &ranks, "hello"]);
    }
    for words in forms {
        let output = run(launcher, &[&["--hostfile", "/hosts/blind", "--"][..], &words].concat());
        let hosts = ranks_by_host(&output.stdout, 6);
        let expected: BTreeMap<String, Vec<usize>> =
            [("pi-worker-0".to_owned(), vec![0, 1, 2, 3]), ("pi-worker-1".to_owned(), vec![4, 5])]
                .into();
        let sorted = hosts.into_iter().map(|(host, mut ranks)| {
            ranks.sort_unstable();
            (host, ranks)
        });
        assert_eq!(sorted.collect::<BTreeMap<_, _>>(), expected, "{words:?}: {output:?}");
    }

    // What mpirun is given says the same, whatever its dialect.
    let dry = run(launcher, &["--hostfile", "/hosts/bare", "--dry-run", "--", "true"]);
    let line = |host: usize, slots: usize| {
        let name = format!("pi-worker-{host}.pi.default.svc");
        let mark = if install.is_hydra() { ":" } else { " slots=" };
        format!("            {name}{mark}{slots}\n")
    };
    assert!(dry.stdout.contains(&(line(0, 4) + &line(1, 2))), "{dry:?}");
    let reason = "hosts     6 slots: 4 on pi-worker-0 (4 GPUs), 2 on pi-worker-1 (2 GPUs)\n";
    assert!(dry.stdout.contains(reason), "{dry:?}");
}

#[test]
fn open_mpi_4() {
    hosts_differ(Install::OpenMpi4);
}

#[test]
fn open_mpi_5() {
    hosts_differ(Install::OpenMpi5);
}

#[test]
fn mpich_4() {
    hosts_differ(Install::Mpich4);
}

#[test]
fn mpich_5() {
    hosts_differ(Install::Mpich5);
}

#[test]
fn intel_mpi() {
    hosts_differ(Install::IntelMpi);
}

#[test]
fn the_user_s_word_on_gpus_counts() {
    let stub = stub();
    let install = Install::Mpich5;
    let cluster = cluster(install, stub.path());
    let launch = |variables: &[(&str, &str)], words: &[&str]| {
        let command = run_muster(["launch", "--hostfile", "/hosts/bare"]);
        let command = command.args(words.iter().copied()).arg("--").args(SHOW);
        let command =
            variables.iter().fold(command, |command, (name, value)| command.env(*name, *value));
        let output = cluster.launcher.run(command, LONG).unwrap();
        assert!(output.success(), "{output:?}");
        seen(&output).into_values().collect::<Vec<_>>()
    };
    assert_eq!(launch(&[], &["-n", "2", "--gpu-bind=none"]), ["all", "all"]);
    assert_eq!(launch(&[("MUSTER_GPU_BIND", "none")], &["-n", "1"]), ["all"]);
    assert_eq!(launch(&[], &["-n", "3", "--gpu-bind=round-robin"]), ["0", "1", "2"]);
    // Hydra hands the launcher's environment on.
    assert_eq!(launch(&[("CUDA_VISIBLE_DEVICES", "7")], &["-n", "2"]), ["7", "7"]);
    assert_eq!(launch(&[], &["--slots", "1"]), ["all", "all"], "one rank has all GPUs of its host");

    let bad = run_muster(["launch", "--", "true"]).env("MUSTER_GPU_BIND", "some");
    let refused = cluster.launcher.run(bad, LONG).unwrap();
    assert_eq!(refused.code(), 89, "{refused:?}");
    assert!(refused.stderr.contains("value is that of MUSTER_GPU_BIND"), "{refused:?}");
}

#[test]
fn a_rank_gets_one_mig_instance() {
    let stub = stub();
    let install = Install::OpenMpi4;
    let job = MpiJob::new("pi", install, 1).unwrap();
    let worker = job.worker(0).bind(stub.path(), DRIVER).env("NVML_STUB", "mig");
    let cluster = Cluster::of(vec![worker], job.launcher());
    let hosts = job.worker_name(0);
    let output = run(&cluster.launcher, &[&["--hosts", &hosts, "--"][..], &SHOW].concat());
    let told = "muster: 2 slots: 2 on pi-worker-0 (2 MIG instances)\n";
    assert!(output.stderr.contains(told), "{output:?}");
    for instance in 0..2 {
        let sees =
            format!(" local {instance} sees MIG-5717b000-0000-0000-0000-00000000000{instance}\n");
        assert!(output.stdout.contains(&sees), "{output:?}");
    }
}

#[test]
fn without_hosts_this_machine_s_gpus_count() {
    let stub = stub();
    let lab = lab::Lab::new().unwrap();
    let desk = with_gpus(HostSpec::new("desk").mpi(Install::Mpich5), stub.path(), 2);
    let desk = lab.boot_idle([desk]).unwrap().remove(0);
    let output = run(&desk, &[&["--"][..], &SHOW].concat());
    assert!(output.stderr.contains("muster: 2 slots: this machine (2 GPUs)\n"), "{output:?}");
    let sees: Vec<String> = seen(&output).into_values().collect();
    assert_eq!(sees, ["0", "1"]);
}

/// Agrees with its schema, in which the report of a host is an object that has a schema of its own.
fn checked(page: &str) -> Value {
    let page: Value = serde_json::from_str(page).unwrap();
    let agrees = |schema: &str, value: &Value| {
        let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
        let wrong: Vec<String> = schema.iter_errors(value).map(|error| error.to_string()).collect();
        assert_eq!(wrong, [""; 0], "{value:#}");
    };
    agrees(include_str!("../agent/docs/devices-hosts.schema.json"), &page);
    for host in page["hosts"].as_array().unwrap() {
        agrees(include_str!("../agent/docs/devices.schema.json"), &host["devices"]);
    }
    page
}

#[test]
fn all_hosts_are_shown_side_by_side_and_the_odd_one_is_marked() {
    let stub = stub();
    let install = Install::OpenMpi4;
    let job = MpiJob::new("pi", install, 3).unwrap();
    let worker = |at| match at {
        // A GPU short, a smaller /dev/shm and no MPI: of an older image.
        1 => with_gpus(job.worker(at), stub.path(), 3)
            .shm(1 << 20)
            .without("/usr/bin/mpirun")
            .without("/usr/bin/mpiexec")
            .without("/usr/bin/orterun"),
        _ => with_gpus(job.worker(at), stub.path(), 4),
    };
    let cluster = Cluster::of((0..3).map(worker).collect(), job.launcher());
    let all = |words: &[&str]| {
        let command = run_muster(["devices", "--all-hosts"]).args(words.iter().copied());
        cluster.launcher.run(command, LONG).unwrap()
    };
    let table = all(&[]);
    assert!(table.success(), "{table:?}");
    let row = |host: &str| table.stdout.lines().find(|line| line.starts_with(host)).unwrap();
    assert!(row("HOST").contains("GPUS") && row("HOST").contains("MTU"), "{table:?}");
    assert!(row("pi-worker-0").contains(" 4 GPUs  "), "{table:?}");
    assert!(row("pi-worker-1").contains(" 3 GPUs *"), "{table:?}");
    for line in [
        "\n* gpus of pi-worker-1: 3 GPUs; 2 others: 4 GPUs\n",
        "\n* shm of pi-worker-1: 1 MiB; 2 others: 64 MiB\n",
        "\n* mpi of pi-worker-1: none; 2 others: Open MPI 4 4.1.4\n",
    ] {
        assert!(table.stdout.contains(line), "{table:?}");
    }
    assert_eq!(table.stdout.matches("\n* ").count(), 3, "{table:?}");

    let page = checked(&all(&["--format", "json"]).stdout);
    let gpus =
        |at: usize| page["hosts"][at]["devices"]["gpus"]["devices"].as_array().unwrap().len();
    assert_eq!([0, 1, 2].map(gpus), [4, 3, 4]);
    assert_eq!(page["hosts"][2]["address"], json!(cluster.workers[2].address().to_string()));
    let odd: Vec<&Value> = page["odd"].as_array().unwrap().iter().map(|odd| &odd["fact"]).collect();
    assert_eq!(odd, ["shm", "gpus", "mpi"]);

    let short = all(&["--hosts", "pi-worker-9.pi", "--wait-timeout", "5s"]);
    assert_eq!(short.code(), 170, "{short:?}");
    for words in [&["--format", "prometheus"][..], &["--watch", "1s"]] {
        let refused = all(words);
        assert_eq!(refused.code(), 89, "{refused:?}");
        assert!(refused.stderr.contains("hint: "), "{refused:?}");
    }
    let alone =
        Cmd::new(muster_tests::muster().display().to_string()).args(["devices", "--hosts", "a"]);
    assert_eq!(cluster.launcher.run(alone, LONG).unwrap().code(), 89);
}
