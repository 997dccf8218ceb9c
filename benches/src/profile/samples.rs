//! Samples of the machine's CPUs by perf, of those processes only that descend from this one: the lab's.
//!
//! Hardware counters are not asked for, which virtual machines seldom have.

use std::collections::HashMap;

use super::perf;
use crate::Result;

/// Samples a second on each CPU.
const RATE: f64 = 2000.0;

/// Samples by process and function.
pub(crate) struct Samples {
    counts: HashMap<(String, String), u64>,
    turns: usize,
}

/// Looks while `run` takes so many turns.
pub(crate) fn record(turns: usize, run: impl FnOnce() -> Result<()>) -> Result<Samples> {
    let mut counts = HashMap::new();
    let rate = format!("{RATE}");
    let fields = "comm,pid,tid,time,event,ip,sym,dso";
    perf::watch(&["-e", "cpu-clock", "-F", &rate], fields, run, |family, line| {
        if let Some((pid, function)) = sampled(line)
            && let Some(name) = family.name(pid)
        {
            *counts.entry((name, function)).or_insert(0) += 1;
        }
    })?;
    Ok(Samples { counts, turns })
}

/// The process and the function of a line like `comm 12/13 1.5: cpu-clock:  ffff symbol (object)`.
fn sampled(line: &str) -> Option<(u32, String)> {
    let (who, what) = line.split_once(" cpu-clock:")?;
    let pid = who.split_whitespace().rev().nth(1)?.split_once('/')?.0.parse().ok()?;
    let (symbol, object) = what.trim().split_once(' ')?.1.rsplit_once(" (")?;
    let object = object.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
    let function = match (symbol.trim(), object) {
        ("[unknown]", object) => format!("unknown, of {object}"),
        (symbol, _) => symbol.to_owned(),
    };
    Some((pid, function))
}

impl Samples {
    /// CPU milliseconds a turn, the most first.
    pub(crate) fn by_process(&self) -> Vec<(String, f64)> {
        let mut sums = HashMap::new();
        for ((process, _), count) in &self.counts {
            *sums.entry(process.clone()).or_insert(0) += count;
        }
        self.sorted(sums)
    }

    /// The same of each function in each process.
    pub(crate) fn by_function(&self) -> Vec<((String, String), f64)> {
        self.sorted(self.counts.clone())
    }

    fn sorted<K: Ord>(&self, counts: HashMap<K, u64>) -> Vec<(K, f64)> {
        let ms = |count: u64| count as f64 / RATE * 1e3 / self.turns.max(1) as f64;
        let mut all: Vec<_> = counts.into_iter().map(|(key, count)| (key, ms(count))).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_process_and_function() {
        let line =
            " tokio-rt worker 12/13 62567.319271: cpu-clock:  ffff81 a::b<c d> ([kernel.kallsyms])";
        assert_eq!(sampled(line), Some((12, "a::b<c d>".to_owned())));
        let line = "  muster 7/7 1.2: cpu-clock:   7f31 [unknown] (/work/muster)";
        assert_eq!(sampled(line), Some((7, "unknown, of muster".to_owned())));
    }
}
