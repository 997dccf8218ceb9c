//! The program's own code in memory.

use std::fs;

use muster::process::resident::drop_startup_pages;

use crate::harness::Case;

pub(crate) const CASES: &[Case] = &[("resident_code_of_the_start_is_dropped", dropped)];

fn dropped() {
    let before = resident();
    drop_startup_pages();
    // What is run now comes back at once, with its neighbours.
    let after = resident();
    assert!(after < before, "{after} kB of {before} kB");
}

/// How much of this program's code is in memory, kB.
fn resident() -> usize {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let program = fs::read_link("/proc/self/exe").unwrap().display().to_string();
    let code = |line: &&str| line.contains(" r-xp ") && line.ends_with(&program);
    let mut after = smaps.lines().skip_while(|line| !code(line));
    let rss = after.find_map(|line| line.strip_prefix("Rss:")).unwrap();
    rss.trim().trim_end_matches(" kB").parse().unwrap()
}
