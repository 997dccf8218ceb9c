//! Promise: `muster explain --log` gives recorded and real logs the verdict that a careful reader gives them.
//!
//! `verdicts/expected.tsv` is that reader's table for the runs of the lab, `verdicts/*.log` are the runs,
//! one file an MPI; where ../shared/failures is at hand, its files must be the same runs.
//! `verdicts/field/*.txt` are short logs after those seen in the field, each with its verdict in its head.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use muster::outcome::facts::Facts;
use muster::outcome::scan::log::{self, Log};
use muster::outcome::{ExitPolicy, Rules, Scanner, Verdict, classify};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verdicts").join(name)
}

fn explain(rules: &Arc<Rules>, text: &[u8], exit: Option<i32>) -> Verdict {
    let mut read = Log::new(Scanner::new(Arc::clone(rules)));
    read.feed(text);
    let read = read.finish();
    let mpirun = exit.map(log::status).or(read.exit);
    let facts = Facts { mpirun, findings: read.findings, ..Facts::default() };
    classify(&facts, rules, ExitPolicy::Application)
}

/// What a verdict is measured by.
fn found(verdict: &Verdict) -> (String, String, String) {
    let rank = verdict.culprit.rank.map_or("-".into(), |rank| rank.to_string());
    let host = verdict.culprit.host.clone().unwrap_or("-".into());
    (verdict.class.to_string(), rank, host)
}

fn fits(wanted: &str, found: &str) -> bool {
    wanted == "*" || wanted == found
}

/// Case, exit code and text of each recorded run in a file.
fn runs(file: &[u8]) -> Vec<(String, i32, Vec<u8>)> {
    let mut runs: Vec<(String, i32, Vec<u8>)> = Vec::new();
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        if let Some(head) = line.strip_prefix(b"=== ") {
            let head = String::from_utf8(head.to_vec()).unwrap();
            let (case, code) = head.trim().split_once(' ').unwrap();
            runs.push((case.into(), code.parse().unwrap(), Vec::new()));
        } else if let Some((_, _, text)) = runs.last_mut() {
            text.extend_from_slice(line);
        }
    }
    runs
}

#[test]
fn recorded_runs() {
    let rules = Arc::new(Rules::built_in().unwrap());
    let table = fs::read_to_string(folder("expected.tsv")).unwrap();
    let mut by_family = HashMap::new();
    let (mut judged, mut wrong) = (0, Vec::new());
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let [family, case, alone, coded, rank, host, _] =
            row.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let all = by_family
            .entry(family)
            .or_insert_with(|| runs(&fs::read(folder(&format!("{family}.log"))).unwrap()));
        let (_, code, text) = all.iter().find(|run| run.0 == case).unwrap();
        for (exit, class) in [(None, alone), (Some(*code), coded)] {
            judged += 1;
            let got = found(&explain(&rules, text, exit));
            let named = class != alone || (fits(rank, &got.1) && fits(host, &got.2));
            if got.0 != class || !named {
                wrong.push(format!("{family} {case} {exit:?}: {class} {rank} {host}, not {got:?}"));
            }
        }
    }
    assert!(judged >= 580, "only {judged} verdicts were compared");
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}

#[test]
fn the_recorded_runs_are_those_of_the_lab() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/failures");
    let Ok(families) = fs::read_dir(&shared) else { return };
    for family in families.map(|family| family.unwrap().path()) {
        let name = family.file_name().unwrap().to_str().unwrap();
        let ours = runs(&fs::read(folder(&format!("{name}.log"))).unwrap());
        let theirs = fs::read_dir(&family).unwrap().count();
        assert_eq!(ours.len(), theirs, "{name}: pack the recorded runs again");
    }
}

#[test]
fn logs_from_the_field() {
    let rules = Arc::new(Rules::built_in().unwrap());
    let (mut count, mut quiet, mut wrong) = (0, 0, Vec::new());
    for file in fs::read_dir(folder("field")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let head = text.lines().next().unwrap();
        let head = head.strip_prefix("# class: ").unwrap_or_else(|| panic!("{}", path.display()));
        let (class, culprit) = head.split_once(" culprit: ").unwrap();
        let [rank, host] = culprit.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        let got = found(&explain(&rules, text.as_bytes(), None));
        let same = got.0 == class && fits(rank, &got.1) && fits(host, &got.2);
        if !same {
            wrong.push(format!("{}: {head}, not {got:?}", path.file_name().unwrap().display()));
        }
        count += 1;
        quiet += u32::from(class == "ok");
    }
    assert!(count >= 60 && quiet >= 15, "{count} logs, {quiet} of jobs that succeeded");
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}

/// Runs the binary with a log on its standard input.
fn muster(arguments: &[&str], log: &str) -> (ExitStatus, String) {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_muster"))
        .arg("explain")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A muster that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(log.as_bytes());
    let output = child.wait_with_output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8(both).unwrap())
}

#[test]
fn the_binary_explains_codes_classes_and_logs() {
    let (status, text) = muster(&["172"], "");
    assert!(status.success() && text.starts_with("172 (worker-lost): "), "{text}");
    assert_eq!(muster(&["worker-lost"], "").1, text);
    let (status, text) = muster(&["nonsense"], "");
    assert!(status.code() == Some(89) && text.contains("hint:"), "{text}");
    let (status, text) = muster(&["--log", "-"], "[rank3]: CUDA out of memory. Tried 2 GiB\n");
    assert!(status.success() && text.starts_with("verdict  gpu-oom, exit code 84;"), "{text}");
    let (status, text) = muster(&["--log", "/nonexistent"], "");
    assert!(status.code() == Some(89) && text.contains("/nonexistent"), "{text}");
    let (_, text) = muster(&["--log", "-", "--status", "-15"], "");
    assert!(text.starts_with("verdict  terminated, exit code 143;"), "{text}");
    for (whose, code) in [("application", "3"), ("class", "80")] {
        let (_, text) = muster(&["--log", "-", "--status", "3", "--exit-code", whose], "");
        assert!(text.starts_with(&format!("verdict  app-error, exit code {code};")), "{text}");
    }
}

#[test]
fn a_users_rules_are_used_and_their_faults_are_told_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.toml");
    let rule = "[[rule]]\nname = 'diverged'\nclass = 'app-error'\nstrength = 'cause'\n\
        match = ['rank (?<rank>\\d+): residual is NaN']\nsays = 'The solver diverged.'\n";
    fs::write(&path, rule).unwrap();
    let rules = path.to_str().unwrap();
    let (_, text) = muster(&["--log", "-", "--rules", rules], "rank 7: residual is NaN\n");
    assert!(text.contains("The solver diverged. The log names rank 7."), "{text}");
    fs::write(&path, rule.replace("'cause'", "'sure'")).unwrap();
    let (status, text) = muster(&["--log", "-", "--rules", rules], "");
    assert_eq!(status.code(), Some(89));
    assert!(text.contains("ours.toml:4: there is no strength 'sure'"), "{text}");
}

#[test]
fn the_report_follows_its_schema() {
    let schema = include_str!("../docs/verdict.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    for log in ["[rank3]: CUDA out of memory. Tried 2 GiB\n", "", "# exit code: 3\n"] {
        let (_, text) = muster(&["--log", "-", "--format", "json"], log);
        let report = serde_json::from_str(&text).unwrap();
        schema::check(&schema, &schema, &report, "$");
    }
}

mod schema {
    //! As much of JSON Schema (2020-12) as our schema uses; a keyword beyond that is a failure.

    use serde_json::Value;

    pub(super) fn check(root: &Value, schema: &Value, value: &Value, at: &str) {
        for (keyword, rule) in schema.as_object().unwrap() {
            match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" => {}
                "$ref" => {
                    let path = rule.as_str().unwrap().trim_start_matches('#');
                    check(root, root.pointer(path).unwrap(), value, at);
                }
                "const" => assert_eq!(value, rule, "{at}"),
                "enum" => assert!(rule.as_array().unwrap().contains(value), "{at}: {value}"),
                "minimum" => assert!(value.as_i64() >= rule.as_i64(), "{at}: {value}"),
                "maximum" => assert!(value.as_i64() <= rule.as_i64(), "{at}: {value}"),
                "type" => {
                    let one = std::slice::from_ref(rule);
                    let types = rule.as_array().map_or(one, Vec::as_slice);
                    assert!(
                        types.iter().any(|name| is(name.as_str().unwrap(), value)),
                        "{at}: {value}"
                    );
                }
                "required" => {
                    for name in rule.as_array().unwrap() {
                        assert!(value.get(name.as_str().unwrap()).is_some(), "{at}: no {name}");
                    }
                }
                "additionalProperties" => {
                    assert_eq!(rule, &Value::Bool(false));
                    for name in value.as_object().unwrap().keys() {
                        assert!(schema["properties"].get(name).is_some(), "{at}: {name}");
                    }
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(value) = value.get(name) {
                            check(root, rule, value, &format!("{at}.{name}"));
                        }
                    }
                }
                "items" => {
                    for value in value.as_array().unwrap() {
                        check(root, rule, value, &format!("{at}[]"));
                    }
                }
                unknown => panic!("{at}: the test does not know '{unknown}'"),
            }
        }
    }

    fn is(name: &str, value: &Value) -> bool {
        match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "null" => value.is_null(),
            unknown => panic!("the test does not know the type '{unknown}'"),
        }
    }
}
