//! The command line: clap types, one file a subcommand.
//!
//! Must not check anything that needs a file, the environment or the network; that is `config`.

use std::ffi::OsString;

use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

mod devices;
mod explain;
mod hosts;
mod install;
mod launch;
mod lint_image;
mod rank;
mod reach;
pub mod refusal;
mod rsh;
mod shell;
mod sshd;
mod verdict;
mod wait;
mod worker;

pub use devices::DevicesArgs;
pub use explain::{ExplainArgs, Format};
pub use hosts::HostsArgs;
pub use install::InstallArgs;
pub use launch::LaunchArgs;
pub use lint_image::{LintFormat, LintImageArgs};
pub use rank::{BindArgs, OutputArgs, RankArgs};
pub use reach::{HostArgs, ReachArgs};
pub use rsh::RshArgs;
pub use shell::{CompletionsArgs, ManArgs};
pub use sshd::SshdArgs;
pub use verdict::{VerdictArgs, WatchArgs};
pub use wait::WaitArgs;
pub use worker::WorkerArgs;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version = crate::VERSION,
    about = "Bootstraps, supervises and explains MPI jobs from inside their containers",
    long_about = "Bootstraps, supervises and explains MPI jobs from inside their containers.\n\n\
        On each worker `muster worker` takes the place of sshd; on the launcher `muster launch` \
        finds the workers, waits until every one is ready, and runs mpirun with itself as the \
        remote-shell agent.",
    after_help = "Examples:\n  \
        muster worker                          # in every worker container\n  \
        muster launch -- ./train --epochs 3    # in the launcher container: all slots of all hosts\n  \
        muster launch -- mpirun -np 8 ./train  # the same with your own mpirun line\n  \
        muster launch -n 4 -- ./app            # on this machine alone, no workers needed\n  \
        muster hosts                           # who are the hosts, and where does that come from\n\n\
        Exit codes: 0-79 and 100-125 are the application's or mpirun's; 80-99 a failure that stays \
        (configuration, slots, keys); 128 and above one that a retry may cure (170 no DNS, 171 \
        worker not ready, 172 worker lost).",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Say more; twice for every step of the protocols. MUSTER_LOG=debug or trace does the same
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = LAST)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// After what a subcommand has of its own.
const LAST: usize = 900;

/// Those that do not take `--verbose`: rank has no more to say, the others have ssh's -v and sshd's -d.
const TERSE: [&str; 3] = ["rank", "rsh", "sshd"];

/// The subcommands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "each is told at its type; a doc here would replace its long help")]
pub enum Command {
    Launch(Box<LaunchArgs>),
    Worker(WorkerArgs),
    Rsh(RshArgs),
    Sshd(SshdArgs),
    Rank(RankArgs),
    Hosts(HostsArgs),
    Wait(WaitArgs),
    Devices(DevicesArgs),
    Explain(ExplainArgs),
    Install(InstallArgs),
    LintImage(LintImageArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// The definition of the command line, for its reader, its help and its manual.
#[must_use]
pub fn definition() -> clap::Command {
    // What a subcommand has already is not given to it again.
    let hidden = Arg::new("verbose").short('v').long("verbose").action(ArgAction::Count).hide(true);
    TERSE.into_iter().fold(Cli::command(), |cli, name| {
        cli.mut_subcommand(name, |subcommand| subcommand.arg(&hidden))
    })
}

/// Reads a command line, `argv[0]` included.
///
/// # Errors
/// It is none, or asks for help, which clap's error then prints.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = definition().mut_subcommands(unset_is_empty).try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

/// Has the flags of `command` take a variable that is empty for one that is not set: manifests made from
/// templates have such.
#[must_use]
pub fn unset_is_empty(command: clap::Command) -> clap::Command {
    command.mut_args(|flag| {
        let value = flag.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.is_empty()) { flag.env(None) } else { flag }
    })
}

#[cfg(test)]
mod tests {
    use super::{TERSE, definition};

    #[test]
    fn the_definitions_agree_with_each_other() {
        definition().debug_assert();
    }

    #[test]
    fn who_says_more_has_a_flag_for_it() {
        let mut cli = definition();
        cli.build();
        for subcommand in cli.get_subcommands() {
            let mut shown = subcommand.get_arguments().filter(|flag| !flag.is_hide_set());
            let verbose = shown.any(|flag| flag.get_long() == Some("verbose"));
            let name = subcommand.get_name();
            assert_eq!(verbose, !TERSE.contains(&name), "{name}");
        }
    }
}
