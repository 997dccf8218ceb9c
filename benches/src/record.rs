//! A claim's table with where, when and how it was measured, printed and put into the README.
//!
//! Must not change anything of the README but what stands between the claim's markers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Common, Result};

/// Measures a claim and prints its table; records it where asked to.
pub(crate) fn claim(
    common: &Common,
    name: &str,
    measure: impl FnOnce() -> Result<String>,
) -> Result<()> {
    eprintln!("== {name}");
    let before = load();
    let table = measure().map_err(|error| format!("{name}: {error}"))?;
    let text = format!("{}\n\n{}\n", conditions(common, before)?, table.trim_end());
    println!("\n{text}");
    match &common.record {
        Some(readme) => put(readme, name, &text),
        None => Ok(()),
    }
}

/// Machine, date, command and what was measured, in a line.
fn conditions(common: &Common, before: f64) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let said = |program: &str, word: &str| -> Result<String> {
        let output = Command::new(program).arg(word).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.contains('/')).collect();
    Ok(format!(
        "{} x {}, Linux {}; {}; {}; `bench {}`; load {before:.1} before, {:.1} after",
        std::thread::available_parallelism()?,
        model.map_or("unknown CPU", |(_, model)| model.trim()),
        said("uname", "-r")?,
        said("date", "+%F")?,
        said(&common.muster()?, "--version")?,
        words.join(" ").replace(" --record", "").replace(" --muster", ""),
        load(),
    ))
}

/// How many wanted to run, over the last minute: more than the machine's CPUs before a claim means company.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn put(readme: &Path, name: &str, text: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let old = fs::read_to_string(readme)?;
    let parts = old.split_once(&begin).and_then(|(before, rest)| {
        rest.split_once(&end).map(|(_, after)| format!("{before}{begin}{text}{end}{after}"))
    });
    let new = parts.ok_or_else(|| format!("{} has no markers {name}", readme.display()))?;
    Ok(fs::write(readme, new)?)
}
