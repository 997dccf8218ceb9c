//! The flags that several subcommands share: who the hosts are, and how they are reached.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::ssh::client::HostKeys;
use crate::ssh::heartbeat::Heartbeat;
use crate::ssh::wire::PORT;

/// A number of things of which there must be one at least.
pub(super) fn count(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("expected a number from 1 to {}", u32::MAX))
}

/// A port to connect to.
fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

/// The longest time that is understood: what is added to it, or made a multiple of it, stays far from
/// what a clock can hold.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A duration.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    time_from(Duration::ZERO, text)
}

/// A duration of `least` or more.
pub(super) fn time_from(least: Duration, text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| "expected a time such as 500ms, 30s or 10m".to_owned())?;
    match time {
        _ if time < least => Err(format!("expected {} or more", humantime::format_duration(least))),
        _ if time > LONGEST => Err("expected a year or less".into()),
        _ => Ok(time),
    }
}

/// Often enough for everybody, and seldom enough for a launcher of a thousand workers.
fn beat(text: &str) -> Result<Duration, String> {
    time_from(Duration::from_millis(100), text)
}

/// Signs of life. A launcher and its workers do well to have the same; the environment of a job is the
/// place for that.
#[derive(Debug, Clone, Copy, Args)]
pub struct HeartbeatArgs {
    /// Between two signs of life of a worker; the same for launch and workers
    #[arg(long, env = "MUSTER_HEARTBEAT", default_value = "5s", value_name = "TIME",
          value_parser = beat)]
    pub heartbeat: Duration,
    /// Signs of life that may be missing before the other end counts as lost
    #[arg(long, env = "MUSTER_HEARTBEAT_MISSES", default_value = "3", value_name = "N",
          value_parser = count)]
    pub heartbeat_misses: NonZeroU32,
}

impl From<HeartbeatArgs> for Heartbeat {
    fn from(args: HeartbeatArgs) -> Self {
        Self { interval: args.heartbeat, misses: args.heartbeat_misses.get() }
    }
}

/// Who the hosts are. Where nothing is given, `discovery::source` knows; long helps tell it, as clap
/// prints nothing of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Hosts")]
pub struct HostArgs {
    /// Hosts, comma separated, with slots where wanted: a,b:4
    #[arg(long, value_name = "LIST")]
    pub hosts: Option<String>,
    /// Hostfile: `host slots=N`, `host:N` or `host` a line
    #[arg(long, value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// Headless service of the workers
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Number of workers behind --service
    #[arg(long, value_name = "N", value_parser = count)]
    pub workers: Option<NonZeroU32>,
    /// Names of the workers behind --service, {i} counting from 0: pi-worker-{i}
    #[arg(long, value_name = "PATTERN")]
    pub pattern: Option<String>,
}

/// How the hosts are reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct ReachArgs {
    /// Port of the workers
    #[arg(short, long, env = "MUSTER_PORT", default_value_t = PORT, value_name = "PORT",
          value_parser = port)]
    pub port: u16,
    /// Directory of the job's SSH key [default: $MUSTER_KEY_DIR, ~/.ssh, /root/.ssh,
    /// /home/mpiuser/.ssh, the first that holds one]
    #[arg(long, value_name = "DIR")]
    pub key_dir: Option<PathBuf>,
    /// Whose host key is believed
    #[arg(long, env = "MUSTER_HOST_KEY", value_enum, default_value = "job")]
    pub host_key: HostKeys,
    /// How long all workers together may take to become ready
    #[arg(long, env = "MUSTER_WAIT_TIMEOUT", default_value = "10m", value_name = "TIME",
          value_parser = time)]
    pub wait_timeout: Duration,
}
