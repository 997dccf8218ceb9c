//! Promise: a job that fails ends soon, leaves nothing behind, and says in plain words what happened first,
//! where, and whether a retry can help; with each MPI.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lab::{Cmd, FileSpec, Install, MpiJob, Output, Proc, Signal};
use muster_tests::{Cluster, LONG, muster, nothing_of_a_job};
use serde_json::Value;

/// Within this nothing of the job may be left; how soon it really is gone is measured in `benches`.
const SOON: Duration = Duration::from_secs(10);

/// Six ranks on three workers; the second one may use 600 MB of memory and has 64 MB of /dev/shm.
struct Scene {
    install: Install,
    cluster: Cluster,
}

/// What a story should come to.
struct Expected<'e> {
    class: &'e str,
    code: i32,
    rank: Option<u64>,
    host: Option<&'e str>,
    /// What the explanation says.
    words: &'e [&'e str],
}

const REPORT: &str = "/tmp/report.json";

/// What verdicts have said before, a file an MPI.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/verdicts");

impl Scene {
    fn new(install: Install) -> Self {
        let job = MpiJob::new("pi", install, 3).unwrap().slots(2);
        let cluster = Cluster::start_with(&job, |spec| match spec.short_name() {
            "pi-worker-1" => spec.memory(600 << 20).shm(64 << 20),
            _ => spec,
        });
        Self { install, cluster }
    }

    /// `muster launch` with these flags around the test program.
    fn launch(&self, flags: &[&str], words: &[&str]) -> Proc {
        let program = self.install.program("ranks").display().to_string();
        let words = [&[program.as_str()], words].concat();
        self.launch_words(flags, &words)
    }

    fn launch_words(&self, flags: &[&str], words: &[&str]) -> Proc {
        let command = Cmd::new(muster().display().to_string())
            .args(["launch", "--report", REPORT, "--termination-log", "/tmp/message"])
            .args(flags.iter().copied())
            .arg("--")
            .args(words.iter().copied());
        self.cluster.launcher.spawn(command).unwrap()
    }

    /// Waits for the end and holds it to what is expected.
    fn ends(&self, story: &str, launch: &Proc, expected: &Expected<'_>) -> Output {
        let output = launch.output(LONG).unwrap_or_else(|error| panic!("{story}: {error}"));
        let report = self.cluster.launcher.run(Cmd::sh(format!("cat {REPORT}")), LONG).unwrap();
        let verdict: Value = serde_json::from_str(&report.stdout)
            .unwrap_or_else(|error| panic!("{story}: {error}: {output:?}"));
        agrees_with(VERDICT, story, &verdict);
        let seen = (
            verdict["class"].as_str().unwrap(),
            output.code(),
            verdict["culprit"]["rank"].as_u64(),
            verdict["culprit"]["host"].as_str(),
        );
        let wanted = (expected.class, expected.code, expected.rank, expected.host);
        assert_eq!(seen, wanted, "{story}: {verdict:#}\n{}", output.stderr);
        assert_eq!(verdict["code"].as_i64(), Some(i64::from(expected.code)), "{story}");
        let explanation = verdict["explanation"].as_str().unwrap();
        for words in expected.words {
            assert!(explanation.contains(words), "{story}: no {words:?} in {explanation:?}");
        }
        self.says_as_before(story, explanation);
        let head = format!("verdict  {}, exit code {}", expected.class, expected.code);
        assert!(output.stderr.contains(&head), "{story}: {}", output.stderr);
        let message = self.cluster.launcher.run(Cmd::sh("cat /tmp/message"), LONG).unwrap();
        assert!(message.stdout.starts_with(&head), "{story}: {message:?}");
        for host in self.cluster.workers.iter().filter(|host| host.is_up()) {
            let gone = host.wait_for_processes("nothing of the job", SOON, nothing_of_a_job);
            gone.unwrap_or_else(|error| panic!("{story}: {error}"));
        }
        output
    }

    /// Compares the explanation, figures apart, with those that were read and found good; a story may have
    /// several, because ranks end at almost the same time. MUSTER_SNAPSHOTS=write adds a new one.
    fn says_as_before(&self, story: &str, explanation: &str) {
        let path = format!("{FIXTURES}/{}.txt", self.install.name());
        let figures = |c: char| c.is_ascii_digit();
        let plain: Vec<&str> = explanation.split(figures).filter(|part| !part.is_empty()).collect();
        let line = format!("{story}: {}", plain.join("#"));
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        if known.lines().any(|known| known == line) {
            return;
        }
        let write = std::env::var_os("MUSTER_SNAPSHOTS").is_some_and(|value| value == "write");
        assert!(write, "new words, add them with MUSTER_SNAPSHOTS=write if they are good: {line}");
        std::fs::write(path, format!("{known}{line}\n")).unwrap();
    }

    fn fails(&self, words: &[&str], expected: &Expected<'_>) {
        let launch = self.launch(&[], words);
        self.ends(&words.join(" "), &launch, expected);
    }
}

const VERDICT: &str = include_str!("../agent/docs/verdict.schema.json");
const EVENT: &str = include_str!("../agent/docs/events.schema.json");

/// What machines read is what its schema says.
fn agrees_with(schema: &str, story: &str, report: &Value) {
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let wrong: Vec<String> = schema
        .iter_errors(report)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{story}: {wrong:?} in {report:#}");
}

fn rank<'e>(class: &'e str, code: i32, rank: u64, words: &'e [&'e str]) -> Expected<'e> {
    let host = ["pi-worker-0", "pi-worker-1", "pi-worker-2"][usize::try_from(rank / 2).unwrap()];
    Expected { class, code, rank: Some(rank), host: Some(host), words }
}

/// The program of rank 5, not its wrapper.
const KILL_RANK_5: &str = "for process in /proc/[0-9]*; do
    [ \"$(cat $process/comm 2>/dev/null)\" = ranks ] || continue
    tr '\\0' '\\n' <$process/environ | grep -qxE '(OMPI_COMM_WORLD_RANK|PMI_RANK)=5' || continue
    kill -9 ${process#/proc/} && exit 0
done; exit 1";

/// Ranks that fail by themselves, one job after the other on the same workers.
fn ranks_fail(install: Install) {
    let scene = Scene::new(install);
    let first = &["was the first to fail: exit code 3"][..];
    scene.fails(&["exit", "3", "3", "before-init"], &rank("app-error", 3, 3, first));
    scene.fails(&["exit", "3", "4"], &rank("app-error", 3, 4, first));
    scene.fails(&["abort", "7", "5"], &rank("app-abort", 7, 5, &["MPI_Abort"]));
    scene.fails(&["segv", "2"], &rank("app-crash", 82, 2, &["SIGSEGV"]));
    let oom =
        ["killed by the kernel's OOM killer", "The memory limit was 600 MiB, the most in use "];
    scene.fails(&["alloc", "2000", "3"], &rank("host-oom", 83, 3, &oom));
    let full = ["/dev/shm"];
    scene.fails(&["fill", "/dev/shm/fill", "2"], &rank("local-resource", 91, 2, &full));
    scene.cluster.workers[1].run(Cmd::sh("rm -f /dev/shm/fill"), LONG).unwrap();

    // By hand: the program, whose wrapper tells.
    let launch = scene.launch(&[], &["sleep", "600"]);
    launch.wait_for_line("hello rank 5 of 6", LONG).unwrap();
    let killed = scene.cluster.workers[2].run(Cmd::sh(KILL_RANK_5), LONG).unwrap();
    assert!(killed.success(), "{killed:?}");
    let words = &["was the first to fail: killed by SIGKILL"];
    scene.ends("kill -9 of a rank", &launch, &rank("app-error", 80, 5, words));

    // 200 ms apart on different hosts, the later one reported by a shorter way or not.
    let gone = scene.cluster.lab.shared_dir().join("gone").display().to_string();
    let script = format!(
        "r=${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}}; case $r in \
         1) sleep 1; touch {gone}; exit 4;; \
         4) until [ -e {gone} ]; do sleep 0.05; done; sleep 0.2; exit 5;; \
         *) sleep 600;; esac"
    );
    let launch = scene.launch_words(&[], &["sh", "-c", &script]);
    let words = &["exit code 4"][..];
    scene.ends("two fail", &launch, &rank("app-error", 4, 1, words));

    // Nothing moves: one sleeps, the others wait for it.
    let launch = scene.launch(&["--stall-timeout", "3s"], &["hang", "4"]);
    scene.ends("a hang", &launch, &rank("stalled", 177, 4, &["Rank 4"]));
}

/// What befalls hosts and the launcher.
fn hosts_fail(install: Install) {
    let scene = Scene::new(install);
    let on = |class, code, host, words| Expected { class, code, rank: None, host, words };

    // Told to stop, with an application that needs 3 s to save its state.
    let launch = scene.launch(&[], &["checkpoint", "3"]);
    for rank in 0..6 {
        launch.wait_for_line(&format!("waits rank {rank} of 6"), LONG).unwrap();
    }
    launch.signal(Signal::SIGTERM);
    let told = on("terminated", 143, None, &["told to stop (SIGTERM)"]);
    let output = scene.ends("SIGTERM to the launcher", &launch, &told);
    for rank in 0..6 {
        assert!(output.stdout.contains(&format!("saved rank {rank} of 6")), "{output:?}");
    }

    let launch = scene.launch(&[], &["sleep", "600"]);
    launch.wait_for_line("hello rank 5 of 6", LONG).unwrap();
    scene.cluster.workers[1].kill().unwrap();
    let host = Some("pi-worker-1");
    let lost = on("worker-lost", 172, host, &["The worker on pi-worker-1 was lost"]);
    scene.ends("kill -9 of a worker", &launch, &lost);
}

fn a_worker_is_told_to_stop(install: Install) {
    // As the pods of a Job are called, other than their hosts.
    let job = MpiJob::new("pi", install, 3).unwrap().slots(2);
    let cluster = Cluster::start_with(&job, |spec| match spec.short_name() {
        "pi-worker-2" => spec.env("POD_NAME", "pi-worker-2-x7k2p"),
        _ => spec,
    });
    let scene = Scene { install, cluster };
    let launch = scene.launch(&[], &["sleep", "600"]);
    launch.wait_for_line("hello rank 5 of 6", LONG).unwrap();
    scene.cluster.servers[2].signal(Signal::SIGTERM);
    let words = &["told the worker on pi-worker-2 to stop"];
    let host = Some("pi-worker-2");
    let expected = Expected { class: "evicted", code: 173, rank: None, host, words };
    let output = scene.ends("SIGTERM to a worker", &launch, &expected);
    assert!(output.stderr.contains("host pi-worker-2, pod pi-worker-2-x7k2p"), "{}", output.stderr);
}

/// Cut off without a packet: only the missing heartbeats tell.
fn a_worker_falls_silent(install: Install) {
    let scene = Scene::new(install);
    let flags = ["--heartbeat", "1s", "--heartbeat-misses", "3"];
    let launch = scene.launch(&flags, &["sleep", "600"]);
    launch.wait_for_line("hello rank 5 of 6", LONG).unwrap();
    scene.cluster.workers[1].cut().unwrap();
    let status = launch.wait(Duration::from_secs(15)).unwrap();
    assert_eq!(lab::code(status), 172, "{}", launch.tail());
    let Output { stderr, .. } = launch.output(LONG).unwrap();
    assert!(stderr.contains("verdict  worker-lost, exit code 172; a retry can help"), "{stderr}");
    assert!(
        stderr.contains("lost pi-worker-1.pi.default.svc: no sign of life for 3.0 s"),
        "{stderr}"
    );
}

/// What cannot start.
fn starts_fail(install: Install) {
    let job = MpiJob::new("pi", install, 3).unwrap().slots(2);
    let daemons: &[&str] = match install {
        Install::OpenMpi4 => &["orted"],
        Install::OpenMpi5 => &["prted"],
        Install::Mpich4 | Install::Mpich5 => &["hydra_pmi_proxy"],
        Install::IntelMpi => &["hydra_bstrap_proxy", "hydra_pmi_proxy"],
    };
    let app = FileSpec::new("/opt/app", "#!/bin/sh\necho up\nsleep 600\n").mode(0o755);
    let cluster = Cluster::start_with(&job, |spec| match spec.short_name() {
        "pi-worker-1" => spec,
        "pi-worker-2" => {
            let spec = spec.file(app.clone());
            daemons.iter().fold(spec, |spec, name| spec.without(install.bin().join(name)))
        }
        _ => spec.file(app.clone()),
    });
    let scene = Scene { install, cluster };
    let pi = "/opt/app";
    let with = |worker| format!("pi-worker-0.pi.default.svc:2,pi-worker-{worker}.pi.default.svc:1");
    let on = |host, rank| {
        let (class, code, host, words) = ("command-not-found", 86, Some(host), &[]);
        Expected { class, code, rank, host, words }
    };
    let launch = scene.launch_words(&["--hosts", &with(2)], &[pi]);
    scene.ends("a daemon is missing", &launch, &on("pi-worker-2", None));

    let launch = scene.launch_words(&["--hosts", &with(1)], &[pi]);
    scene.ends("the program is missing", &launch, &on("pi-worker-1", Some(2)));

    let many = ["--hosts", "pi-worker-0.pi.default.svc:2", "-n", "9"];
    let launch = scene.launch_words(&many, &[pi]);
    let output = launch.output(LONG).unwrap();
    assert_eq!(output.code(), 85, "too many ranks: {output:?}");
}

/// What machines read: a job's states in their order with the time that each took, and the class's own
/// code where that is wanted.
#[test]
fn events_and_codes() {
    let scene = Scene::new(Install::OpenMpi4);
    let flags = ["--events", "/tmp/events", "--exit-code", "class"];
    let launch = scene.launch_words(&flags, &["sh", "-c", "sleep 1; exit 3"]);
    let output = launch.output(LONG).unwrap();
    assert_eq!(output.code(), 80, "app-error's own, not the application's 3: {output:?}");
    let events = scene.cluster.launcher.run(Cmd::sh("cat /tmp/events"), LONG).unwrap().stdout;
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    events.iter().for_each(|event| agrees_with(EVENT, "a failing job", event));
    let states: Vec<&str> = events.iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["queued", "waiting", "launching", "running", "failing", "ended"]);
    let elapsed: Vec<f64> =
        events.iter().map(|event| event["elapsed_ms"].as_f64().unwrap()).collect();
    assert!(elapsed.is_sorted(), "{elapsed:?}");
    let last = events.last().unwrap();
    assert_eq!((&last["class"], &last["code"]), (&"app-error".into(), &80.into()), "{last}");
    let phases: Vec<f64> = ["ready", "spawn", "first_rank", "all_ranks", "end"]
        .iter()
        .map(|phase| last["phases"][format!("{phase}_ms")].as_f64().unwrap())
        .collect();
    assert!(phases.is_sorted() && phases[0] > 0.0, "{last}");
    for step in ["dns", "connect", "authenticate", "hello"] {
        assert!(last["phases"][format!("{step}_ms")].as_f64().unwrap() >= 0.0, "{step}: {last}");
    }
}

macro_rules! stories {
    ($($module:ident: $install:expr),* $(,)?) => {$(
        mod $module {
            use super::*;

            #[test]
            fn ranks() {
                ranks_fail($install);
            }
            #[test]
            fn hosts() {
                hosts_fail($install);
            }
            #[test]
            fn worker_evicted() {
                a_worker_is_told_to_stop($install);
            }
            #[test]
            fn worker_silent() {
                a_worker_falls_silent($install);
            }
            #[test]
            fn starts() {
                starts_fail($install);
            }
        }
    )*};
}

stories! {
    open_mpi_4: Install::OpenMpi4,
    open_mpi_5: Install::OpenMpi5,
    mpich: Install::Mpich5,
    intel: Install::IntelMpi,
}
