//! What the families share: the request, with the answers that hold for each of them.
//!
//! Must not name a variable of any family but muster's own.

use std::path::Path;

use super::error::PlanError;
use super::settings::Settings;
use super::slots::FROM_HOSTFILE;
use super::{PlanHost, Request, Work};
use crate::config::variables::MUSTER_SOCKET;

/// A request under way to a plan.
pub(super) struct Job<'a> {
    pub(super) request: &'a Request,
    /// Ranks, where known: always in form 1.
    pub(super) ranks: Option<u32>,
    /// The path of our hostfile; none for local use.
    pub(super) hostfile: Option<String>,
}

impl Job<'_> {
    /// Whether muster writes the mpirun line.
    pub(super) const fn writes_line(&self) -> bool {
        matches!(self.request.work, Work::Program(_))
    }

    /// A path as MPI will read it from a variable.
    ///
    /// # Errors
    /// When it is not UTF-8, or has a character out of `refused`.
    pub(super) fn path(&self, path: &Path, refused: &[char]) -> Result<String, PlanError> {
        let family = self.request.mpirun.family;
        let error = |why| PlanError::Path { path: path.to_owned(), family, why };
        let text = path.to_str().ok_or_else(|| error("it is not UTF-8"))?;
        if text.contains(|c: char| c.is_whitespace() || refused.contains(&c)) {
            return Err(error("it holds a blank or a character that splits it"));
        }
        Ok(text.to_owned())
    }

    /// The variable that names the default hostfile: needed where the line is the user's own, and
    /// otherwise only shown, because the option on our line outranks it.
    ///
    /// True where mpirun will read our file.
    pub(super) fn default_hostfile(
        &self,
        settings: &mut Settings<'_>,
        variable: &str,
        why: &str,
    ) -> bool {
        let Some(path) = &self.hostfile else { return false };
        if self.writes_line() {
            settings.keep(variable, "the hostfile on the command line outranks it");
            return true;
        }
        if self.request.hosts_from_flag {
            let reason = match settings.env().get(variable) {
                Some(old) => format!("the hosts that muster was told outrank {old}"),
                None => why.to_owned(),
            };
            settings.put(variable, path.as_str(), &reason);
            return true;
        }
        settings.want(variable, path.as_str(), why)
    }

    /// Where the agent finds the engine.
    pub(super) fn socket(&self, settings: &mut Settings<'_>) -> Result<(), PlanError> {
        let socket = self.path(&self.request.socket, &[])?;
        settings.put(MUSTER_SOCKET, socket, "where `muster rsh` finds the open connections");
        Ok(())
    }

    /// Whether every host has its slots from the hostfile, so that mpirun reads the same numbers there.
    pub(super) fn slots_are_listed(&self) -> bool {
        self.request.hosts.iter().all(|host| host.slots_from == FROM_HOSTFILE)
    }

    /// How ranks can be bound to cores.
    pub(super) fn fit(&self) -> Fit {
        let loads: Vec<(String, u32, Option<f64>)> = if self.request.hosts.is_empty() {
            let cpus = Some(f64::from(self.request.local_cpus));
            vec![("this machine".to_owned(), self.ranks.unwrap_or(0), cpus)]
        } else {
            let load = |h: &PlanHost| (h.name.to_string(), h.slots, h.cpus);
            self.request.hosts.iter().map(load).collect()
        };
        let known = || loads.iter().filter_map(|(n, s, c)| c.map(|cpus| (n, *s, cpus)));
        if let Some((name, slots, cpus)) =
            known().find(|(_, slots, cpus)| f64::from(*slots) > *cpus)
        {
            return Fit::Over(format!("{name} has {cpus} CPUs for {slots} ranks"));
        }
        if known().any(|(_, slots, cpus)| f64::from(slots) * 2.0 > cpus) {
            return Fit::Tight;
        }
        Fit::Loose
    }
}

/// Ranks against CPUs, where binding goes wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// A host has fewer CPUs than ranks, as the phrase says: binding fails or moves ranks.
    Over(String),
    /// With two hardware threads on a core, a host may have fewer cores than ranks.
    Tight,
    /// Each rank has a core for certain, or nothing is known.
    Loose,
}
