//! The remote-shell agent: what MPI launchers call in place of ssh.
//!
//! Must not start a runtime where the launcher's engine can be asked: mpirun starts one agent for
//! each host, all at once.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::env::Environment;
use crate::config::variables::MUSTER_SOCKET;
use crate::exit::Explain as _;
use crate::ssh::options::file::complete;
use crate::ssh::options::{ConfigFiles, Ignored, RshOptions};
use crate::ssh::remote::Ended;
use crate::text::{matches, say};

pub mod direct;
pub mod handover;
mod streams;
pub mod target;

/// ssh's exit code for "no connection" and everything else that is not the command's doing.
pub const FAILED: u8 = 255;

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command ran and ended.
    Ended(Ended),
    /// It could not be run; one line of why, and perhaps a hint.
    Failed(String, Option<String>),
}

impl Outcome {
    /// The exit code: the command's own, 128 + n for signal n, else 255.
    ///
    /// Never a death by signal, also when the command died of one: Open MPI 5's mpirun ends with 0
    /// when its agent is killed.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Ended(Ended::Status(status)) => status.shell_code(),
            Self::Ended(Ended::Lost(_)) | Self::Failed(..) => FAILED,
        }
    }
}

/// Runs the command on the host: through the engine of the launch that this process belongs to, or
/// over a connection of its own. With `-v`, options without effect are told.
#[must_use]
pub fn run(options: &RshOptions, env: &Environment) -> Outcome {
    let told = |verbose: Option<u8>, ignored: &[Ignored]| {
        let ignored = ignored.iter().filter(|_| verbose.is_some_and(|level| level > 0));
        ignored.for_each(|one| say(&format!("{}: ignored {one}", options.host)));
    };
    told(options.verbose, &options.ignored);
    let handed_over = |options| {
        let socket = env.non_empty(MUSTER_SOCKET)?;
        handover::run(Path::new(socket), options, env)
    };
    // A file that the command line names may lead elsewhere than the engine does. The usual files are
    // for who has no connection yet, and would cost every agent of a launch their reading.
    let named = matches!(options.config, ConfigFiles::One(_));
    if !named && let Some(outcome) = handed_over(options) {
        return outcome;
    }
    let completed = match complete(options, env) {
        Ok(completed) => completed,
        Err(error) => return Outcome::Failed(error.to_string(), error.hint()),
    };
    told(completed.verbose, &completed.ignored[options.ignored.len()..]);
    if named && let Some(outcome) = handed_over(&completed) {
        return outcome;
    }
    direct::run(&completed, env)
}

/// The variables that `SendEnv` and `SetEnv` give the command.
fn variables(options: &RshOptions, env: &Environment) -> Vec<(String, String)> {
    let sends = |name: &str| options.send_env.iter().any(|pattern| matches(pattern, name));
    let sent = env.iter().filter(|(name, _)| sends(name));
    let set = options.set_env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    sent.chain(set).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The command's output has nowhere to go.
fn unwritten(error: &io::Error) -> Outcome {
    Outcome::Failed(format!("write the command's output: {error}"), None)
}

fn bytes(command: &OsStr) -> &[u8] {
    command.as_bytes()
}
