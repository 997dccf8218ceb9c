//! Promise: a module imports only what stands above it in the flow.
//!
//! Reads the `crate::` paths of the sources, so that a shortcut shows at once and not in a year.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of the flow; each may use those before it, and itself.
///
/// `config` stands in two places: the environment is a value that every stage reads, the resolution of
/// flags comes after the stages whose settings it makes.
const FLOW: [&str; 22] = [
    "exit",
    "ids",
    "text",
    "config::env",
    "config::variables",
    "plan",
    "process",
    "devices",
    "fabric",
    "discovery",
    "output",
    "rank",
    "outcome",
    "relay",
    "ssh",
    "readiness",
    "cli",
    "config",
    "worker",
    "launch",
    "rsh",
    "image",
];

/// Above and below everything: the crate's own words, and the glue that may use all of it.
const TOP: &str = "VERSION";
const BOTTOM: &str = "command";

fn place(module: &str) -> usize {
    let found = FLOW.iter().position(|known| *known == module);
    found.unwrap_or_else(|| panic!("{module} has no place in the flow: give it one here"))
}

/// The module that a path such as `config::env::Environment` or a file such as `config/env.rs` is of.
fn module(first: &str, second: Option<&str>) -> String {
    match second {
        Some(second) if FLOW.contains(&format!("{first}::{second}").as_str()) => {
            format!("{first}::{second}")
        }
        _ => first.to_owned(),
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let below = dirs.iter().flat_map(|dir| sources(dir));
    files.into_iter().chain(below).collect()
}

/// The first two names of every `crate::a::b` in a text.
fn uses(text: &str) -> Vec<(String, Option<String>)> {
    let name = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    text.split("crate::")
        .skip(1)
        .map(|rest| {
            let first = name(rest);
            let second = rest[first.len()..].strip_prefix("::").map(name);
            (first, second)
        })
        .collect()
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let names: Vec<&str> = inside.iter().map(|name| name.to_str().unwrap()).collect();
        let own = module(names[0], names.get(1).copied());
        if ["lib", "main", BOTTOM].contains(&own.as_str()) {
            continue;
        }
        for (first, second) in uses(&fs::read_to_string(&path).unwrap()) {
            if first == TOP {
                continue;
            }
            let used = module(&first, second.as_deref());
            seen += 1;
            if place(&used) > place(&own) {
                wrong.push(format!("{}: {own} uses {used}", path.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} uses were read");
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}
