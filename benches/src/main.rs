//! `bench`: one subcommand a claim; each prints the Markdown table that benches/README.md holds.
//!
//! Must not compare with numbers of another day or machine: what is compared runs in turns, in one
//! run, and the table gives ratios.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arrival;
mod at_once;
mod connect;
mod failure;
mod floor;
mod generate;
mod idle;
mod launch;
mod measure;
mod plot;
mod profile;
mod rank_output;
mod record;
mod rendezvous;
mod rivals;
mod sample;
mod site;
mod size;
mod whole_way;

use measure::Rounds;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures what muster claims.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything below, and the table in benches/README.md made new
    All(Common),
    /// The wrapper of one rank against cat and a Python tagger, and what it costs to start
    RankOutput(rank_output::Args),
    /// A rank's lines on their whole way to the launcher's stdout, against what MPI itself does
    WholeWay(whole_way::Args),
    /// Connect to many hosts at once and run a command, against OpenSSH and dropbear
    Connect(connect::Args),
    /// mpirun over many hosts, against OpenSSH and against an agent that costs nothing
    Launch(launch::Args),
    /// A launcher and thousands of workers
    Rendezvous(rendezvous::Args),
    /// From the last worker's name in DNS to the first rank, against loops of nslookup and ssh
    Arrival(arrival::Args),
    /// What those cost who wait: worker, launcher, agents, and OpenSSH's
    Idle(idle::Args),
    /// How large the binary is, and how soon it starts
    Size(size::Args),
    /// From a failure to the launcher's exit, and what is left then; mpirun alone beside it
    Failure(failure::Args),
    /// Where CPU time goes; needs perf, strace and valgrind, and is no part of `all`
    Profile(profile::Args),
    /// Write lines to stdout, as a rank would; what the others are fed with
    Generate(generate::Args),
    /// Count the lines and bytes of stdin; what the others end in
    Count,
    /// Run a command, or one for each host at the same time, and say how long that took
    #[command(hide = true)]
    AtOnce(at_once::Args),
    /// The server of an agent that costs nothing
    #[command(hide = true)]
    FloorServe(floor::Args),
}

/// What all measurements are told.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// The muster binary; a release build
    #[arg(
        long,
        env = "MUSTER_BIN",
        value_name = "PATH",
        default_value = "target/x86_64-unknown-linux-musl/release/muster"
    )]
    muster: PathBuf,
    /// Turns of each contender that count; most have one more before [default: its claim's own]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Little of everything: proves that it works, and measures nothing
    #[arg(long)]
    quick: bool,
    /// Put the table into this file, in place of the one of the same claim
    #[arg(long, value_name = "README")]
    record: Option<PathBuf>,
}

impl Common {
    /// The binary's path, the same inside the lab's hosts.
    fn muster(&self) -> Result<String> {
        let path = self.muster.canonicalize();
        let path = path.map_err(|error| format!("{}: {error}", self.muster.display()))?;
        Ok(path.display().to_string())
    }

    /// A file beside the README that the table goes into; none where it is not recorded.
    fn beside(&self, name: &str) -> Option<PathBuf> {
        self.record.as_ref().map(|readme| readme.with_file_name(name))
    }

    fn rounds(&self, usual: usize) -> Rounds {
        let count = self.rounds.unwrap_or(if self.quick { 1 } else { usual });
        Rounds { count, warm_up: !self.quick }
    }
}

/// The path of this program, the same inside the lab's hosts.
fn own_path() -> String {
    std::env::current_exe().map_or_else(|_| "bench".to_owned(), |path| path.display().to_string())
}

fn main() -> Result<ExitCode> {
    let called = std::env::args_os().next().map(PathBuf::from);
    if called.is_some_and(|path| path.ends_with(floor::AGENT)) {
        return floor::agent();
    }
    run(Cli::parse().command).map(|()| ExitCode::SUCCESS)
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::All(common) => all(common),
        Command::RankOutput(args) => {
            record::claim(&args.common, "rank-output", || rank_output::measure(&args))
        }
        Command::WholeWay(args) => {
            record::claim(&args.common, "whole-way", || whole_way::measure(&args))
        }
        Command::Connect(args) => {
            record::claim(&args.common, "connect", || connect::measure(&args))
        }
        Command::Launch(args) => record::claim(&args.common, "launch", || launch::measure(&args)),
        Command::Rendezvous(args) => {
            record::claim(&args.common, "rendezvous", || rendezvous::measure(&args))
        }
        Command::Arrival(args) => {
            record::claim(&args.common, "arrival", || arrival::measure(&args))
        }
        Command::Idle(args) => record::claim(&args.common, "idle", || idle::measure(&args)),
        Command::Size(args) => record::claim(&args.common, "size", || size::measure(&args)),
        Command::Failure(args) => {
            record::claim(&args.common, "failure", || failure::measure(&args))
        }
        Command::Profile(args) => profile::run(&args),
        Command::Generate(args) => Ok(generate::run(&args)?),
        Command::Count => Ok(generate::count()?),
        Command::AtOnce(args) => at_once::run(&args),
        Command::FloorServe(args) => floor::serve(&args),
    }
}

fn all(mut common: Common) -> Result<()> {
    if !common.quick {
        common.record.get_or_insert_with(|| "benches/README.md".into());
    }
    let args = rank_output::Args { common: common.clone(), megabytes: None, starts: None };
    record::claim(&common, "rank-output", || rank_output::measure(&args))?;
    let args = whole_way::Args { common: common.clone(), lines: None, only: String::new() };
    record::claim(&common, "whole-way", || whole_way::measure(&args))?;
    let args = connect::Args { common: common.clone(), hosts: Vec::new() };
    record::claim(&common, "connect", || connect::measure(&args))?;
    let args = launch::Args {
        common: common.clone(),
        hosts: Vec::new(),
        mpi: Vec::new(),
        only: String::new(),
    };
    record::claim(&common, "launch", || launch::measure(&args))?;
    let args = rendezvous::Args { common: common.clone(), workers: Vec::new() };
    record::claim(&common, "rendezvous", || rendezvous::measure(&args))?;
    let args =
        arrival::Args { common: common.clone(), workers: Vec::new(), positive: arrival::POSITIVE };
    record::claim(&common, "arrival", || arrival::measure(&args))?;
    let args = idle::Args { common: common.clone(), seconds: None, hosts: None };
    record::claim(&common, "idle", || idle::measure(&args))?;
    let args = size::Args { common: common.clone() };
    record::claim(&common, "size", || size::measure(&args))?;
    let (mpi, story) = (Vec::new(), Vec::new());
    let args = failure::Args { common: common.clone(), mpi, story, log: false };
    record::claim(&common, "failure", || failure::measure(&args))
}
