//! The processes that descend from this one, the lab's, with the names that perf tells of them.
//!
//! Must not know what is counted of them.

use std::collections::HashMap;

/// Its file's name may have more behind it; `rsh` is its link for Hydra.
fn is_muster(comm: &str) -> bool {
    comm.starts_with("muster") || comm == "rsh"
}

/// The processes that descend from one, with the names that they have at the time.
pub(super) struct Family {
    root: u32,
    known: HashMap<u32, Process>,
}

struct Process {
    parent: u32,
    comm: String,
    /// Whether it was there before anything was looked at.
    old: bool,
    /// The name that it had before it ran what it was made to run; none where it does not yet.
    before: Option<String>,
}

impl Family {
    pub(super) fn new(root: u32) -> Self {
        Self { root, known: HashMap::new() }
    }

    /// `FORK(child:tid):(parent:tid)` and `COMM exec: name:pid/tid`, without `exec` where a process names itself;
    /// `old` are those that perf tells at its begin.
    pub(super) fn learn(&mut self, event: &str, old: bool) {
        if let Some(ids) = event.strip_prefix("FORK(") {
            let mut numbers = ids.split([':', '(', ')']).filter_map(|word| word.parse().ok());
            if let (Some(child), Some(_), Some(parent)) =
                (numbers.next(), numbers.next(), numbers.next())
                && child != parent
            {
                let of = self.known.get(&parent);
                let comm = of.map_or_else(String::new, |parent| parent.comm.clone());
                let process = Process { parent, comm, old, before: None };
                self.known.insert(child, process);
            }
        } else if let Some((words, id)) =
            event.strip_prefix("COMM").and_then(|rest| rest.rsplit_once(':'))
            && let Some((pid, tid)) = id.split_once('/')
            && pid == tid.trim()
            && let Some(process) = pid.parse().ok().and_then(|pid: u32| self.known.get_mut(&pid))
        {
            let (how, name) = words.split_once(": ").unwrap_or_default();
            let before = std::mem::replace(&mut process.comm, name.to_owned());
            if how.contains("exec") {
                process.before = Some(before);
                process.old = false;
            }
        }
    }

    /// What a process counts as; none for strangers.
    pub(super) fn name(&self, pid: u32) -> Option<String> {
        let process = self.known.get(&pid)?;
        let own = self.descends(pid) && process.comm != "perf" && !process.comm.starts_with("lab-");
        own.then(|| match process.comm.as_str() {
            comm if is_muster(comm) => self.role(process).to_owned(),
            comm => format!("`{comm}`"),
        })
    }

    fn descends(&self, mut pid: u32) -> bool {
        // As deep as no tree of processes is.
        for _ in 0..64 {
            match self.known.get(&pid) {
                Some(process) if process.parent == self.root => return true,
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    }

    /// One binary is all of these; who started it tells which.
    fn role(&self, process: &Process) -> &'static str {
        if process.old {
            return "`muster worker`";
        }
        let Some(parent) = self.known.get(&process.parent) else { return "`muster`" };
        match parent.comm.as_str() {
            // Split off, and not yet another program.
            comm if is_muster(comm) && process.before.is_none() => self.role(parent),
            _ if process.before.as_deref() == Some("sh") => "`muster launch`",
            "mpirun" | "mpiexec.hydra" | "mpiexec" | "hydra_bstrap_pr" => "`muster rsh`",
            "orted" | "prted" | "hydra_pmi_proxy" => "`muster rank`",
            "bench" => "`muster rsh`",
            _ => "`muster`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_family_are_told_by_role() {
        let mut family = Family::new(10);
        family.learn("FORK(11:11):(10:10)", true);
        family.learn("COMM: muster:11/11", true);
        for event in [
            "FORK(12:12):(11:15)",
            "COMM exec: orted:12/12",
            "FORK(13:13):(12:12)",
            "COMM exec: muster:13/13",
            "FORK(13:14):(13:13)",
            "FORK(20:20):(1:1)",
        ] {
            family.learn(event, false);
        }
        let name = |pid| family.name(pid);
        assert_eq!(name(11).as_deref(), Some("`muster worker`"));
        assert_eq!(name(12).as_deref(), Some("`orted`"));
        assert_eq!(name(13).as_deref(), Some("`muster rank`"));
        assert_eq!(name(20), None);
    }
}
