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

/// The MAC address of their bridge.
const BRIDGE: &str = "02:4d:0a:4e:00:01";

/// Marks a container as a lab's, with the lab's directory.
const LABEL: &str = "muster-lab";

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
    owner: PathBuf,
    /// Unique on the machine, as podman remembers addresses by it.
    network: String,
}

impl Podman {
    /// podman for the lab in `home`, with a network whose containers reach the namespace `net`.
    pub(crate) fn new(net: OwnedFd, home: &Path, id: &str) -> Result<Self> {
        let made = Self {
            net,
            networks: home.join("networks"),
            owner: home.to_path_buf(),
            network: format!("lab-{id}"),
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
        let run = ["run", "--rm", "--network", &self.network, "--label"].map(String::from);
        let label = format!("{LABEL}={}", self.owner.display());
        self.networks_flag().into_iter().chain(run).chain([label]).collect()
    }

    /// The same for pods, each with its containers.
    pub(crate) fn remove_pods(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let words = ["pod", "rm", "--force", "--ignore", "--time", "0"].map(String::from);
        self.run(&[&words[..], names].concat()).map(drop)
    }

    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    pub(crate) fn net(&self) -> &OwnedFd {
        &self.net
    }

    fn networks_flag(&self) -> [String; 2] {
        ["--network-config-dir".into(), self.networks.display().to_string()]
    }

    /// Removes the containers of labs whose directory is gone.
    fn sweep(&self) -> Result<()> {
        let format = format!("{{{{.ID}}}} {{{{index .Labels {LABEL:?}}}}}");
        let filter = format!("label={LABEL}");
        let words = ["ps", "--all", "--filter", &filter, "--format", &format].map(String::from);
        for line in self.run(&words)?.lines() {
            if let Some((id, owner)) = line.split_once(' ')
                && !Path::new(owner).exists()
            {
                self.remove(&[id.to_owned()])?;
            }
        }
        Ok(())
    }

    /// Kills and removes containers; those that are gone already do not matter.
    pub(crate) fn remove(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let words = ["rm", "--force", "--ignore", "--time", "0"].map(String::from);
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
