//! Who the hosts of the job are, and where they are.
//!
//! Must not open a connection to a host: that is readiness.

pub mod dns;
pub mod enumerate;
pub mod grammar;
pub mod hostfile;
pub mod hosts_file;
pub mod locate;
pub mod lookup;
pub mod operator;
pub mod pods;
pub mod render;
pub mod resolv_conf;
pub mod roster;
pub mod service;
pub mod source;
pub mod standing;
pub mod suffix;

use std::num::NonZeroU32;

use crate::ids::HostName;

pub use dns::Resolver;
pub use locate::{Located, locate};
pub use lookup::{Lookup, LookupError};
pub use source::{HostFlags, HostList, Hosts, Source, SourceError, resolve};

/// One host as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpec {
    /// As spelled by whoever named it.
    pub name: HostName,
    /// Slots, where the source says.
    pub slots: Option<NonZeroU32>,
    /// Open MPI's upper bound for oversubscription, where the hostfile says.
    pub max_slots: Option<NonZeroU32>,
    /// The port of its remote-shell server, where the hostfile says (`port=2222`).
    pub port: Option<u16>,
    /// The user to log in as, where the hostfile says (`user_name=bob`).
    pub user: Option<String>,
}

impl HostSpec {
    /// A host of which only the name is known.
    #[must_use]
    pub const fn named(name: HostName) -> Self {
        Self { name, slots: None, max_slots: None, port: None, user: None }
    }
}
