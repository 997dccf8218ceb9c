//! podman with the tests' own store: how it is called, in which network, and what dead labs have left in it.
//!
//! Must not know what a pod is made of.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::{namespace, tool};

/// The subnet of a lab's containers.
const SUBNET: &str = "10.78.0.0/16";

/// The address of their bridge, where podman expects it.
const ADDRESS: &str = "10.78.0.1/16";

/// What the names of containers, pods and networks begin with, before the lab's id.
pub(crate) const NAME: &str = "lab-";

/// The MAC address of their bridge.
const BRIDGE: &str = "02:4d:0a:4e:00:01";

/// How the tests call podman.
pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../podman")
}

/// podman inside a network namespace, where its bridge and its rules live and die.
#[derive(Debug)]
pub(crate) struct Podman {
    net: OwnedFd,
    /// Belongs to the lab, and goes with it.
    networks: PathBuf,
    /// Where labs have their directories.
    labs: PathBuf,
    /// Unique on the machine, as podman remembers addresses by it.
    network: String,
}

impl Podman {
    /// podman for the lab in `home`, with a network whose containers reach the namespace `net`.
    pub(crate) fn new(net: OwnedFd, home: &Path, id: &str) -> Result<Self> {
        let made = Self {
            net,
            networks: home.join("networks"),
            labs: home.parent().unwrap_or(home).to_path_buf(),
            network: format!("{NAME}{id}"),
        };
        made.sweep()?;
        let words = ["network", "create", "--disable-dns", "--subnet", SUBNET, &made.network];
        made.run(&words.map(String::from))?;
        let words = ["network", "inspect", "--format", "{{.NetworkInterface}}", &made.network];
        let bridge = made.run(&words.map(String::from))?;
        // Made before podman would: it leaves the bridge's own address open, which then changes whenever a container
        // with a lower one comes or goes, and for some seconds the others send their packets to the old one.
        let bridge = bridge.trim();
        let lines = format!(
            "link add {bridge} address {BRIDGE} type bridge\n\
             addr add {ADDRESS} dev {bridge}\n\
             link set {bridge} up\n"
        );
        namespace::in_net(&made.net, || tool::ip(&lines))?;
        Ok(made)
    }

    /// Runs podman to its end; returns what it printed.
    pub(crate) fn run(&self, words: &[String]) -> Result<String> {
        let words = [&self.networks_flag()[..], words].concat();
        let script = script().display().to_string();
        namespace::in_net(&self.net, || tool::run(&script, &words, ""))
    }

    /// The words of `podman run` up to the options of a container, without the program.
    pub(crate) fn words(&self) -> Vec<String> {
        let run = ["run", "--rm", "--network", &self.network].map(String::from);
        self.networks_flag().into_iter().chain(run).collect()
    }

    /// The network's name.
    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    /// The namespace of the bridge.
    pub(crate) fn net(&self) -> &OwnedFd {
        &self.net
    }

    fn networks_flag(&self) -> [String; 2] {
        ["--network-config-dir".into(), self.networks.display().to_string()]
    }

    /// Removes the containers and pods of labs whose directory is gone.
    fn sweep(&self) -> Result<()> {
        let names = ["pod", "ps", "--format", "{{.Name}}"].map(String::from);
        self.remove_pods(&self.orphans(&self.run(&names)?))?;
        let names = ["ps", "--all", "--format", "{{.Names}}"].map(String::from);
        self.remove(&self.orphans(&self.run(&names)?))
    }

    /// Of these names, a line each, those of labs that are no more: they begin with `lab-PID-NUMBER-`.
    fn orphans(&self, names: &str) -> Vec<String> {
        let dead = |name: &&str| {
            let mut parts = name.strip_prefix(NAME).unwrap_or_default().split('-');
            let (pid, number) = (parts.next(), parts.next());
            pid.zip(number).is_some_and(|(pid, number)| {
                !pid.is_empty() && !self.labs.join(format!("{pid}-{number}")).exists()
            })
        };
        names.lines().filter(dead).map(String::from).collect()
    }

    /// Kills and removes containers; those that are gone already do not matter.
    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let words = ["rm", "--force", "--ignore", "--time", "0"].map(String::from);
        self.run(&[&words[..], names].concat()).map(drop)
    }

    /// The same for pods, each with its containers.
    pub(crate) fn remove_pods(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let words = ["pod", "rm", "--force", "--ignore", "--time", "0"].map(String::from);
        self.run(&[&words[..], names].concat()).map(drop)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let words = ["network", "rm", "--force", &self.network].map(String::from);
        if let Err(error) = self.run(&words) {
            eprintln!("lab: failed to {error}");
        }
    }
}
