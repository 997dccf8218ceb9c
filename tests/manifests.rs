//! Promise: every manifest in `examples/` is what Kubernetes and the operators take, and muster takes every command
//! line in them.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster_tests::muster;
use serde_json::Value;

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/check.py");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// Runs the checker that tests/setup has installed the schemas for.
fn check<'f>(files: impl IntoIterator<Item = &'f Path>) -> Output {
    let python = lab::mpi::cache().join("manifests/bin/python");
    let output = Command::new("timeout").arg("120").arg(&python).arg(CHECK).args(files).output();
    output.unwrap_or_else(|error| panic!("{}: {error}\nhint: run tests/setup", python.display()))
}

fn manifests(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let inner = |path: PathBuf| if path.is_dir() { manifests(&path) } else { vec![path] };
    entries
        .flat_map(inner)
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect()
}

/// Whether the parser of `--help` takes the words: it reads from left to right, and stops at --help.
fn parses(words: &[&str]) -> Result<(), String> {
    let own = words.iter().take_while(|word| **word != "--");
    let output = Command::new(muster()).args(own).arg("--help").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && said.contains("Usage:") {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The muster lines of a shell script whose words need no unquoting.
fn of_script(script: &str) -> Vec<Vec<&str>> {
    let lines = script.lines().map(|line| line.trim().trim_start_matches("exec "));
    lines
        .filter_map(|line| line.strip_prefix("muster "))
        .map(|line| line.split(' ').collect())
        .collect()
}

#[test]
fn operators_take_the_manifests_and_muster_their_lines() {
    let files = manifests(Path::new(EXAMPLES));
    assert!(files.len() >= 20, "{files:?}");
    let output = check(files.iter().map(PathBuf::as_path));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut seen = BTreeSet::new();
    for line in stdout.lines() {
        let found: Value = serde_json::from_str(line).unwrap();
        let words: Vec<&str> =
            found["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let ours = match words[0] {
            // ssh's grammar takes --help for a word of the command; `containers` runs this very line too.
            "muster" if words[1] == "rsh" => {
                assert_eq!(words[2..], ["-o", "ConnectTimeout=3", "localhost", "true"], "{found}");
                continue;
            }
            "muster" => vec![words[1..].to_vec()],
            "sh" => of_script(words[2]),
            // What stands in manifests made for OpenSSH; `containers` runs this very line.
            "/usr/sbin/sshd" => {
                assert_eq!(words[1..], ["-De", "-f", "/home/mpiuser/.sshd_config"], "{found}");
                continue;
            }
            "mpirun" | "horovodrun" | "deepspeed" => continue,
            other => panic!("{other}: a program this test does not know: {found}"),
        };
        assert!(!ours.is_empty(), "no line of muster's: {found}");
        for words in ours {
            parses(&words).unwrap_or_else(|error| panic!("{found}: {error}"));
            seen.insert(words[0].to_owned());
        }
    }
    let all = ["launch", "wait", "worker"].map(String::from);
    assert_eq!(seen, BTreeSet::from(all));
}

/// The lists of exit codes that policies act on are those that a retry does not help.
#[test]
fn policies_know_the_exit_codes() {
    let table = Command::new(muster()).args(["explain", "--format", "markdown"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let cells = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let again = cells.filter(|cells| cells.get(3) == Some(&"yes")).map(|cells| cells[1]);
    // A launcher that was killed says nothing itself.
    let again: Vec<&str> = iter::once("137").chain(again).collect();
    assert!(again.len() > 8, "{table}");
    let list = format!("operator: NotIn\nvalues: [{}]\n", again.join(", "));
    for file in ["jobset/jobset.yaml", "indexed-job/job.yaml"] {
        let text = std::fs::read_to_string(Path::new(EXAMPLES).join(file)).unwrap();
        let text: String = text.lines().map(|line| format!("{}\n", line.trim())).collect();
        assert!(text.contains(&list), "{file} has no `{list}`");
    }
    let volcano = std::fs::read_to_string(Path::new(EXAMPLES).join("volcano/job.yaml")).unwrap();
    let listed: Vec<&str> =
        volcano.lines().filter_map(|line| line.trim().strip_prefix("- exitCode: ")).collect();
    assert_eq!(listed, again);
    assert_eq!(
        volcano.matches("action: RestartJob").count(),
        again.len() + 1,
        "and of evicted workers"
    );
}

/// The checker and the parser find what is wrong.
#[test]
fn a_fault_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let faults = [
        (
            "mpijob/openmpi.yaml",
            "slotsPerWorker: 2",
            "slotPerWorker: 2",
            "spec.slotPerWorker: no such field",
        ),
        ("mpijob/openmpi.yaml", "OpenMPI", "MVAPICH", "'MVAPICH' is none of"),
        ("mpijob/openmpi.yaml", "slotsPerWorker: 2", "slotsPerWorker: two", "of the wrong type"),
        ("mpijob/openmpi.yaml", "image: pi", "imagge: pi", "imagge"),
        ("mpijob/openmpi.yaml", "  name: pi", "  name: pi\n  name: pi", "twice"),
        ("jobset/jobset.yaml", "maxRestarts", "maxRestart", "maxRestart: no such field"),
        ("jobset/jobset.yaml", "subdomain: pi", "subdomain: 1", "valid string"),
        ("jobset/jobset.yaml", "action: FailJobSet", "action: Fail", "'Fail' is none of"),
        ("jobset/jobset.yaml", "replicatedJobs:\n", "replicated:\n", "replicatedJobs: missing"),
        ("mpijob/openmpi.yaml", "    Launcher:", "    Master:", "Launcher: missing"),
        ("mpijob/openmpi.yaml", "replicas: 1", "replicas: 2", "2 is none of 1"),
        ("mpijob/openmpi.yaml", "containers:", "container:", "containers"),
        ("trainer/runtime.yaml", "numProcPerNode", "procs", "procs: no such field"),
        ("trainer/runtime.yaml", "fsGroup: 1000", "fsGroup: 0", "no fsGroup"),
        ("trainer/runtime.yaml", "numNodes: 1", "numNodes: 2", "so many launchers"),
        ("trainer/runtime.yaml", "OpenMPI", "OpenMPI5", "'OpenMPI5' is none of"),
        ("trainer/trainjob.yaml", "runtimeRef", "runtime", "runtime"),
        ("volcano/job.yaml", "AbortJob", "Abort", "'Abort' is none of"),
        ("volcano/job.yaml", "minAvailable: 5", "minAvailable: 50", "more than all tasks have"),
        ("volcano/job.yaml", "    ssh:", "    sshd:", "sshd: no such field"),
        (
            "volcano/job.yaml",
            "- exitCode: 143",
            "- timeout: 143s",
            "for an event or for an exit code",
        ),
        ("indexed-job/job.yaml", "completionMode", "completion", "completion"),
        (
            "network-policy.yaml",
            "podSelector:\n    matchLabels",
            "podSelector:\n    match",
            "match",
        ),
    ];
    let name = |number: usize| dir.path().join(format!("{number}.yaml"));
    for (number, (file, good, bad, _)) in faults.iter().enumerate() {
        let text = std::fs::read_to_string(Path::new(EXAMPLES).join(file)).unwrap();
        assert!(text.contains(good), "{file} has no {good:?}");
        std::fs::write(name(number), text.replacen(good, bad, 1)).unwrap();
    }
    let names: Vec<_> = (0..faults.len()).map(name).collect();
    let output = check(names.iter().map(PathBuf::as_path));
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    for (name, (file, _, bad, says)) in names.iter().zip(faults) {
        let name = name.display().to_string();
        let found = stderr.lines().any(|line| line.starts_with(&name) && line.contains(says));
        assert!(found, "{file}, {bad}: no {says:?} of {name} in\n{stderr}");
    }
    assert!(parses(&["worker", "--ports", "1"]).is_err());
    assert!(parses(&["launch", "--slots", "none", "--", "x"]).is_err());
    assert!(parses(&["serve"]).is_err());
}
