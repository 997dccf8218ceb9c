//! Promise: `muster hosts` prints the hosts in every form that others read, and `muster wait` ends when they
//! are ready, with the table's code when they are not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lab::{FileSpec, Host, Install, MpiJob, Output};
use muster_tests::{Cluster, LONG, run_muster};

fn run<const N: usize>(host: &Host, words: [&str; N]) -> Output {
    host.run(run_muster(words), LONG).unwrap()
}

#[test]
fn every_format_says_the_same() {
    let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap().slots(2);
    let cluster = Cluster::start(&job);
    let launcher = &cluster.launcher;
    let [a, b] = [0, 1].map(|index: usize| cluster.workers[index].address().to_string());
    let names = [0, 1].map(|index| job.worker_name(index));

    let table = run(launcher, ["hosts"]);
    assert!(table.success() && table.stderr.is_empty(), "{table:?}");
    let lines: Vec<Vec<&str>> =
        table.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(table.stdout.starts_with("hosts from /etc/mpi/hostfile"), "{table:?}");
    assert_eq!(lines[1], ["HOST", "SLOTS", "ADDRESSES"]);
    assert_eq!(lines[2..], [[names[0].as_str(), "2", &a], [names[1].as_str(), "2", &b]]);

    for (format, expected) in [
        ("openmpi", format!("{} slots=2\n{} slots=2\n", names[0], names[1])),
        ("hydra", format!("{}:2\n{}:2\n", names[0], names[1])),
        ("horovod", format!("{}:2\n{}:2\n", names[0], names[1])),
    ] {
        let output = run(launcher, ["hosts", "--format", format]);
        assert_eq!((output.stdout, output.status.code()), (expected, Some(0)), "{format}");
    }
    let json = run(launcher, ["hosts", "--format", "json"]).stdout;
    for part in [&names[0], &names[1], &a, &b] {
        assert!(json.contains(&format!("\"{part}\"")), "{json}");
    }

    // The same pods by their Service, where the names follow from the pattern.
    let service = ["hosts", "--service", "pi", "--workers", "2", "--pattern", "pi-worker-{i}"];
    let output = run(launcher, service);
    assert!(output.success(), "{output:?}");
    assert!(output.stdout.contains(&a) && output.stdout.contains(&b), "{output:?}");

    cluster.workers[1].withdraw().unwrap();
    let output = run(launcher, ["hosts"]);
    assert_eq!(output.code(), 170, "{output:?}");
    assert!(output.stdout.contains("no such name"), "{output:?}");
}

#[test]
fn wait_ends_with_the_last_host_or_with_the_table_s_code() {
    let job = MpiJob::new("pi", Install::Mpich4, 2).unwrap();
    let foreign = lab::KeyPair::generate(lab::KeyKind::EcdsaP521).unwrap();
    let cluster = Cluster::start_with(&job, |spec| {
        spec.file(FileSpec::new("/foreign/id_rsa", foreign.private.as_str()).mode(0o644))
    });
    let launcher = &cluster.launcher;
    let output = run(launcher, ["wait", "--wait-timeout", "30s"]);
    assert!(output.success() && output.stdout.is_empty(), "{output:?}");
    assert!(output.stderr.ends_with("muster: all 2 hosts are ready\n"), "{output:?}");

    // A worker that comes later is waited for.
    cluster.workers[1].withdraw().unwrap();
    let waiting = launcher.spawn(run_muster(["wait"])).unwrap();
    waiting.wait_for_line("1/2 workers ready; pi-worker-1: ", LONG).unwrap();
    cluster.workers[1].publish().unwrap();
    assert!(waiting.output(LONG).unwrap().success());

    let short = "--wait-timeout";
    let cases: [(&[&str], i32, &str); 3] = [
        (&["--hosts", "pi-worker-9.pi", short, "5s"], 170, "hint: is the pod running"),
        (&["--port", "9", short, "5s"], 171, "connection refused"),
        (&["--key-dir", "/foreign", short, "5s"], 88, "wrong host key"),
    ];
    for (words, code, part) in cases {
        let output = launcher.run(run_muster(["wait"]).args(words.iter().copied()), LONG).unwrap();
        assert_eq!(output.code(), code, "{words:?}: {output:?}");
        assert!(output.stderr.contains(part), "{words:?}: {output:?}");
        assert!(output.stderr.contains("\nmuster: hint: "), "{words:?}: {output:?}");
        assert!(output.elapsed < LONG / 4, "{words:?}: {output:?}");
    }
}
