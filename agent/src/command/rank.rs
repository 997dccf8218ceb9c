//! `muster rank`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args as _, FromArgMatches as _};

use super::fail;
use crate::cli::{RankArgs, unset_is_empty};
use crate::config::env::Environment;
use crate::rank;

/// The words after `muster rank`, where the process was started so.
///
/// Found before clap builds all the other subcommands, so that a rank starts as fast as it can.
pub(super) fn as_wrapper(arguments: &[OsString]) -> Option<&[OsString]> {
    match arguments {
        [_, first, ..] if first == "rank" => Some(&arguments[1..]),
        _ => None,
    }
}

/// Reads the words alone, without the rest of the command line's definition.
pub(super) fn run_words(words: &[OsString]) -> ExitCode {
    let command = RankArgs::augment_args(clap::Command::new("muster rank").max_term_width(100));
    let parsed = unset_is_empty(command)
        .try_get_matches_from(words)
        .and_then(|matches| RankArgs::from_arg_matches(&matches));
    match parsed {
        Ok(args) => run(args),
        Err(error) => super::usage(&error),
    }
}

/// Runs the program.
pub(super) fn run(args: RankArgs) -> ExitCode {
    let env = Environment::from_process();
    let result = rank::run(&args.output.into(), args.bind.gpu_bind, &args.program, &env);
    match result {
        Ok(finished) => {
            if !finished.told && finished.ended.failed_by_itself() {
                finished.tell();
            }
            finished.end()
        }
        Err(failure) => ExitCode::from(fail(&failure)),
    }
}
