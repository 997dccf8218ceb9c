//! A host: boot it, run commands in it, kill it, cut it off, move it to another address.
//!
//! Must not decide what a test means: it offers what a cluster does to a pod, and nothing more.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::sethostname;

use crate::cgroup::{self, Cgroup, Limits};
use crate::command::Cmd;
use crate::error::{Doing, LabError, Result};
use crate::ids;
use crate::lab::Site;
use crate::namespace::{self, HostNamespaces};
use crate::network::Port;
use crate::privilege::Privileges;
use crate::process::{Launch, Output, Proc};
use crate::procfs::{self, ProcessInfo};
use crate::rootfs::Rootfs;
use crate::spec::HostSpec;

/// The end of a whole PID namespace takes longer than this only if the machine is stuck.
const DEATH: Duration = Duration::from_secs(20);

/// A host of a lab. Cheap to clone; it ends with its [`crate::Lab`].
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spec: HostSpec,
    index: usize,
    site: Arc<Site>,
    cgroup: Cgroup,
    launches: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    port: Arc<Port>,
    cut: bool,
    up: Option<Arc<Up>>,
}

/// What exists only while a host is up.
#[derive(Debug)]
struct Up {
    first: Arc<Proc>,
    namespaces: Arc<HostNamespaces>,
    pid_namespace: u64,
}

impl Host {
    pub(crate) fn new(site: Arc<Site>, spec: HostSpec, index: usize, port: Port) -> Result<Self> {
        ids::here().check(&spec.name, spec.uid, spec.gid)?;
        for (uid, gid) in spec.files.iter().filter_map(|file| file.owner) {
            ids::here().check(&spec.name, uid, gid)?;
        }
        let limits = Limits { memory: spec.memory, cpu: spec.cpus };
        let cgroup = Cgroup::new(site.home.id(), &spec.name, limits)?;
        let state = Mutex::new(State { port: Arc::new(port), cut: false, up: None });
        let inner = Inner { spec, index, site, cgroup, launches: AtomicUsize::new(0), state };
        let host = Self { inner: Arc::new(inner) };
        let log = host.termination_log_path();
        fs::write(&log, "").doing(|| format!("make {}", log.display()))?;
        fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .doing(|| format!("open up {}", log.display()))?;
        Ok(host)
    }

    /// The short name, which is also the hostname.
    pub fn name(&self) -> &str {
        &self.inner.spec.name
    }

    /// The name with the domain, where the host has one; the short name otherwise.
    pub fn full_name(&self) -> String {
        self.inner.spec.full_name()
    }

    /// The environment that its processes start with.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.inner.spec.environment()
    }

    /// The host's present address.
    pub fn address(&self) -> Ipv4Addr {
        self.state().port.address
    }

    /// Starts `command` as PID 1. The host must be down.
    pub fn boot(&self, command: Cmd) -> Result<Arc<Proc>> {
        self.start(command, false)
    }

    /// Starts a PID 1 that does nothing but reap, for a host whose commands come by [`Host::spawn`].
    pub fn boot_idle(&self) -> Result<()> {
        self.start(Cmd::new("sleep").arg("infinity").as_lab(), true).map(drop)
    }

    fn start(&self, command: Cmd, reaps: bool) -> Result<Arc<Proc>> {
        let mut state = self.state();
        if state.up.as_ref().is_some_and(|up| up.first.ended().is_none()) {
            return Err(LabError::Up { what: "boot", host: self.name().into() });
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (inner, port) = (Arc::clone(&self.inner), Arc::clone(&state.port));
        let log = self.termination_log_path();
        let launch = self.launch(command, true, reaps)?;
        let place = move || {
            let opened = inner.settle(&port, log)?;
            // The receiver waits for as long as this thread can fail.
            let _ = sender.send(opened);
            Ok(())
        };
        let first = Arc::new(launch.start(place)?);
        let lost = || LabError::Down { host: self.name().into() };
        let [mount, uts, ipc] = receiver.recv_timeout(DEATH).map_err(|_| lost())?;
        let proc = PathBuf::from(format!("/proc/{}/ns", first.pid()));
        let open = |kind: &str| fs::File::open(proc.join(kind)).map(OwnedFd::from);
        // If it has ended already there is no namespace left to enter; the caller sees that from the process.
        if let Ok(pid) = open("pid") {
            let pid_namespace = inode(&pid)?;
            let cgroup =
                if cgroup::version() == cgroup::Version::Two { open("cgroup").ok() } else { None };
            let namespaces = Arc::new(HostNamespaces { mount, uts, ipc, pid, cgroup });
            state.up = Some(Arc::new(Up { first: Arc::clone(&first), namespaces, pid_namespace }));
        }
        Ok(first)
    }

    fn launch(&self, command: Cmd, first: bool, reaps: bool) -> Result<Launch> {
        let spec = &self.inner.spec;
        let number = self.inner.launches.fetch_add(1, Ordering::Relaxed);
        let program =
            command.argv.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
        let program: String =
            program.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(20).collect();
        let logs = self
            .inner
            .site
            .home
            .path()
            .join("logs")
            .join(format!("{}-{number:04}-{program}", self.name()));
        Ok(Launch {
            env: spec.environment(),
            privileges: if command.as_lab { Privileges::lab() } else { spec.privileges() },
            cgroups: self.inner.cgroup.joins()?,
            first,
            reaps,
            logs,
            command,
        })
    }

    /// Starts a command in the host, as its user. Its parent is outside the host, as with `kubectl exec`.
    pub fn spawn(&self, command: Cmd) -> Result<Proc> {
        let up = self.up()?;
        let port = Arc::clone(&self.state().port);
        let place = move || {
            namespace::enter_net(&port.net)?;
            up.namespaces.enter()
        };
        self.launch(command, false, false)?.start(place)
    }

    /// Runs a command in the host to its end; past the limit it is killed, and the error shows its output.
    pub fn run(&self, command: Cmd, limit: Duration) -> Result<Output> {
        let process = self.spawn(command)?;
        let output = process.output(limit);
        if output.is_err() {
            process.signal_group(Signal::SIGKILL);
        }
        output
    }

    /// Whether PID 1 is alive.
    pub fn is_up(&self) -> bool {
        self.up().is_ok()
    }

    /// Kills PID 1 with SIGKILL, and so every process of the host; returns when all are gone.
    /// The network namespace stays, as a pod's does when its container dies.
    pub fn kill(&self) -> Result<()> {
        let Some(up) = self.state().up.take() else { return Ok(()) };
        up.first.signal(Signal::SIGKILL);
        up.first.wait(DEATH).map(drop)
    }

    /// Starts to kill without waiting; for the end of a lab.
    pub(crate) fn kill_soon(&self) {
        if let Some(up) = &self.state().up {
            up.first.signal(Signal::SIGKILL);
        }
    }

    /// The host's processes, PID 1 first; none if it is down.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        self.up().map(|up| procfs::processes(up.pid_namespace)).unwrap_or_default()
    }

    /// Signals every process but PID 1 whose command line contains `part`; returns how many there were.
    pub fn kill_matching(&self, part: &str, signal: Signal) -> usize {
        let matching = |info: &ProcessInfo| info.pid != 1 && info.cmdline.contains(part);
        let found: Vec<_> = self.processes().into_iter().filter(matching).collect();
        found.iter().filter(|info| kill(info.outer, signal).is_ok()).count()
    }

    /// Waits until the host's processes satisfy `wanted`.
    pub fn wait_for_processes(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&[ProcessInfo]) -> bool,
    ) -> Result<Vec<ProcessInfo>> {
        procfs::wait(&format!("{what} on {}", self.name()), limit, || self.processes(), wanted)
    }

    /// Waits until no process but PID 1 has `part` in its command line.
    pub fn wait_until_gone(&self, part: &str, limit: Duration) -> Result<()> {
        let gone = |found: &[ProcessInfo]| {
            !found.iter().any(|info| info.pid != 1 && info.cmdline.contains(part))
        };
        self.wait_for_processes(&format!("no process with {part:?}"), limit, gone).map(drop)
    }

    /// Runs `work` on a thread inside the host's network only, with the test's own files and powers.
    /// A socket that it makes belongs to the host's network for good, wherever it is used afterwards.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let port = Arc::clone(&self.state().port);
        namespace::in_net(&port.net, || Ok(work()))
    }

    /// Cuts the host off: everything to and from it falls silent, and no side is told. A second network stays.
    pub fn cut(&self) -> Result<()> {
        let mut state = self.state();
        if !state.cut {
            self.inner.site.switch.cut(&state.port)?;
            state.cut = true;
        }
        Ok(())
    }

    /// Undoes [`Host::cut`].
    pub fn heal(&self) -> Result<()> {
        let mut state = self.state();
        if state.cut {
            self.inner.site.switch.heal(&state.port)?;
            state.cut = false;
        }
        Ok(())
    }

    /// Swallows every attempt from `address` to open a TCP connection to this host; connections in the other
    /// direction work, as behind a NetworkPolicy for ingress. [`Host::heal`] does not undo it; not together with
    /// [`Host::cut`].
    pub fn bar(&self, address: Ipv4Addr) -> Result<()> {
        self.inner.site.switch.bar(&self.state().port, address)
    }

    /// Gives the host, which must be down, a new network at another address: the pod was rescheduled.
    /// DNS keeps the old one until it is told.
    pub fn move_to(&self, address: Ipv4Addr) -> Result<()> {
        let mut state = self.state();
        if state.up.as_ref().is_some_and(|up| up.first.ended().is_none()) {
            return Err(LabError::Up { what: "move", host: self.name().into() });
        }
        self.inner.site.switch.unplug(&state.port)?;
        let port = self.inner.site.switch.plug(&[(self.inner.index, address)])?.pop();
        let port = port.ok_or_else(|| LabError::Down { host: self.name().into() })?;
        self.inner.site.switch.add_interfaces(&port, &self.inner.spec)?;
        state.port = Arc::new(port);
        state.cut = false;
        Ok(())
    }

    /// Publishes the host's full name at its present address.
    pub fn publish(&self) -> Result<()> {
        self.inner.site.dns.publish(&self.full_name(), self.address())
    }

    /// Takes the host's full name out of DNS.
    pub fn withdraw(&self) -> Result<()> {
        self.inner.site.dns.withdraw(&self.full_name())
    }

    /// How many processes of the host the kernel's OOM killer has taken; none without a memory controller.
    pub fn oom_kills(&self) -> Option<u64> {
        self.inner.cgroup.oom_kills()
    }

    /// The most memory the host has used, in bytes; none without a memory controller.
    pub fn memory_peak(&self) -> Option<u64> {
        self.inner.cgroup.memory_peak()
    }

    /// The CPU time, user and system, of every process that the host has had; none where it is not counted.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.inner.cgroup.cpu_time()
    }

    /// What has been written to /dev/termination-log.
    pub fn termination_log(&self) -> String {
        fs::read_to_string(self.termination_log_path()).unwrap_or_default()
    }

    fn termination_log_path(&self) -> PathBuf {
        self.inner.site.home.path().join("files").join(format!("{}.termination-log", self.name()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<Arc<Up>> {
        let up = self.state().up.clone().filter(|up| up.first.ended().is_none());
        up.ok_or_else(|| LabError::Down { host: self.name().into() })
    }
}

impl Inner {
    /// Makes the calling thread a new host but for its PID namespace, into which its next child is born.
    fn settle(&self, port: &Port, termination_log: PathBuf) -> Result<[OwnedFd; 3]> {
        namespace::enter_net(&port.net)?;
        let kinds = CloneFlags::CLONE_FS
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID;
        unshare(kinds).doing(|| "make the host's namespaces".into())?;
        sethostname(&self.spec.name).doing(|| "set the hostname".into())?;
        let opened = [namespace::own("mnt")?, namespace::own("uts")?, namespace::own("ipc")?];
        let rootfs = Rootfs {
            spec: &self.spec,
            address: port.address,
            mount_point: self.site.home.path().join("mount"),
            visible: &self.site.visible,
            shared: self.site.home.shared(),
            termination_log,
            cgroup: self.cgroup.memory_dir().map(Into::into),
        };
        rootfs.enter()?;
        Ok(opened)
    }
}

fn inode(fd: &OwnedFd) -> Result<u64> {
    Ok(nix::sys::stat::fstat(fd).doing(|| "look at a namespace".into())?.st_ino)
}
