//! Runs a command, or one for each of many hosts at the same time, and says how long that took.
//!
//! It runs inside a host of the lab, so that the lab's own cost of starting a command there is not measured.
//! Must not cost anything itself: no shell, no thread.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;
use crate::measure::children_cpu;

/// Flags of `bench at-once`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Once for each of the first N hosts of /etc/mpi/hostfile, `{}` standing for its name
    #[arg(long, value_name = "N")]
    hosts: Option<usize>,
    /// So many times, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: usize,
    /// The command
    #[arg(last = true, required = true)]
    words: Vec<String>,
}

/// Before the number of seconds, as the last line of stderr.
pub(crate) const ELAPSED: &str = "elapsed ";

/// Before CPU seconds and KiB of memory, in the line above that.
const USED: &str = "used ";

/// Before the number of page faults, in the line above that.
pub(crate) const FAULTS: &str = "faults ";

/// What the commands took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Seconds from the first start to the last end.
    pub(crate) wall: f64,
    /// CPU seconds of all of them, with what they waited for.
    pub(crate) cpu: f64,
    /// Bytes that the largest process of them had resident at most.
    pub(crate) memory: f64,
}

/// Reads what [`run`] has said on stderr.
pub(crate) fn used(stderr: &str) -> Option<Used> {
    let last = |word| stderr.lines().rev().find_map(|line| line.strip_prefix(word));
    let (cpu, memory) = last(USED)?.split_once(' ')?;
    let memory = memory.parse::<f64>().ok()? * 1024.0;
    Some(Used { wall: last(ELAPSED)?.parse().ok()?, cpu: cpu.parse().ok()?, memory })
}

/// Runs them.
pub(crate) fn run(args: &Args) -> Result<()> {
    let names = match args.hosts {
        // Alone, the words stay as they are.
        None => vec!["{}".to_owned()],
        Some(count) => hosts()?.into_iter().take(count).collect(),
    };
    if args.hosts.is_some_and(|wanted| names.len() < wanted) {
        return Err("/etc/mpi/hostfile has fewer hosts".into());
    }
    let begun = Instant::now();
    let mut failed = 0;
    for _ in 0..args.times {
        let mut running = Vec::with_capacity(names.len());
        for name in &names {
            let mut words = args.words.iter().map(|word| word.replace("{}", name));
            let mut command = Command::new(words.next().unwrap_or_default());
            running.push(command.args(words).stdin(Stdio::null()).spawn()?);
        }
        for mut child in running {
            failed += usize::from(!child.wait()?.success());
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let memory = usage.max_rss();
    eprintln!("{FAULTS}{}", usage.minor_page_faults() + usage.major_page_faults());
    eprintln!("{USED}{} {memory}", children_cpu()?.as_secs_f64());
    eprintln!("{ELAPSED}{elapsed}");
    if failed > 0 {
        Err(format!("{failed} of {} failed", names.len() * args.times).into())
    } else {
        Ok(())
    }
}

fn hosts() -> Result<Vec<String>> {
    let text = fs::read_to_string("/etc/mpi/hostfile")?;
    let name = |line: &str| line.split([' ', ':']).next().unwrap_or_default().to_owned();
    Ok(text.lines().map(name).collect())
}
