//! A cluster on one machine, for tests, benches and demonstrations: hosts as namespaces on a bridge, a DNS server that
//! behaves like CoreDNS, the five MPI installs, a real OpenSSH.
//!
//! Must not know muster: what it is asked to run is just a command to it.
//!
//! ```no_run
//! use std::time::Duration;
//! use lab::{Cmd, HostSpec, Lab};
//!
//! let lab = Lab::new()?;
//! let hosts = lab.boot_idle((0..4).map(|i| HostSpec::new(format!("w{i}")).domain("pi.default.svc.cluster.local")))?;
//! hosts[1].publish()?;
//! let output = hosts[0].run(Cmd::sh("getent hosts w1.pi.default.svc"), Duration::from_secs(5))?;
//! assert!(output.stdout.contains(&hosts[1].address().to_string()));
//! # Ok::<(), lab::LabError>(())
//! ```

mod cgroup;
mod command;
pub mod dns;
mod error;
mod home;
mod host;
mod ids;
pub mod keys;
mod lab;
mod layer;
pub mod mpi;
mod namespace;
mod network;
pub mod openssh;
pub mod operator;
mod pod;
mod podman;
mod privilege;
mod process;
mod procfs;
mod rootfs;
mod spec;
mod stream;
mod tool;
pub mod trainer;

pub use command::{Cmd, Input};
pub use error::{LabError, Result};
pub use host::Host;
pub use keys::{KeyKind, KeyPair};
pub use lab::{Lab, each};
pub use mpi::Install;
pub use network::{GATEWAY, PREFIX};
pub use nix::sys::signal::Signal;
pub use operator::MpiJob;
pub use pod::{Pod, PodCommand, Pods};
pub use privilege::Caps;
pub use process::{Output, Proc, code};
pub use procfs::ProcessInfo;
pub use spec::{FileSpec, HostSpec, Resource};
pub use stream::Stream;
pub use trainer::TrainJob;
