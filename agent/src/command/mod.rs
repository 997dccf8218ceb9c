//! Glue: from a subcommand's arguments to an exit code, each in a file of its own.
//!
//! Must not hold logic; what is more than calling the stages in order belongs to a stage.

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::{Class, Failure};
use crate::text::{complain, verdict_line};

mod hosts;
mod launch;
mod rank;
mod rsh;
mod shell;
mod wait;
mod worker;

/// Runs muster with this process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(words) = rsh::as_agent(&arguments) {
        return rsh::run(words);
    }
    if let Some(words) = rank::as_wrapper(&arguments) {
        return rank::run_words(words);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_to_stderr(cli.verbose);
    let result = match cli.command {
        Command::Launch(args) => launch::run(args),
        Command::Worker(args) => worker::run(args).map(Class::code),
        Command::Rsh(args) => return rsh::run(args.arguments),
        Command::Rank(args) => return rank::run(args),
        Command::Hosts(args) => hosts::run(&args).map(Class::code),
        Command::Wait(args) => wait::run(&args).map(Class::code),
        Command::Completions(args) => Ok(shell::completions(&args)),
        Command::Man(args) => shell::man(&args).map(Class::code),
    };
    ExitCode::from(result.unwrap_or_else(|failure| fail(&failure)))
}

/// Says what is wrong with the words, or prints the help that they ask for.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let code = if error.use_stderr() { Class::Config } else { Class::Ok };
    ExitCode::from(code.code())
}

fn fail(failure: &Failure) -> u8 {
    let error = failure.error();
    complain(error);
    verdict_line(error.class());
    error.class().code()
}

fn log_to_stderr(verbose: u8) {
    let by_variable = std::env::var("MUSTER_LOG").ok().and_then(|level| level.parse().ok());
    let level = by_variable.unwrap_or(match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    });
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .compact()
        .init();
}

/// One thread is enough for a launcher of thousands of hosts, and is all that a worker may cost.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| crate::exit::SignalError(error).into())
}
