//! From a list of hosts that may hide behind a Service to the hosts one by one.
//!
//! Must not wait for pods that are not there yet; who waits asks again.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::lookup::{Lookup, LookupError};
use super::service::members;
use super::{HostList, HostSpec};
use crate::exit::{Class, Explain};
use crate::ids::HostName;

/// Why the hosts behind a Service are not known, this time.
#[derive(Debug, thiserror::Error)]
pub enum NotAllThere {
    /// The Service itself has no address.
    #[error("find the pods of service {0}: {1}")]
    NoAddress(HostName, #[source] LookupError),
    /// Fewer pods than wanted have one.
    #[error("find the pods of service {service}: {there} of {wanted} have an address")]
    TooFew {
        /// The Service.
        service: HostName,
        /// Pods that have an address.
        there: usize,
        /// Pods that the job is to have.
        wanted: NonZeroU32,
    },
}

impl Explain for NotAllThere {
    fn class(&self) -> Class {
        match self {
            Self::NoAddress(_, error) => error.class(),
            Self::TooFew { .. } => Class::NameResolution,
        }
    }

    fn hint(&self) -> Option<String> {
        if let Self::NoAddress(_, error) = self
            && !error.is_absence()
        {
            return error.hint();
        }
        Some(
            "is the service headless (clusterIP: None) and does it select the workers? Pods count \
             only while Ready unless it sets publishNotReadyAddresses"
                .into(),
        )
    }
}

/// The hosts, one by one; none where this machine is alone. `own` are this machine's addresses.
///
/// # Errors
/// The hosts are known to DNS alone, and it does not know them all yet.
pub async fn enumerate(
    list: &HostList,
    lookup: &impl Lookup,
    own: &[IpAddr],
) -> Result<Vec<HostSpec>, NotAllThere> {
    let service = match list {
        HostList::Local => return Ok(Vec::new()),
        HostList::Named(hosts) => return Ok(hosts.clone()),
        HostList::FromService(service) => service,
    };
    let answer = lookup.lookup_service(&service.name).await;
    let addresses = answer.map_err(|error| NotAllThere::NoAddress(service.name.clone(), error))?;
    members(service, &addresses, own).map_err(|there| NotAllThere::TooFew {
        service: service.name.clone(),
        there,
        wanted: service.workers,
    })
}
