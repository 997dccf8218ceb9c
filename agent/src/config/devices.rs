//! What `muster devices` is to look at, from flags and environment.
//!
//! Must not touch the network.

use super::env::Environment;
use super::launch::{Reach, wait};
use crate::cli::{DevicesArgs, HostArgs};
use crate::devices::own::OwnHost;
use crate::devices::render::Format;
use crate::discovery::Hosts;
use crate::exit::{Class, Explain, Failure};

/// Flags of `muster devices` that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Contradiction {
    #[error("read the flags: hosts are named, and --all-hosts is not given")]
    HostsForOne,
    #[error("read the flags: --all-hosts has no --format prometheus")]
    Prometheus,
}

impl Explain for Contradiction {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::HostsForOne => "add --all-hosts, or run `muster devices` on that host",
                Self::Prometheus => {
                    "--format json has every host's report; metrics are for each host to give"
                }
            }
            .to_owned(),
        )
    }
}

/// The hosts whose reports are to be collected, and how they are reached; none: this machine alone.
///
/// # Errors
/// Flags contradict each other, or hosts or keys cannot be found.
pub fn all_hosts(
    args: &DevicesArgs,
    env: &Environment,
    own: &OwnHost,
) -> Result<Option<(Hosts, Reach)>, Failure> {
    match (args.all_hosts, args.format) {
        (false, _) if args.hosts != HostArgs::default() => Err(Contradiction::HostsForOne.into()),
        (false, _) => Ok(None),
        (true, Format::Prometheus) => Err(Contradiction::Prometheus.into()),
        (true, Format::Table | Format::Json) => Ok(Some(wait(&args.hosts, &args.reach, env, own)?)),
    }
}
