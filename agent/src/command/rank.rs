//! `muster rank`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args as _, FromArgMatches as _};

use super::fail;
use crate::cli::{RankArgs, unset_is_empty};
use crate::config::env::Environment;
use crate::ids::HostName;
use crate::launch::announce::tell;
use crate::launch::event::{Cause, Ending};
use crate::launch::witness::{Witness, verdict};
use crate::outcome::{ExitPolicy, Rules};
use crate::plan::Family;
use crate::rank::{self, Finished};

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
                explain(&finished);
            }
            finished.end()
        }
        Err(failure) => ExitCode::from(fail(&failure)),
    }
}

/// Says in a few lines why the program failed: at a desk nobody else does.
fn explain(finished: &Finished) {
    let mut witness = Witness::new(Family::OpenMpi4);
    let host = HostName::from(finished.hello.identity.as_ref().map_or("", |of| of.host.as_str()));
    witness.ended(&host, &finished.hello, &finished.ended);
    let ending = Ending { cause: Some(Cause::Rank), mpirun: finished.ended.status };
    let Ok(rules) = Rules::built_in().map(Arc::new) else { return };
    let verdict =
        verdict(&witness.facts(&ending, &[], &[], &rules), &rules, ExitPolicy::Application);
    tell(&verdict);
}
