//! `bench`: one subcommand a claim; each prints the Markdown table that benches/README.md holds.
//!
//! Must not compare with numbers of another day or machine: what is compared runs in turns, in one
//! run, and the table gives ratios.

use std::error::Error;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod failure;
mod generate;
mod measure;
mod rank_output;

/// Measures what muster claims.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The wrapper of one rank against cat and a Python tagger, and what it costs to start
    RankOutput(rank_output::Args),
    /// From a failure to the launcher's exit, and what is left then; mpirun alone beside it
    Failure(failure::Args),
    /// Write lines to stdout, as a rank would; what the others are fed with
    Generate(generate::Args),
}

/// Where the measured binary is.
#[derive(Debug, clap::Args)]
struct Binary {
    /// The muster binary; a release build
    #[arg(
        long,
        env = "MUSTER_BIN",
        value_name = "PATH",
        default_value = "target/x86_64-unknown-linux-musl/release/muster"
    )]
    muster: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::RankOutput(args) => rank_output::run(&args),
        Command::Failure(args) => failure::run(&args),
        Command::Generate(args) => Ok(generate::run(&args)?),
    }
}
