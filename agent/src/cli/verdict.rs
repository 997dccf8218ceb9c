//! The flags about how a job is watched, and where it is told how it ended.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reach::{HeartbeatArgs, time, time_from};
use crate::outcome::ExitPolicy;

/// Less is told apart from a busy machine by nothing.
fn stall(text: &str) -> Result<Duration, String> {
    time_from(Duration::from_secs(1), text)
}

/// How a job is watched.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Supervision")]
pub struct WatchArgs {
    /// How long the ranks may take to end after SIGTERM, before SIGKILL: time for a checkpoint
    #[arg(long, env = "MUSTER_GRACE", default_value = "10s", value_name = "TIME",
          value_parser = time)]
    pub grace: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type; a doc here would replace its help")]
    pub heartbeat: HeartbeatArgs,
    /// End a job in which no rank writes a line for so long and some rank uses no CPU time [default:
    /// never]
    #[arg(long, value_name = "TIME", value_parser = stall)]
    pub stall_timeout: Option<Duration>,
}

/// Where it is told how a job ended.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Verdict")]
pub struct VerdictArgs {
    /// Whose exit code muster ends with
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t)]
    pub exit_code: ExitPolicy,
    /// Where Kubernetes reads the termination message [default: /dev/termination-log, where it can be
    /// written]
    #[arg(long, env = "MUSTER_TERMINATION_LOG", value_name = "FILE")]
    pub termination_log: Option<PathBuf>,
    /// Write the verdict as JSON (schema muster.verdict/1)
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write a JSON object a change of state, with timings (schema muster.event/1); a number is a
    /// descriptor that is open
    #[arg(long, value_name = "FILE|FD")]
    pub events: Option<PathBuf>,
    /// More rules for what lines mean, which come before the built-in ones; may be given again
    #[arg(long, value_name = "FILE")]
    pub rules: Vec<PathBuf>,
}
