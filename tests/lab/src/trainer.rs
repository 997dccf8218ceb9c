//! Hosts as Kubeflow Trainer (v2, MPI runtime on JobSet) makes pods of a TrainJob: names, files, environment, key.
//!
//! Must not add anything that the operator does not give, so that what works here works there.

use crate::error::Result;
use crate::keys::{KeyKind, KeyPair};
use crate::mpi::Install;
use crate::spec::{FileSpec, HostSpec};

const HOME: &str = "/home/mpiuser";
const UID: u32 = 1000;

/// A TrainJob of the shipped runtimes: uid 1000, keys in /home/mpiuser/.ssh.
#[derive(Debug, Clone)]
pub struct TrainJob {
    name: String,
    install: Install,
    nodes: usize,
    slots: usize,
    key: KeyPair,
    launcher_is_node: bool,
}

impl TrainJob {
    /// A job in namespace `default` with a fresh key.
    pub fn new(
        name: impl Into<String>,
        install: Install,
        nodes: usize,
        slots: usize,
    ) -> Result<Self> {
        let key = KeyPair::generate(KeyKind::EcdsaP521)?;
        Ok(Self { name: name.into(), install, nodes, slots, key, launcher_is_node: false })
    }

    /// `runLauncherAsNode`: the launcher is in the hostfile, as its last host.
    #[must_use]
    pub fn launcher_is_node(mut self) -> Self {
        self.launcher_is_node = true;
        self
    }

    /// The pods of the replicated job `node`, with their command left open.
    pub fn all_nodes(&self) -> Vec<HostSpec> {
        (0..self.nodes).map(|index| self.pod(&self.node(index), index)).collect()
    }

    /// The launcher pod, with the hostfile and the variables that Trainer sets for every MPI.
    pub fn launcher(&self) -> HostSpec {
        self.pod(&self.launcher_name(), 0)
            .file(FileSpec::new("/etc/mpi/hostfile", self.hostfile()).mode(0o444))
            .env("OMPI_MCA_orte_keep_fqdn_hostnames", "true")
            .env("OMPI_MCA_orte_default_hostfile", "/etc/mpi/hostfile")
            .env("OMPI_MCA_plm_rsh_args", "-o ConnectionAttempts=10")
            .env("OMPI_MCA_orte_set_default_slots", self.slots.to_string())
    }

    /// The content of /etc/mpi/hostfile: short names, whatever the MPI.
    pub fn hostfile(&self) -> String {
        let launcher = self.launcher_is_node.then(|| self.launcher_name());
        let hosts = (0..self.nodes).map(|index| self.node(index)).chain(launcher);
        hosts.map(|host| format!("{host}.{} slots={}\n", self.name, self.slots)).collect()
    }

    fn node(&self, index: usize) -> String {
        format!("{}-node-0-{index}", self.name)
    }

    fn launcher_name(&self) -> String {
        format!("{}-launcher-0-0", self.name)
    }

    fn pod(&self, name: &str, index: usize) -> HostSpec {
        // The private key has the group of `fsGroup` and is closed to others.
        let files = self.key.files(&format!("{HOME}/.ssh"), 0o644).map(|file| {
            let is_private = file.path.ends_with("id_rsa");
            if is_private { file.mode(0o640) } else { file }
        });
        HostSpec::new(name)
            .domain(format!("{}.default.svc.cluster.local", self.name))
            .mpi(self.install)
            .restricted(UID)
            .home(HOME)
            .files(files)
            .env("JOB_COMPLETION_INDEX", index.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostfile_has_short_names_and_the_launcher_last() {
        let job = TrainJob::new("tune", Install::Mpich5, 1, 2).unwrap();
        assert_eq!(job.hostfile(), "tune-node-0-0.tune slots=2\n");
        assert_eq!(
            job.launcher_is_node().hostfile(),
            "tune-node-0-0.tune slots=2\ntune-launcher-0-0.tune slots=2\n"
        );
    }
}
