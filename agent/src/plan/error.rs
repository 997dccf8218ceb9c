//! Why a plan cannot be made.
//!
//! Must not decide anything: each variant carries what its sentence needs.

use std::path::PathBuf;

use thiserror::Error;

use super::Family;
use crate::exit::{Class, Explain};
use crate::ids::HostName;
use crate::text::listed;

/// Hosts that a message lists before it says how many more there are.
const LISTED: usize = 8;

/// A request that no launch can fulfil.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// No command, or an empty word for one.
    #[error("read the command: there is no program to run")]
    NothingToRun,
    /// mpirun would take the program for one of its own options.
    #[error("read the command: the option `{0}` stands where the program should")]
    OptionForProgram(String),
    /// mpirun takes a lone `:` for the start of a second program, wherever it stands.
    #[error(
        "write the mpirun line: a lone `:` among the program's arguments would split it in two"
    )]
    Separator,
    /// `-n 0`.
    #[error("place 0 ranks")]
    NoRanks,
    /// More ranks than slots.
    #[error("place {ranks} ranks in {total} slots ({})", slots(.hosts))]
    NotEnoughSlots {
        /// Ranks asked for.
        ranks: u32,
        /// Slots of all hosts.
        total: u32,
        /// Each host and its slots.
        hosts: Vec<(HostName, u32)>,
    },
    /// The family's hostfile has no spelling for this address.
    #[error("write the hostfile: {family} cannot take the IPv6 address {host} in place of a name")]
    Ipv6Literal {
        /// The address.
        host: HostName,
        /// Whose hostfile.
        family: Family,
    },
    /// A name that would break the line it stands in.
    #[error("write the hostfile: {host:?} is not a host name")]
    BadName {
        /// The name.
        host: HostName,
    },
    /// A path that cannot stand where MPI expects it.
    #[error("name {} to {family}: {why}", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Who would have to read it.
        family: Family,
        /// What about it.
        why: &'static str,
    },
}

fn slots(hosts: &[(HostName, u32)]) -> String {
    let words: Vec<String> =
        hosts.iter().map(|(host, slots)| format!("{host} has {slots}")).collect();
    listed(&words, LISTED)
}

impl Explain for PlanError {
    fn class(&self) -> Class {
        match self {
            Self::NotEnoughSlots { .. } => Class::NotEnoughSlots,
            Self::NothingToRun
            | Self::OptionForProgram(_)
            | Self::Separator
            | Self::NoRanks
            | Self::Ipv6Literal { .. }
            | Self::BadName { .. }
            | Self::Path { .. } => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NothingToRun => {
                "give the program after `--`, as in `muster launch -- ./train`".to_owned()
            }
            Self::OptionForProgram(_) => {
                "muster's own options stand before `--`, the program comes first after it"
                    .to_owned()
            }
            Self::Separator => "give the whole mpirun line after `--` instead".to_owned(),
            Self::NoRanks => {
                "ask for at least one rank, or leave `-n` out to fill all slots".to_owned()
            }
            Self::NotEnoughSlots { total, .. } => format!(
                "ask for at most {total} ranks with `-n`, add hosts, or give the hosts more slots \
                 with `--slots` or in the hostfile"
            ),
            Self::Ipv6Literal { .. } => "name the hosts instead of their addresses".to_owned(),
            Self::BadName { .. } => "correct the name where the hosts are listed".to_owned(),
            Self::Path { .. } => {
                "use a path of plain letters, digits, `-`, `_`, `.` and `/`".to_owned()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Explain, HostName, PlanError};

    #[test]
    fn too_many_ranks_reads_well_and_stays_short() {
        let hosts: Vec<(HostName, u32)> =
            (0..300).map(|i| (HostName::from(format!("w{i}")), 4)).collect();
        let error = PlanError::NotEnoughSlots { ranks: 2000, total: 1200, hosts };
        assert_eq!(
            error.to_string(),
            "place 2000 ranks in 1200 slots (w0 has 4, w1 has 4, w2 has 4, w3 has 4, w4 has 4, \
             w5 has 4, w6 has 4, w7 has 4 and 292 more)"
        );
        assert_eq!(error.class(), Class::NotEnoughSlots);
        assert!(error.hint().unwrap().contains("at most 1200 ranks"));
    }
}
