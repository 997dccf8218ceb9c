//! Where CPU time goes: by process and by function, beside the floor or a rival, and what a start costs.
//!
//! Must not judge: these tables say what limits, the claims' own say how much.

use std::fmt::Write as _;

use lab::Install;

use crate::launch::{self, Way};
use crate::measure::median;
use crate::{Common, Result, connect, record, whole_way};

mod family;
mod memory;
mod perf;
mod samples;
mod start;

use samples::{Samples, record as sample};

/// Flags of `bench profile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Whose
    #[arg(value_enum)]
    what: What,
    /// Hosts of launch and connect, workers of memory [default: 32, 64 and 250]
    #[arg(long)]
    hosts: Option<usize>,
    /// Only these MPIs of launch, by the names of their installs
    #[arg(long, value_delimiter = ',')]
    mpi: Vec<String>,
}

/// What can be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// CPU time by process of a launch beside the floor's
    Launch,
    /// By process and by function, of `muster rsh` to many hosts at once beside OpenSSH
    Connect,
    /// By process and by function, of lines on their whole way beside MPICH's own tags
    WholeWay,
    /// Memory that a launcher has allocated for each worker, by size and by who allocates it
    Memory,
    /// Page faults, system calls and instructions of programs that end at once
    Start,
}

/// Rows of a table; what is left is added up.
const ROWS: usize = 14;

/// Characters of a function's name.
const WIDTH: usize = 80;

/// A table's two sides, in the order of their columns.
type Sides = [(&'static str, Samples); 2];

/// Profiles, and puts the table between the markers `profile-WHAT`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (name, table): (_, fn(&Args) -> Result<String>) = match args.what {
        What::Launch => ("profile-launch", launches),
        What::Connect => ("profile-connect", connects),
        What::WholeWay => ("profile-whole-way", lines),
        What::Memory => ("profile-memory", memory::measure),
        What::Start => ("profile-start", start::measure),
    };
    record::claim(&args.common, name, || table(args))
}

impl Args {
    fn hosts(&self, usual: usize) -> usize {
        self.hosts.unwrap_or(if self.common.quick { 2 } else { usual })
    }

    /// Samples of so many turns; the first of them, which fills caches, is not looked at.
    fn samples(&self, mut turn: impl FnMut() -> Result<()>) -> Result<Samples> {
        turn()?;
        let turns = self.common.rounds(5).count;
        sample(turns, || (0..turns).try_for_each(|_| turn()))
    }
}

fn launches(args: &Args) -> Result<String> {
    let hosts = args.hosts(32);
    let mut text = String::new();
    for install in launch::wanted(&args.mpi) {
        let site = launch::up(&args.common, install, hosts)?;
        let look = |way: Way| args.samples(|| way.turn(&site, hosts).map(drop));
        let sides = [("the floor", look(Way::Floor)?), ("`muster launch`", look(Way::Launch)?)];
        writeln!(text, "{}, {hosts} hosts, CPU ms a launch:\n", install.name())?;
        processes(&mut text, &sides)?;
    }
    Ok(text)
}

fn connects(args: &Args) -> Result<String> {
    let hosts = args.hosts(64);
    let site = connect::up(&args.common, hosts)?;
    let all = connect::contenders();
    let look = |name: &'static str| -> Result<_> {
        let one = all.iter().find(|one| one.name == name).ok_or("no such contender")?;
        Ok((name, args.samples(|| one.turn(&site, hosts).map(drop))?))
    };
    let sides = [look("OpenSSH, fastest")?, look(connect::MUSTER)?];
    let mut text = format!("{hosts} hosts, CPU ms for all of them:\n\n");
    processes(&mut text, &sides)?;
    functions(&mut text, &sides[1])?;
    Ok(text)
}

fn lines(args: &Args) -> Result<String> {
    let lines = if args.common.quick { 80_000 } else { 5_000_000 };
    let site = whole_way::up(&args.common, Install::Mpich5)?;
    let ranks = whole_way::RANKS;
    let look = |name: &'static str, way: whole_way::Way| -> Result<_> {
        let one = whole_way::Contender { name, site: &site, way };
        Ok((name, args.samples(|| one.turn(ranks, lines / ranks).map(drop))?))
    };
    let sides = [
        look("MPICH 5 `-prepend-rank`", whole_way::PREPEND_RANK)?,
        look("`muster launch`", whole_way::Way::Muster)?,
    ];
    let mut text = format!("{ranks} ranks, {lines} lines of 64 bytes, CPU ms for all of them:\n\n");
    processes(&mut text, &sides)?;
    functions(&mut text, &sides[1])?;
    Ok(text)
}

/// CPU time by process, of both, in the order of the second.
fn processes(text: &mut String, [(one, first), (other, second)]: &Sides) -> Result<()> {
    writeln!(text, "| process | {one} | {other} | more |\n|---|---|---|---|")?;
    let (first, second) = (first.by_process(), second.by_process());
    let mut names: Vec<_> = second.iter().chain(&first).map(|(name, _)| name.as_str()).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let of = |all: &[(String, f64)], names: &[&str]| -> f64 {
        let own = all.iter().filter(|(name, _)| names.contains(&name.as_str()));
        own.fold(0.0, |sum, (_, ms)| sum + ms)
    };
    let mut row = |name: &str, names: &[&str]| {
        let (one, other) = (of(&first, names), of(&second, names));
        writeln!(text, "| {name} | {one:.1} | {other:.1} | {:+.1} |", other - one)
    };
    let shown = names.len().min(ROWS);
    for name in &names[..shown] {
        row(name, &[*name])?;
    }
    if shown < names.len() {
        row("all else", &names[shown..])?;
    }
    row("together", &names)?;
    writeln!(text)?;
    Ok(())
}

/// CPU time by function, the kernel's among them, of one.
fn functions(text: &mut String, (name, samples): &(&str, Samples)) -> Result<()> {
    writeln!(text, "| function, of {name} | process | CPU ms | % |\n|---|---|---|---|")?;
    let all = samples.by_function();
    let total = all.iter().fold(0.0, |sum, (_, ms)| sum + ms);
    for ((process, function), ms) in all.iter().take(2 * ROWS) {
        let percent = ms / total.max(f64::MIN_POSITIVE) * 100.0;
        let function: String = function.chars().take(WIDTH).collect();
        writeln!(text, "| `{function}` | {process} | {ms:.1} | {percent:.1} |")?;
    }
    writeln!(text)?;
    Ok(())
}

/// The median of numbers that a program gave in several runs.
fn typical(values: Vec<u64>) -> f64 {
    median(values.into_iter().map(|value| value as f64).collect())
}
