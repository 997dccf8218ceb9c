//! Who we are: this machine among the hosts of a job, and this user.
//!
//! Must not guess: what cannot be found out is said to be unknown.

use std::net::IpAddr;

use super::host::{Roots, hostname};
use super::net;
use crate::config::env::Environment;
use crate::ids::HostName;

/// What tells this machine from others in a list of hosts.
#[derive(Debug, Clone, Default)]
pub struct OwnHost {
    /// The kernel's host name.
    pub hostname: String,
    /// The addresses of all interfaces but loopback.
    pub addresses: Vec<IpAddr>,
}

impl OwnHost {
    /// Whether a host of this name, or at this address, is this machine.
    ///
    /// Hydra calls its agent for the own host too, and with `runLauncherAsWorker` the launcher is in
    /// the hostfile although no worker runs in it.
    #[must_use]
    pub fn is_named(&self, name: &HostName) -> bool {
        let address: Option<IpAddr> = name.as_str().parse().ok();
        name.as_str() == "localhost"
            || name.short() == HostName::from(self.hostname.as_str()).short()
            || address.is_some_and(|address| self.is_at(address))
    }

    /// Whether this address is one of this machine's.
    #[must_use]
    pub fn is_at(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }
}

/// What tells this machine from others in a list of hosts.
#[must_use]
pub fn own_host() -> OwnHost {
    let addresses = net::addresses().unwrap_or_default();
    OwnHost {
        hostname: hostname(&Roots::default()).unwrap_or_else(|| "localhost".into()),
        addresses: addresses
            .into_iter()
            .filter(|address| !address.loopback)
            .map(|address| address.ip)
            .collect(),
    }
}

/// The name to log in by: of this user, or of its number where it has none.
#[must_use]
pub fn user_name(env: &Environment) -> String {
    let uid = nix::unistd::geteuid();
    let by_passwd = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    env.non_empty("USER")
        .map(ToOwned::to_owned)
        .or_else(by_passwd)
        .unwrap_or_else(|| uid.to_string())
}
