//! Hosts as Kubeflow's mpi-operator (v0.8) makes pods of an MPIJob v2beta1: names, files, environment, key.
//!
//! Must not add anything that the operator does not give, so that what works here works there.

use std::path::Path;

use crate::error::Result;
use crate::keys::{KeyKind, KeyPair};
use crate::mpi::Install;
use crate::spec::{FileSpec, HostSpec};

/// An MPIJob: what its pods have in common.
#[derive(Debug, Clone)]
pub struct MpiJob {
    name: String,
    namespace: String,
    install: Install,
    workers: usize,
    slots: usize,
    uid: u32,
    key: KeyPair,
    launcher_works: bool,
}

impl MpiJob {
    /// A job in namespace `default` with one slot a worker, run by root, with a fresh key.
    pub fn new(name: impl Into<String>, install: Install, workers: usize) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            namespace: "default".into(),
            install,
            workers,
            slots: 1,
            uid: 0,
            key: KeyPair::generate(KeyKind::EcdsaP521)?,
            launcher_works: false,
        })
    }

    /// `slotsPerWorker`.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// The non-root pattern: this uid without passwd entry or privileges, keys in /home/mpiuser/.ssh, mode 0644.
    #[must_use]
    pub fn non_root(mut self, uid: u32) -> Self {
        self.uid = uid;
        self
    }

    /// `runLauncherAsWorker`: the launcher is the hostfile's first host.
    #[must_use]
    pub fn launcher_works(mut self) -> Self {
        self.launcher_works = true;
        self
    }

    /// Another key pair.
    #[must_use]
    pub fn key(mut self, key: KeyPair) -> Self {
        self.key = key;
        self
    }

    /// The key pair of all pods.
    pub fn key_pair(&self) -> &KeyPair {
        &self.key
    }

    /// The directory that the key is mounted at.
    pub fn ssh_dir(&self) -> &'static str {
        if self.uid == 0 { "/root/.ssh" } else { "/home/mpiuser/.ssh" }
    }

    /// The headless Service's full name.
    pub fn service(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }

    /// The worker's name as the hostfile has it: without the cluster's domain.
    pub fn worker_name(&self, index: usize) -> String {
        self.listed(&format!("{}-worker-{index}", self.name))
    }

    fn listed(&self, pod: &str) -> String {
        format!("{pod}.{}.{}.svc", self.name, self.namespace)
    }

    /// A worker pod, with its command left open.
    pub fn worker(&self, index: usize) -> HostSpec {
        let mut search = self.search();
        search.push(self.service());
        self.pod(format!("{}-worker-{index}", self.name), "worker").search(search)
    }

    /// All worker pods.
    pub fn all_workers(&self) -> Vec<HostSpec> {
        (0..self.workers).map(|index| self.worker(index)).collect()
    }

    /// The launcher pod, with the hostfile, the discovery script and the MPI family's variables.
    pub fn launcher(&self) -> HostSpec {
        let discover = self
            .hosts()
            .fold("#!/bin/sh\n".to_owned(), |text, host| format!("{text}echo {host}\n"));
        let spec = self
            .pod(format!("{}-launcher", self.name), "launcher")
            .search(self.search())
            .file(FileSpec::new("/etc/mpi/hostfile", self.hostfile()).mode(0o444))
            .file(FileSpec::new("/etc/mpi/discover_hosts.sh", discover).mode(0o555))
            // The operator blanks these on launchers, so that they see no GPU.
            .env("NVIDIA_VISIBLE_DEVICES", "")
            .env("NVIDIA_DRIVER_CAPABILITIES", "");
        self.family().into_iter().fold(spec, |spec, (name, value)| spec.env(name, value))
    }

    /// The content of /etc/mpi/hostfile.
    pub fn hostfile(&self) -> String {
        let line = |host| match self.install.is_hydra() {
            true => format!("{host}:{}\n", self.slots),
            false => format!("{host} slots={}\n", self.slots),
        };
        self.hosts().map(line).collect()
    }

    fn hosts(&self) -> impl Iterator<Item = String> {
        let launcher = self.launcher_works.then(|| self.listed(&format!("{}-launcher", self.name)));
        launcher.into_iter().chain((0..self.workers).map(|index| self.worker_name(index)))
    }

    fn search(&self) -> Vec<String> {
        vec![
            format!("{}.svc.cluster.local", self.namespace),
            "svc.cluster.local".into(),
            "cluster.local".into(),
        ]
    }

    fn pod(&self, name: String, role: &str) -> HostSpec {
        let spec = HostSpec::new(name)
            .domain(self.service())
            .mpi(self.install)
            .env("K_MPI_JOB_ROLE", role);
        if self.uid == 0 {
            return spec.files(self.key.files(self.ssh_dir(), 0o600));
        }
        let home = Path::new(self.ssh_dir()).parent().unwrap_or(Path::new("/"));
        spec.restricted(self.uid).home(home).files(self.key.files(self.ssh_dir(), 0o644))
    }

    /// The launcher's variables for its MPI family.
    fn family(&self) -> Vec<(&'static str, String)> {
        let slots = self.slots.to_string();
        let hostfile = || "/etc/mpi/hostfile".to_owned();
        let attempts = || "-o ConnectionAttempts=10".to_owned();
        match self.install {
            Install::OpenMpi4 | Install::OpenMpi5 => vec![
                ("OMPI_MCA_orte_keep_fqdn_hostnames", "true".into()),
                ("OMPI_MCA_orte_default_hostfile", hostfile()),
                ("OMPI_MCA_plm_rsh_args", attempts()),
                ("OMPI_MCA_orte_set_default_slots", slots),
            ],
            Install::IntelMpi => vec![
                ("I_MPI_HYDRA_HOST_FILE", hostfile()),
                ("I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS", attempts()),
                ("I_MPI_PERHOST", slots),
            ],
            Install::Mpich4 | Install::Mpich5 => {
                vec![("HYDRA_HOST_FILE", hostfile()), ("HYDRA_LAUNCH_EXTRA_ARGS", attempts())]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostfile_follows_the_family() {
        let job = MpiJob::new("pi", Install::OpenMpi4, 2).unwrap().slots(4);
        assert_eq!(
            job.hostfile(),
            "pi-worker-0.pi.default.svc slots=4\npi-worker-1.pi.default.svc slots=4\n"
        );
        let job = MpiJob::new("pi", Install::Mpich5, 1).unwrap().launcher_works();
        assert_eq!(job.hostfile(), "pi-launcher.pi.default.svc:1\npi-worker-0.pi.default.svc:1\n");
    }
}
