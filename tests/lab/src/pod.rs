//! Pods as real containers: a host's shape given to podman the way a kubelet gives a pod's to its runtime.
//!
//! Must not look into a container but from outside: what is in it comes from an image and the shape alone.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::command::Cmd;
use crate::error::{Doing, Result};
use crate::lab::{Lab, Site};
use crate::namespace;
use crate::podman::{self, Podman};
use crate::privilege::{Caps, Privileges};
use crate::process::{Launch, Output, Proc};
use crate::procfs::{self, ProcessInfo};
use crate::spec::{FileSpec, HostSpec};

/// Where a volume's present files are, in the way of Kubernetes: a link to the directory of this version.
const VERSION: &str = "..2026_01_01_00_00_00.1";

/// Containers on a private network of a lab, which resolve names by the lab's DNS.
#[derive(Debug)]
pub struct Pods {
    podman: Arc<Podman>,
    site: Arc<Site>,
    count: AtomicUsize,
    started: Mutex<Vec<String>>,
    played: Mutex<Vec<String>>,
}

/// A running (or ended) container.
#[derive(Debug)]
pub struct Pod {
    /// `podman run`, which gives the container's output and ends with its exit code.
    pub process: Proc,
    name: String,
    full_name: String,
    address: Ipv4Addr,
    container: String,
    /// Not that of a manifest's Pod.
    termination_log: Option<PathBuf>,
    podman: Arc<Podman>,
    site: Arc<Site>,
}

impl Pods {
    /// A network for containers beside the lab's own. Fails where podman cannot run.
    pub fn new(lab: &Lab) -> Result<Self> {
        let site = Arc::clone(lab.site());
        let net = site.switch.net().try_clone().doing(|| "keep the network".into())?;
        let podman = Arc::new(Podman::new(net, site.home.path(), site.home.id())?);
        Ok(Self {
            podman,
            site,
            count: AtomicUsize::new(0),
            started: Mutex::default(),
            played: Mutex::default(),
        })
    }

    /// Starts a container of `image`. Of the shape, an MPI install and what is taken away have no meaning here; each
    /// directory of files becomes a volume, which hides what the image has there.
    pub fn start(&self, spec: &HostSpec, image: &str, command: &PodCommand) -> Result<Pod> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let container = format!("{}{number}-{}", self.prefix(), spec.name);
        let dir = self.site.home.path().join("files").join(&container);
        let address = spec.address.unwrap_or_else(|| address_of(number));
        let shape = Shape { spec, address, dir: &dir };
        let options = shape.options()?;
        let identity = ["--name", &container, "--ip", &address.to_string()].map(String::from);
        let (entrypoint, words) = command.words();
        let argv = [podman::script().display().to_string()]
            .into_iter()
            .chain(self.podman.words())
            .chain(identity)
            .chain(options)
            .chain(entrypoint)
            .chain([format!("localhost/muster-test/{image}")])
            .chain(words);
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(container.clone());
        let process = self.spawn(argv, &container)?;
        Ok(Pod {
            process,
            name: spec.name.clone(),
            full_name: spec.full_name(),
            address,
            container,
            termination_log: Some(dir.join("termination-log")),
            podman: Arc::clone(&self.podman),
            site: Arc::clone(&self.site),
        })
    }
}

impl Pods {
    /// Runs a manifest of one Pod by `podman kube play`. In it the Pod has the short form of `full_name` after
    /// [`Pods::prefix`] for a name, and one container of this name. The process is then `podman logs --follow`.
    pub fn play(&self, manifest: &Path, full_name: &str, container: &str) -> Result<Pod> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let address = address_of(number);
        let name = full_name.split('.').next().unwrap_or(full_name);
        let pod = format!("{}{name}", self.prefix());
        self.played.lock().unwrap_or_else(PoisonError::into_inner).push(pod.clone());
        let file = manifest.display().to_string();
        let ip = address.to_string();
        let words = ["kube", "play", "--network", self.podman.network(), "--ip", &ip, &file];
        self.podman.run(&words.map(String::from))?;
        let container = format!("{pod}-{container}");
        let follow = ["logs", "--follow", &container].map(String::from);
        let argv = [podman::script().display().to_string()].into_iter().chain(follow);
        Ok(Pod {
            process: self.spawn(argv, &container)?,
            name: name.into(),
            full_name: full_name.into(),
            address,
            termination_log: None,
            container,
            podman: Arc::clone(&self.podman),
            site: Arc::clone(&self.site),
        })
    }

    /// What the names of pods begin with, so that no other lab has them.
    pub fn prefix(&self) -> String {
        format!("{}{}-", podman::NAME, self.site.home.id())
    }

    /// Starts podman in the lab's network, as a process to watch.
    fn spawn(&self, argv: impl IntoIterator<Item = String>, name: &str) -> Result<Proc> {
        let path = std::env::var("PATH").unwrap_or_default();
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
        let cache = crate::mpi::cache().display().to_string();
        let launch = Launch {
            command: Cmd::from_iter(argv),
            env: [("PATH", path), ("HOME", home), ("MUSTER_CACHE", cache)]
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
            privileges: Privileges::lab(),
            cgroups: Vec::new(),
            first: false,
            reaps: false,
            logs: self.site.home.path().join("logs").join(name),
        };
        let podman = Arc::clone(&self.podman);
        launch.start(move || namespace::enter_net(podman.net()))
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        let started =
            std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        let played =
            std::mem::take(&mut *self.played.lock().unwrap_or_else(PoisonError::into_inner));
        for removed in [self.podman.remove(&started), self.podman.remove_pods(&played)] {
            if let Err(error) = removed {
                eprintln!("lab: failed to {error}");
            }
        }
    }
}

/// What a container runs.
#[derive(Debug, Clone, Default)]
pub struct PodCommand {
    /// In place of the image's entrypoint, as a pod's `command`.
    pub command: Option<String>,
    /// In place of the image's arguments, as a pod's `args`.
    pub args: Vec<String>,
}

impl PodCommand {
    /// The image's entrypoint with these arguments.
    pub fn args<const N: usize>(words: [&str; N]) -> Self {
        Self { command: None, args: words.map(String::from).to_vec() }
    }

    /// This program with these arguments.
    pub fn program<const N: usize>(program: &str, words: [&str; N]) -> Self {
        Self { command: Some(program.into()), ..Self::args(words) }
    }

    fn words(&self) -> (Vec<String>, Vec<String>) {
        let entrypoint = self.command.iter().flat_map(|word| ["--entrypoint".into(), word.clone()]);
        (entrypoint.collect(), self.args.clone())
    }
}

impl Pod {
    /// The short name, which is also the hostname.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the private network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Publishes its full name in the lab's DNS, in place of an earlier container of this name.
    pub fn publish(&self) -> Result<()> {
        self.site.dns.change(&self.full_name, self.address)
    }

    /// `podman kill`: SIGKILL to the first process, and so to all.
    pub fn kill(&self) -> Result<()> {
        self.podman.run(&["kill", &self.container].map(String::from)).map(drop)
    }

    /// `podman stop`: SIGTERM, and SIGKILL after so long.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        let seconds = grace.as_secs().to_string();
        self.podman.run(&["stop", "--time", &seconds, &self.container].map(String::from)).map(drop)
    }

    /// Runs a shell line in the container as its user, as `kubectl exec` does; returns its stdout.
    pub fn exec(&self, line: &str) -> Result<String> {
        self.podman.run(&["exec", &self.container, "sh", "-c", line].map(String::from))
    }

    /// Waits for the end of the container, and for what it wrote.
    pub fn output(&self, limit: Duration) -> Result<Output> {
        self.process.output(limit)
    }

    /// Waits for the end of the container, on podman's word; returns its exit code.
    pub fn exit_code(&self) -> Result<String> {
        let words = ["wait", &self.container].map(String::from);
        self.podman.run(&words).map(|code| code.trim().to_owned())
    }

    /// What the container has left as its termination message.
    pub fn termination_message(&self) -> String {
        self.termination_log
            .as_ref()
            .and_then(|path| fs::read_to_string(path).ok())
            .unwrap_or_default()
    }

    /// Waits until the container's processes, PID 1 first, satisfy `wanted`.
    pub fn wait_for_processes(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&[ProcessInfo]) -> bool,
    ) -> Result<Vec<ProcessInfo>> {
        let words = ["inspect", "--format", "{{.State.Pid}}", &self.container].map(String::from);
        let pid = self.podman.run(&words)?;
        let path = Path::new("/proc").join(pid.trim()).join("ns/pid");
        let namespace = fs::metadata(&path).doing(|| format!("look at {}", path.display()))?.ino();
        procfs::wait(
            &format!("{what} in {}", self.name),
            limit,
            || procfs::processes(namespace),
            wanted,
        )
    }
}

/// 10.78.1.1 onwards.
fn address_of(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, (1 + number / 250 % 250) as u8, (1 + number % 250) as u8)
}

/// A host's shape on its way to the options of `podman run`.
struct Shape<'s> {
    spec: &'s HostSpec,
    address: Ipv4Addr,
    /// For the files that become volumes.
    dir: &'s Path,
}

impl Shape<'_> {
    fn options(&self) -> Result<Vec<String>> {
        let spec = self.spec;
        // A kubelet makes no passwd entry for a uid that the image does not know.
        // An image's health check is for runtimes that have systemd or a kubelet to call it.
        let mut words = ["--passwd=false", "--no-healthcheck"].map(String::from).to_vec();
        let mut give = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        give("hostname", spec.name.clone());
        give("user", format!("{}:{}", spec.uid, spec.gid));
        give("shm-size", spec.shm.to_string());
        if matches!(spec.caps, Caps::None) {
            give("cap-drop", "ALL".into());
        }
        if spec.no_new_privileges {
            give("security-opt", "no-new-privileges".into());
        }
        if let Some(bytes) = spec.memory {
            give("memory", bytes.to_string());
            give("memory-swap", bytes.to_string());
        }
        if let Some(cpus) = spec.cpus {
            give("cpus", cpus.to_string());
        }
        for (name, value) in &spec.env {
            give("env", format!("{name}={value}"));
        }
        for (source, target) in &spec.binds {
            give("volume", format!("{}:{}:ro", source.display(), target.display()));
        }
        for (source, target) in self.volumes()? {
            give("volume", format!("{}:{}:ro", source.display(), target.display()));
        }
        for (name, content, mode) in [
            ("hosts", spec.hosts_file(self.address), "ro"),
            ("resolv.conf", spec.resolv_conf(), "ro"),
            ("termination-log", String::new(), "rw"),
        ] {
            let path = self.dir.join(name);
            fs::write(&path, content).doing(|| format!("write {}", path.display()))?;
            let target = if mode == "rw" { "/dev" } else { "/etc" };
            if mode == "rw" {
                fs::set_permissions(&path, PermissionsExt::from_mode(0o666))
                    .doing(|| format!("open up {}", path.display()))?;
            }
            give("volume", format!("{}:{target}/{name}:{mode}", path.display()));
        }
        if spec.read_only_root {
            // As a Pod with an emptyDir at /tmp: podman by itself would leave /run and /var/tmp writable.
            words.extend(
                ["--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp"].map(String::from),
            );
        }
        Ok(words)
    }

    /// A volume for each directory of files.
    fn volumes(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut volumes: BTreeMap<&Path, Vec<&FileSpec>> = BTreeMap::new();
        for file in &self.spec.files {
            volumes.entry(file.path.parent().unwrap_or(Path::new("/"))).or_default().push(file);
        }
        fs::create_dir_all(self.dir).doing(|| format!("make {}", self.dir.display()))?;
        let named = volumes.into_iter().enumerate();
        named
            .map(|(number, (target, files))| {
                let volume = self.dir.join(format!("volume-{number}"));
                self.fill(&volume, &files)?;
                Ok((volume, target.to_path_buf()))
            })
            .collect()
    }

    /// Writes a volume as the kubelet lays secrets and config maps out: links to the files of a version.
    fn fill(&self, volume: &Path, files: &[&FileSpec]) -> Result<()> {
        let version = volume.join(VERSION);
        fs::create_dir_all(&version).doing(|| format!("make {}", version.display()))?;
        let link = |target: &Path, name: &Path| {
            symlink(target, volume.join(name)).doing(|| format!("link {}", name.display()))
        };
        link(Path::new(VERSION), Path::new("..data"))?;
        for file in files {
            let Some(name) = file.path.file_name() else { continue };
            let path = version.join(name);
            let doing = || format!("write {}", path.display());
            fs::write(&path, &file.content).doing(doing)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(file.mode)).doing(doing)?;
            let (uid, gid) = file.owner.unwrap_or((0, self.spec.gid));
            chown(&path, Some(uid), Some(gid)).doing(doing)?;
            link(&Path::new("..data").join(name), Path::new(name))?;
        }
        Ok(())
    }
}
