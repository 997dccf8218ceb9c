//! Page faults, system calls and instructions of programs that end at once.
//!
//! Counts, not times: they are the same on a busy machine. Must not count what a worker does for an `rsh`.

use std::fmt::Write as _;
use std::time::Duration;

use lab::Install;

use super::{Args, typical};
use crate::site::Site;
use crate::{Result, floor};

/// Under valgrind, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures and gives the table.
pub(super) fn measure(args: &Args) -> Result<String> {
    let site = Site::up(&args.common, Install::OpenMpi4, 1, 1, &[])?;
    site.start_floor()?;
    let host = site.workers[0].full_name();
    let muster = args.common.muster()?;
    let programs = [
        ("`muster --version`", format!("{muster} --version")),
        ("`muster rank -- true`", format!("{muster} rank -- true")),
        ("`muster rsh HOST true`", format!("{muster} rsh -n {host} true")),
        ("an agent that costs nothing", format!("/etc/bench/{} {host} true", floor::AGENT)),
        ("`ssh HOST true`", format!("/usr/bin/ssh -F /etc/bench/fast {host} true")),
        ("`true`", "/bin/true".to_owned()),
    ];
    let turns = args.common.rounds(5).count;
    let mut text = String::new();
    writeln!(text, "| program | page faults | system calls | million instructions |")?;
    writeln!(text, "|---|---|---|---|")?;
    for (name, line) in programs {
        let count = |tool: &str, of: fn(&str) -> Option<u64>| -> Result<String> {
            let values: Result<Vec<_>> =
                (0..turns).map(|_| counted(&site, &format!("{tool} {line}"), of)).collect();
            Ok(values?.into_iter().collect::<Option<Vec<_>>>().map_or_else(
                || "not counted".to_owned(),
                |values| format!("{:.0}", typical(values)),
            ))
        };
        let faults = count("$BENCH at-once --", |said| {
            said.lines().find_map(|line| line.strip_prefix(crate::at_once::FAULTS)?.parse().ok())
        })?;
        // The last but one number of the line of sums: calls, errors, "total".
        let calls = count("strace -f -c -o /dev/stderr", |said| {
            let total = said.lines().find(|line| line.ends_with(" total"))?;
            total.split_whitespace().nth(3)?.parse().ok()
        })?;
        let valgrind = "valgrind --tool=callgrind --callgrind-out-file=/dev/null";
        let instructions = count(valgrind, |said| {
            let all = said.lines().find_map(|line| line.split_once("Collected : "))?.1;
            all.trim().parse::<u64>().ok()
        })?;
        let millions = instructions.parse::<f64>().map(|count| format!("{:.2}", count / 1e6));
        let millions = millions.unwrap_or(instructions);
        writeln!(text, "| {name} | {faults} | {calls} | {millions} |")?;
    }
    Ok(text)
}

/// What a tool says of a command; none where it does not say it, or is not there.
fn counted(site: &Site, line: &str, of: fn(&str) -> Option<u64>) -> Result<Option<u64>> {
    let output = site.launcher.run(site.line(line), LIMIT)?;
    let found = of(&output.stderr).filter(|_| output.success());
    if found.is_none() {
        eprintln!("{line}: {}", output.stderr.trim_end());
    }
    Ok(found)
}
