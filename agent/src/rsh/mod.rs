//! The remote-shell agent: what MPI launchers call in place of ssh.
//!
//! Must not start a runtime where the launcher's engine can be asked: mpirun starts one agent for
//! each host, all at once.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::config::env::Environment;
use crate::config::variables::MUSTER_SOCKET;
use crate::ssh::options::RshOptions;
use crate::ssh::remote::Ended;
use crate::text::matches;

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
/// over a connection of its own.
#[must_use]
pub fn run(options: &RshOptions, env: &Environment) -> Outcome {
    if let Some(socket) = env.non_empty(MUSTER_SOCKET).map(PathBuf::from)
        && let Some(outcome) = handover::run(&socket, options, env)
    {
        return outcome;
    }
    direct::run(options, env)
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
