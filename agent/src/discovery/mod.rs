//! Who the hosts of the job are, and where they are.
//!
//! Must not open a connection to a host: that is readiness.

use std::num::NonZeroU32;

use crate::ids::HostName;

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
