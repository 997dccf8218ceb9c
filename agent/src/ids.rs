//! The names of things that several stages speak of.
//!
//! Must not hold behaviour: a type here is a name with a meaning, nothing more.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A host as the hostfile, the operator or the user spells it, never empty; cheap to clone.
///
/// Not normalised: `worker-1` and `worker-1.job` are different names even where DNS gives both one
/// address, because mpirun passes names to the remote-shell agent exactly as the hostfile has them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first label: `worker-1` of `worker-1.job.ns.svc`. An IP address is its own short name.
    #[must_use]
    pub fn short(&self) -> &str {
        short(&self.0)
    }
}

/// The same of a name that is not the job's own spelling, e.g. out of a log.
#[must_use]
pub fn short(name: &str) -> &str {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return name;
    }
    name.split_once('.').map_or(name, |(first, _)| first)
}

impl From<&str> for HostName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for HostName {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::HostName;

    #[test]
    fn short_names() {
        for (name, short) in [
            ("worker-1", "worker-1"),
            ("pi-worker-0.pi.default.svc", "pi-worker-0"),
            ("10.0.0.7", "10.0.0.7"),
            ("fd77::3", "fd77::3"),
        ] {
            assert_eq!(HostName::from(name).short(), short);
        }
    }
}
