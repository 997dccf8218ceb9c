//! A plan for people (`--dry-run`) and for programs (`--dry-run --json`).
//!
//! Must not decide anything, and must not print: the caller has stdout.

use std::ffi::OsStr;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Plan, Setting, slots};
use crate::text::listed;

/// Widest variable before its reason moves to a line of its own.
const WIDEST: usize = 64;

/// Hosts of a hostfile or placement that are printed before the rest is counted.
const LISTED: usize = 16;

/// The plan as text, a block each for the command, the files and the variables.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    let words: Vec<String> = plan.argv.iter().map(|word| quoted(word)).collect();
    line(&mut out, &format!("command   {}", words.join(" ")));
    line(&mut out, &format!("ranks     {}", ranks(plan)));
    if !plan.hosts.is_empty() {
        line(&mut out, &format!("hosts     {}", slots::words(&plan.hosts)));
    }
    if let Some(fabric) = &plan.fabric {
        line(&mut out, &format!("fabric    {fabric}"));
    }
    for (path, content) in &plan.files {
        line(&mut out, &format!("file      {}", path.display()));
        let rows: Vec<&str> = content.lines().collect();
        for row in rows.iter().take(LISTED) {
            line(&mut out, &format!("            {row}"));
        }
        if rows.len() > LISTED {
            line(&mut out, &format!("            and {} more", rows.len() - LISTED));
        }
    }
    for (link, target) in &plan.links {
        line(&mut out, &format!("link      {} -> {}", link.display(), target.display()));
    }
    for (title, kept) in [("set", false), ("kept", true)] {
        let some: Vec<&Setting> = plan.env.iter().filter(|s| s.kept == kept).collect();
        if !some.is_empty() {
            line(&mut out, title);
            variables(&mut out, &some);
        }
    }
    for note in &plan.notes {
        line(&mut out, &format!("note      {note}"));
    }
    out
}

fn ranks(plan: &Plan) -> String {
    match (plan.ranks, &plan.placement) {
        (None, _) => "as the mpirun line says".to_owned(),
        (Some(ranks), None) => ranks.to_string(),
        (Some(ranks), Some(placement)) => {
            let hosts: Vec<String> =
                placement.iter().map(|(host, n)| format!("{n} on {host}")).collect();
            format!("{ranks}: {}", listed(&hosts, LISTED))
        }
    }
}

fn variables(out: &mut String, settings: &[&Setting]) {
    let shown: Vec<String> = settings
        .iter()
        .map(|setting| format!("{}={}", setting.name, quoted(OsStr::new(&setting.value))))
        .collect();
    let width = shown.iter().map(|s| s.chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0);
    for (variable, setting) in shown.iter().zip(settings) {
        if variable.chars().count() <= width {
            line(out, &format!("  {variable:width$}  # {}", setting.reason));
        } else {
            line(out, &format!("  {variable}"));
            line(out, &format!("  {:width$}  # {}", "", setting.reason));
        }
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A word as a shell would have to read it; bytes that are not UTF-8 are shown as U+FFFD.
#[must_use]
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The plan as JSON; paths and words that are not UTF-8 are shown with U+FFFD.
#[must_use]
pub fn json(plan: &Plan) -> Value {
    let argv: Vec<_> = plan.argv.iter().map(|word| word.to_string_lossy()).collect();
    let files: Vec<Value> = plan
        .files
        .iter()
        .map(|(path, content)| json!({ "path": path.to_string_lossy(), "content": content }))
        .collect();
    let links: Vec<Value> = plan
        .links
        .iter()
        .map(|(link, target)| {
            json!({ "path": link.to_string_lossy(), "target": target.to_string_lossy() })
        })
        .collect();
    let slots = plan
        .hosts
        .iter()
        .map(|host| json!({ "host": host.name, "slots": host.slots, "because": host.slots_from }));
    json!({
        "argv": argv,
        "ranks": plan.ranks,
        "slots": slots.collect::<Vec<Value>>(),
        "placement": plan.placement,
        "fabric": plan.fabric,
        "files": files,
        "links": links,
        "env": plan.env,
        "notes": plan.notes,
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Plan, Setting, json, quoted, text};
    use crate::plan::PlanHost;

    fn host((name, why): (&str, &str)) -> PlanHost {
        PlanHost { name: name.into(), slots: 2, slots_from: why.into(), cpus: None }
    }

    fn plan() -> Plan {
        let setting = |name: &str, value: &str, kept| Setting {
            name: name.into(),
            value: value.into(),
            kept,
            reason: "a reason".into(),
        };
        Plan {
            argv: ["/usr/bin/mpirun", "-n", "3", "./train", "a b", "it's", ""]
                .map(Into::into)
                .to_vec(),
            env: vec![
                setting("A", "1", false),
                setting("LONGER", "two words", false),
                setting("KEPT", "x", true),
                setting("LONGEST", &"x".repeat(70), false),
            ],
            daemon_env: Vec::new(),
            fabric: Some("TCP over eth0".into()),
            files: vec![("/run/m/hostfile".into(), "w0 slots=2\nw1 slots=2\n".into())],
            links: vec![("/run/m/rsh".into(), "/usr/bin/muster".into())],
            ranks: Some(3),
            hosts: [("w0", "2 GPUs"), ("w1", "hostfile")].map(host).into(),
            placement: Some([("w0".into(), 2), ("w1".into(), 1)].into_iter().collect()),
            agent_is_ours: true,
            notes: vec!["mind the gap".into()],
        }
    }

    #[test]
    fn text_is_aligned() {
        let xs = "x".repeat(70);
        assert_eq!(
            text(&plan()),
            format!(
                "\
command   /usr/bin/mpirun -n 3 ./train 'a b' 'it'\\''s' ''
ranks     3: 2 on w0, 1 on w1
hosts     4 slots: 2 on w0 (2 GPUs), 2 on w1 (hostfile)
fabric    TCP over eth0
file      /run/m/hostfile
            w0 slots=2
            w1 slots=2
link      /run/m/rsh -> /usr/bin/muster
set
  A=1                 # a reason
  LONGER='two words'  # a reason
  LONGEST={xs}
                      # a reason
kept
  KEPT=x  # a reason
note      mind the gap
"
            )
        );
    }

    #[test]
    fn long_lists_are_counted() {
        let mut plan = plan();
        plan.files[0].1 = "w slots=1\n".repeat(300);
        plan.placement = Some((0..300).map(|i| (format!("w{i:03}").into(), 1)).collect());
        let text = text(&plan);
        assert!(text.contains("1 on w015 and 284 more\n"), "{text}");
        assert!(text.contains("\n            and 284 more\n"), "{text}");
        assert!(text.lines().count() < 40);
    }

    #[test]
    fn json_has_the_same_facts() {
        let json = json(&plan());
        assert_eq!(json["argv"][4], "a b");
        assert_eq!(json["placement"]["w1"], 1);
        assert_eq!(json["slots"][0]["because"], "2 GPUs");
        assert_eq!(json["files"][0]["path"], "/run/m/hostfile");
        assert_eq!(json["links"][0]["target"], "/usr/bin/muster");
        assert_eq!(json["env"][2]["kept"], true);
        assert_eq!(json["env"][0]["reason"], "a reason");
        assert_eq!(json["notes"][0], "mind the gap");
    }

    #[test]
    fn words_survive_a_shell() {
        for (word, shell) in [
            ("", "''"),
            ("./a.out", "./a.out"),
            ("a b", "'a b'"),
            ("$HOME", "'$HOME'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), shell);
        }
    }
}
