//! `muster rsh`, also by the names ssh, rsh and remsh.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use crate::cli;
use crate::config::env::Environment;
use crate::config::variables::MUSTER_LOG;
use crate::exit::Explain as _;
use crate::rsh::{FAILED, Outcome};
use crate::ssh::options;
use crate::ssh::remote::Ended;
use crate::text::{give, say};

/// The names by which the binary is a remote-shell agent.
const NAMES: [&str; 3] = ["ssh", "rsh", "remsh"];

/// The agent's words, where the process was started as one: by name, or as `muster rsh`.
///
/// Found before clap reads anything, so that an agent starts as fast as it can.
pub(super) fn as_agent(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, words) = arguments.split_first()?;
    let name = Path::new(program).file_name().and_then(OsStr::to_str)?;
    if NAMES.contains(&name) {
        return Some(words.to_vec());
    }
    match words.split_first() {
        Some((first, words)) if first == "rsh" && words.iter().all(|word| word != "--help") => {
            Some(words.to_vec())
        }
        _ => None,
    }
}

/// Runs the command on the host.
pub(super) fn run(words: Vec<OsString>) -> ExitCode {
    if words.first().is_some_and(|word| word == "--help") {
        let mut cli = cli::definition();
        let help = cli.find_subcommand_mut("rsh").map(clap::Command::render_long_help);
        let help = help.map(|help| help.to_string()).unwrap_or_default();
        return match give(&help) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), error.hint()),
        };
    }
    if words.first().is_some_and(|word| word == "-V") {
        // On stderr, as ssh's own.
        say(&format!("{}, in place of ssh", crate::VERSION));
        return ExitCode::SUCCESS;
    }
    let env = Environment::from_process();
    let options = match options::parse(words) {
        Ok(options) => options,
        Err(error) => return fail(&error.to_string(), error.hint()),
    };
    // ssh's first -v is for people; muster's own steps begin at the second.
    let verbose = options.verbose.unwrap_or_default();
    if verbose > 0 || env.non_empty(MUSTER_LOG).is_some() {
        super::log_to_stderr(verbose.saturating_sub(1));
    }
    let outcome = crate::rsh::run(&options, &env);
    match &outcome {
        Outcome::Ended(Ended::Status(_)) => {}
        Outcome::Ended(lost @ Ended::Lost(_)) => say(&format!("{}: {lost}", options.host)),
        Outcome::Failed(words, hint) => drop(fail(words, hint.clone())),
    }
    ExitCode::from(outcome.code())
}

fn fail(words: &str, hint: Option<String>) -> ExitCode {
    say(&format!("rsh: failed to {words}"));
    if let Some(hint) = hint {
        say(&format!("hint: {hint}"));
    }
    ExitCode::from(FAILED)
}
