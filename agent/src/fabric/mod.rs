//! Which network a job uses: from what all its hosts report to the variables of the MPI at hand.
//!
//! Pure. Must not look at this machine, and must not override anybody: the plan sets only what nobody
//! has set.

mod given;
mod network;
mod rdma;
#[cfg(test)]
mod tests;
mod variables;

use std::net::IpAddr;

pub use given::{Given, given};
pub use variables::NAMES;

use self::network::Network;
use self::rdma::{Rdma, Survey};
use crate::devices::report::Report;
use crate::exit::{Class, Explain};
use crate::ids::HostName;
use crate::plan::{Fabric, Family};
use crate::text::listed;

/// Hosts that a sentence names before it counts the rest.
const NAMED: usize = 4;

/// Which network the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Wanted {
    /// RDMA where every host can use it, else TCP over the interface that reaches the peers.
    #[default]
    Auto,
    /// TCP, also where there is RDMA.
    Tcp,
    /// RDMA, or no job.
    Rdma,
    /// Nothing is set.
    None,
}

/// A machine of the job.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// As the hostfile has it.
    pub name: &'a HostName,
    /// The address at which the others reach it, where known.
    pub address: Option<IpAddr>,
    /// What it has; none where it does not say.
    pub report: Option<&'a Report>,
    /// Whether ranks run there: not on a launcher that is none of the hosts.
    pub works: bool,
}

/// RDMA was asked for, and some host cannot use it.
#[derive(Debug, thiserror::Error)]
#[error("use RDMA on every host: {}", .0.join("; "))]
pub struct NoRdma(Vec<String>);

impl Explain for NoRdma {
    fn class(&self) -> Class {
        Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some("`muster devices` in the pod tells more; --fabric auto falls back to TCP".into())
    }
}

/// What the job's environment is to be, and why.
///
/// # Errors
/// Only where RDMA was asked for by name: [`NoRdma`].
pub fn choose(wanted: Wanted, family: Family, members: &[Member<'_>]) -> Result<Fabric, NoRdma> {
    if !members.iter().any(|member| member.works) {
        return Ok(Fabric::default());
    }
    let survey = rdma::survey(members);
    let mut fabric = Fabric::default();
    let network = match network::of(members) {
        Ok(network) => Some(network),
        Err(unknown) => {
            fabric.warnings.push(format!(
                "the interface that reaches the peers is unknown on {}, so none is set: a job may \
                 hang where hosts have several",
                listed(&unknown, NAMED)
            ));
            None
        }
    };
    let by = network.as_ref().map_or_else(|| "any interface".to_owned(), Network::to_string);
    let gpus = members
        .iter()
        .filter_map(|member| member.report)
        .any(|report| !report.gpus.devices.is_empty());
    let setting = variables::Job { family, network: network.as_ref(), gpus };
    match (wanted, survey) {
        (Wanted::None, _) => return Ok(Fabric::default()),
        (Wanted::Auto | Wanted::Rdma, Survey::All(found)) => {
            fabric.line = Some(format!("{found}; TCP, where it is needed, over {by}"));
            fabric.wishes = setting.rdma(&found, wanted == Wanted::Rdma);
        }
        (Wanted::Rdma, Survey::Unknown(reasons) | Survey::Some { reasons, .. }) => {
            return Err(NoRdma(reasons));
        }
        (Wanted::Rdma, Survey::Nowhere) => return Err(NoRdma(vec!["none has a device".into()])),
        (Wanted::Tcp, survey) => {
            fabric.line = Some(format!("TCP over {by}: --fabric tcp"));
            fabric.wishes = setting.tcp(!matches!(survey, Survey::Nowhere));
        }
        (_, Survey::Some { best, reasons }) => {
            fabric.line = Some(format!("TCP over {by}: not every host can use RDMA"));
            fabric.warnings.push(cost(best.as_ref(), &by, &reasons));
            fabric.wishes = setting.tcp(true);
        }
        (_, Survey::Nowhere) => {
            fabric.line = Some(format!("TCP over {by}: no host has an RDMA device"));
            fabric.wishes = setting.tcp(false);
        }
        (_, Survey::Unknown(reasons)) => {
            fabric.line = Some(format!(
                "TCP over {by}; RDMA is left to the MPI, since {}",
                reasons.join("; ")
            ));
            fabric.wishes = setting.interfaces();
        }
    }
    if let Some(network) = network.as_ref().filter(|network| network.names_differ()) {
        fabric.warnings.extend(setting.left_out(network));
    }
    Ok(fabric)
}

/// What leaving RDMA unused costs, and what mends it.
fn cost(best: Option<&Rdma>, by: &str, reasons: &[String]) -> String {
    let instead = best.map(|best| format!(" instead of {best}")).unwrap_or_default();
    format!("all traffic goes by TCP over {by}{instead}: {}", reasons.join("; "))
}
