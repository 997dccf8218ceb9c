//! Glue: from a subcommand's arguments to an exit code, each in a file of its own.
//!
//! Must not hold logic; what is more than calling the stages in order belongs to a stage.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, Command, refusal};
use crate::exit::{Class, Failure, RuntimeError};
use crate::text::{complain, say, verdict_line, voice};

mod devices;
mod explain;
mod hosts;
mod install;
mod launch;
mod lint_image;
mod rank;
mod rsh;
mod shell;
mod sshd;
mod wait;
mod worker;

/// Runs muster with this process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let code = run_words(std::env::args_os().collect());
    wait_for_readers();
    code
}

fn run_words(arguments: Vec<OsString>) -> ExitCode {
    if let Some(words) = rsh::as_agent(&arguments) {
        return rsh::run(words);
    }
    if let Some(words) = sshd::as_sshd(&arguments) {
        return sshd::run(words);
    }
    if let Some(words) = rank::as_wrapper(&arguments) {
        return rank::run_words(words);
    }
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_to_stderr(cli.verbose);
    let result = match cli.command {
        Command::Launch(args) => launch::run(*args),
        Command::Worker(args) => worker::run(args).map(Class::code),
        Command::Rsh(args) => return rsh::run(args.arguments),
        Command::Sshd(args) => return sshd::run(args.arguments),
        Command::Rank(args) => return rank::run(args),
        Command::Hosts(args) => hosts::run(&args).map(Class::code),
        Command::Wait(args) => wait::run(&args).map(Class::code),
        Command::Devices(args) => devices::run(&args).map(Class::code),
        Command::Explain(args) => explain::run(&args).map(Class::code),
        Command::Install(args) => install::run(&args).map(Class::code),
        Command::LintImage(args) => lint_image::run(&args).map(Class::code),
        Command::Completions(args) => shell::completions(&args).map(Class::code),
        Command::Man(args) => shell::man(&args).map(Class::code),
    };
    ExitCode::from(result.unwrap_or_else(|failure| fail(&failure)))
}

/// Says what is wrong with the words, or prints the help that they ask for.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        return ExitCode::from(refuse(error));
    }
    // Whoever asked for help and did not read it has had enough.
    let _ = error.print();
    ExitCode::SUCCESS
}

/// Says what is wrong with the command line, in clap's words and our form.
fn refuse(error: &clap::Error) -> u8 {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Where nobody reads it, the code still tells.
        let _ = error.print();
        return Class::Config.code();
    }
    say(&refusal::words(error));
    verdict_line(Class::Config);
    Class::Config.code()
}

fn fail(failure: &Failure) -> u8 {
    let error = failure.error();
    complain(error);
    verdict_line(error.class());
    error.class().code()
}

fn log_to_stderr(verbose: u8) {
    let wanted = std::env::var("MUSTER_LOG").ok().filter(|level| !level.is_empty());
    let by_variable = wanted.as_ref().and_then(|level| level.parse().ok());
    if let (Some(level), None) = (wanted, by_variable) {
        say(&format!(
            "warning: MUSTER_LOG={level} means nothing\n\
             hint: expected error, warn, info, debug or trace"
        ));
    }
    let level = by_variable.unwrap_or(match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    });
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| voice::Log)
        // Told by eprintln!, which panics where nobody reads stderr any more.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .compact()
        .init();
}

/// How long what blocks a thread may hold up the end: a look at a process in a hung driver.
const LAST_LOOKS: Duration = Duration::from_millis(500);

/// Runs to the end. One thread is enough for a launcher of thousands of hosts, and is all that a
/// worker may cost.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(RuntimeError)?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_LOOKS);
    result
}

/// Waits until somebody has read what was said last; a signal makes that short.
fn wait_for_readers() {
    if !voice::is_apart() {
        return;
    }
    let came = async |kind| {
        // Where it cannot be listened to, waiting would have no end.
        if let Ok(mut signals) = signal(kind) {
            signals.recv().await;
        }
    };
    let stop = async {
        tokio::select! {
            () = came(SignalKind::terminate()) => {}
            () = came(SignalKind::interrupt()) => {}
            () = came(SignalKind::hangup()) => {}
        }
    };
    // Where there is no runtime, nobody waits.
    let _ = block_on(async {
        voice::finish(stop).await;
        Ok(())
    });
}
