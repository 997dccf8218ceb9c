//! What a host is to be: identity, limits, files, environment. Plain data.
//!
//! Must not do anything: the host does.

use std::net::Ipv4Addr;
use std::path::PathBuf;

pub use nix::sys::resource::Resource;
use nix::unistd::{Gid, Uid};

use crate::ids;
use crate::mpi::Install;
use crate::network::GATEWAY;
use crate::privilege::{Caps, Privileges};

/// A file that a host has from the start.
#[derive(Debug, Clone)]
pub struct FileSpec {
    /// Absolute path inside the host.
    pub path: PathBuf,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, or none for root and the host's group, as Kubernetes mounts a volume with `fsGroup`.
    pub owner: Option<(u32, u32)>,
}

impl FileSpec {
    /// A file with mode 0644.
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), mode: 0o644, owner: None }
    }

    /// Sets the permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the owner.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }
}

/// An interface beyond eth0; the kernel numbers them in the order in which they were asked for.
#[derive(Debug, Clone)]
pub(crate) enum MoreInterface {
    SecondNetwork,
    Decoy(String, Ipv4Addr),
}

/// The shape of a host. `HostSpec::new("w0")` is a root container with the runtime's default capabilities,
/// a writable root, no limits, and no OpenSSH.
#[derive(Debug, Clone)]
pub struct HostSpec {
    pub(crate) name: String,
    pub(crate) domain: Option<String>,
    pub(crate) search: Vec<String>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) more_interfaces: Vec<MoreInterface>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) passwd: Option<(String, String)>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) caps: Caps,
    pub(crate) no_new_privileges: bool,
    pub(crate) limits: Vec<(Resource, u64)>,
    pub(crate) read_only_root: bool,
    pub(crate) memory: Option<u64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) shm: u64,
    pub(crate) openssh: bool,
    pub(crate) install: Option<Install>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) files: Vec<FileSpec>,
    pub(crate) removed: Vec<PathBuf>,
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
}

impl HostSpec {
    /// A host of this short name, with an address of the lab's choosing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domain: None,
            search: ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
                .map(String::from)
                .to_vec(),
            address: None,
            more_interfaces: Vec::new(),
            uid: 0,
            gid: 0,
            passwd: None,
            home: None,
            caps: Caps::Container,
            no_new_privileges: false,
            limits: Vec::new(),
            read_only_root: false,
            memory: None,
            cpus: None,
            shm: 64 << 20,
            openssh: false,
            install: None,
            env: Vec::new(),
            files: Vec::new(),
            removed: Vec::new(),
            binds: Vec::new(),
        }
    }

    /// Its short name.
    #[must_use]
    pub fn short_name(&self) -> &str {
        &self.name
    }

    /// The part of the full name after the short one, such as `pi.default.svc.cluster.local`.
    /// The hostname stays short; /etc/hosts has both, as a kubelet writes it.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Replaces the search list of resolv.conf (default: that of a pod in namespace `default`).
    #[must_use]
    pub fn search<S: Into<String>>(mut self, entries: impl IntoIterator<Item = S>) -> Self {
        self.search = entries.into_iter().map(Into::into).collect();
        self
    }

    /// A fixed address within 10.77.0.0/16.
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.address = Some(address);
        self
    }

    /// A second interface, eth1, in a network of its own: 10.78.0.0/16, the rest as in the first. DNS knows nothing
    /// of it.
    #[must_use]
    pub fn second_network(mut self) -> Self {
        self.more_interfaces.push(MoreInterface::SecondNetwork);
        self
    }

    /// A bridge of this name and address (with the prefix 16) that is up, and reaches nobody: what a container engine
    /// leaves on every node alike.
    #[must_use]
    pub fn decoy(mut self, name: impl Into<String>, address: Ipv4Addr) -> Self {
        self.more_interfaces.push(MoreInterface::Decoy(name.into(), address));
        self
    }

    /// The uid and gid of PID 1 and of every command. The host's passwd has no entry for it, unless
    /// [`HostSpec::passwd`] gives one.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// A passwd entry for the host's uid: its name and shell.
    #[must_use]
    pub fn passwd(mut self, name: impl Into<String>, shell: impl Into<String>) -> Self {
        self.passwd = Some((name.into(), shell.into()));
        self
    }

    /// `$HOME`, made and owned by the host's user. Default: /root for root; for others /, as runtimes set it
    /// for a uid that passwd does not know.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Capabilities (default: those of a container runtime).
    #[must_use]
    pub fn caps(mut self, caps: Caps) -> Self {
        self.caps = caps;
        self
    }

    /// `allowPrivilegeEscalation: false`.
    #[must_use]
    pub fn no_new_privileges(mut self) -> Self {
        self.no_new_privileges = true;
        self
    }

    /// What the "restricted" pod security standard asks: this uid, no capabilities, no new privileges.
    #[must_use]
    pub fn restricted(self, uid: u32) -> Self {
        self.user(uid, uid).caps(Caps::None).no_new_privileges()
    }

    /// A resource limit, soft and hard alike.
    #[must_use]
    pub fn limit(mut self, resource: Resource, value: u64) -> Self {
        self.limits.push((resource, value));
        self
    }

    /// `readOnlyRootFilesystem: true`; /tmp, /run, /dev/shm and the lab's shared directory stay writable.
    #[must_use]
    pub fn read_only_root(mut self) -> Self {
        self.read_only_root = true;
        self
    }

    /// A memory limit in bytes; beyond it the kernel's OOM killer takes a process of the host.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// A CPU limit, in CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// The size of /dev/shm in bytes (default: 64 MiB, as runtimes set it).
    #[must_use]
    pub fn shm(mut self, bytes: u64) -> Self {
        self.shm = bytes;
        self
    }

    /// Leaves the machine's OpenSSH client and server in place. Without this the host has none.
    #[must_use]
    pub fn openssh(mut self) -> Self {
        self.openssh = true;
        self
    }

    /// The one MPI that the host has, with its environment; the machine's other installs are taken away.
    #[must_use]
    pub fn mpi(mut self, install: Install) -> Self {
        self.install = Some(install);
        self
    }

    /// A variable in the environment of PID 1 and of every command.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A file the host has from the start; its directories are made.
    #[must_use]
    pub fn file(mut self, file: FileSpec) -> Self {
        self.files.push(file);
        self
    }

    /// Several files.
    #[must_use]
    pub fn files(mut self, files: impl IntoIterator<Item = FileSpec>) -> Self {
        self.files.extend(files);
        self
    }

    /// Takes a file or a directory of the machine away, such as a daemon that an image lacks.
    #[must_use]
    pub fn without(mut self, path: impl Into<PathBuf>) -> Self {
        self.removed.push(path.into());
        self
    }

    /// Makes a path of the machine visible in the host, read-only.
    #[must_use]
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.binds.push((source.into(), target.into()));
        self
    }

    /// The full name, where the host has a domain; else the short one.
    #[must_use]
    pub fn full_name(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}", self.name),
            None => self.name.clone(),
        }
    }

    /// /etc/hosts as the kubelet writes it.
    pub(crate) fn hosts_file(&self, address: Ipv4Addr) -> String {
        let (name, full) = (&self.name, self.full_name());
        let names = if full == *name { full } else { format!("{full}\t{name}") };
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{address}\t{names}\n")
    }

    /// /etc/resolv.conf as the kubelet writes it, for the lab's DNS.
    pub(crate) fn resolv_conf(&self) -> String {
        format!("search {}\nnameserver {GATEWAY}\noptions ndots:5\n", self.search.join(" "))
    }

    pub(crate) fn home_dir(&self) -> PathBuf {
        self.home
            .clone()
            .unwrap_or_else(|| PathBuf::from(if self.uid == 0 { "/root" } else { "/" }))
    }

    pub(crate) fn privileges(&self) -> Privileges {
        Privileges {
            uid: Uid::from_raw(self.uid),
            gid: Gid::from_raw(self.gid),
            caps: self.caps,
            no_new_privileges: self.no_new_privileges,
            limits: self.limits.clone(),
            set_groups: ids::here().set_groups,
        }
    }

    /// The environment that a container runtime would give, the MPI's, and the host's own, the later ones winning.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut env = vec![
            (
                "PATH".to_owned(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ),
            ("HOSTNAME".to_owned(), self.name.clone()),
            ("HOME".to_owned(), self.home_dir().display().to_string()),
        ];
        if let Some(install) = self.install {
            env.extend(install.environment());
        }
        env.extend(self.env.iter().cloned());
        env
    }
}
