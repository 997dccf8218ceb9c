//! A host's root: the machine's own files under a writable layer in memory, with private /tmp, /run, /dev, /root.
//!
//! Runs on a thread that is already in the host's new mount, UTS and network namespaces.
//! Must not write to the machine's disk: whatever a host changes is gone with it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::cgroup::{self, Version};
use crate::error::{Doing, Result};
use crate::ids;
use crate::layer::{Layer, overlay};
use crate::spec::{FileSpec, HostSpec};

const NONE: Option<&str> = None;

/// Programs of OpenSSH and its stand-ins, taken away unless the host wants them.
const OPENSSH: &[&str] = &[
    "/usr/bin/ssh",
    "/usr/bin/slogin",
    "/usr/bin/scp",
    "/usr/bin/sftp",
    "/usr/bin/rsh",
    "/usr/bin/rlogin",
    "/usr/bin/rcp",
    "/usr/bin/dbclient",
    "/usr/sbin/sshd",
    "/usr/sbin/dropbear",
];

/// Directories that a container has of its own, whatever the machine has in them: path, mode.
const PRIVATE: &[(&str, u32)] = &[
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
    ("/run", 0o755),
    ("/root", 0o700),
    ("/home", 0o755),
    ("/etc/mpi", 0o755),
    ("/etc/ssh", 0o755),
];

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Everything needed to build one root.
#[derive(Debug)]
pub(crate) struct Rootfs<'a> {
    pub(crate) spec: &'a HostSpec,
    pub(crate) address: Ipv4Addr,
    /// An empty directory on the machine, used as the mount point; shared, as every host mounts in its own namespace.
    pub(crate) mount_point: PathBuf,
    /// Visible read-only at the same path: the checkout, the build directory, the MPI installs.
    pub(crate) visible: &'a [PathBuf],
    /// Visible read-write at the same path.
    pub(crate) shared: PathBuf,
    /// A file of the lab that becomes /dev/termination-log.
    pub(crate) termination_log: PathBuf,
    pub(crate) cgroup: Option<PathBuf>,
}

impl Rootfs<'_> {
    /// Builds the root and makes it the calling thread's. /proc is for the host's first process to mount.
    pub(crate) fn enter(&self) -> Result<()> {
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
            .doing(|| "make mounts private".into())?;
        let layers = &self.mount_point;
        tmpfs(layers, "mode=755")?;
        let root = layers.join("root");
        for part in ["upper", "work", "root"] {
            make_dir(&layers.join(part))?;
        }
        let layered = self.layer(layers, &root)?;

        let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        for (path, mode) in PRIVATE {
            make_dir(&at(Path::new(path)))?;
            tmpfs(&at(Path::new(path)), &format!("mode={mode:o}"))?;
        }
        self.devices(&at(Path::new("/dev")))?;
        self.system(&at(Path::new("/sys")))?;
        let shared = (&self.shared, &self.shared, false);
        let seen = self.visible.iter().map(|path| (path, path, true));
        let asked = self.spec.binds.iter().map(|(source, target)| (source, target, true));
        for (source, target, read_only) in seen.chain(asked).chain([shared]) {
            open_path(&at(Path::new("/")), target)?;
            bind(source, &at(target), read_only)?;
        }

        self.open_up(layers, at)?;

        chdir(&root).doing(|| "enter the new root".into())?;
        pivot_root(".", ".").doing(|| "change the root".into())?;
        umount2(".", MntFlags::MNT_DETACH).doing(|| "let go of the machine's root".into())?;
        chdir("/").doing(|| "enter /".into())?;

        self.take_away()?;
        self.identity()?;
        for file in &self.spec.files {
            write(file, self.spec.gid)?;
        }
        if self.spec.read_only_root {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            let private =
                ["/", "/root", "/home", "/etc/mpi", "/etc/ssh", "/var/tmp"].map(Path::new);
            for path in private.into_iter().chain(layered.iter().map(PathBuf::as_path)) {
                mount(NONE, path, NONE, flags, NONE)
                    .doing(|| format!("make {} read-only", path.display()))?;
            }
        }
        Ok(())
    }

    /// Lays the writable layer; returns the mounts made below the root.
    fn layer(&self, layers: &Path, root: &Path) -> Result<Vec<PathBuf>> {
        let (upper, work) = (layers.join("upper"), layers.join("work"));
        if ids::here().limited {
            tmpfs(root, "mode=755")?;
            let covered: Vec<_> =
                PRIVATE.iter().map(|(path, _)| *path).chain(["/dev", "/proc", "/sys"]).collect();
            let spec = self.spec;
            let links = spec.install.into_iter().flat_map(|install| install.links());
            let touched: Vec<_> = links
                .map(|(link, _)| Path::new(link))
                .chain(covered.iter().map(Path::new))
                .chain(spec.home.as_deref())
                .chain(spec.files.iter().map(|file| file.path.as_path()))
                .chain(spec.binds.iter().map(|(_, target)| target.as_path()))
                .chain(self.visible.iter().map(PathBuf::as_path))
                .chain([self.shared.as_path()])
                .collect();
            let layer = Layer { upper: &upper, work: &work, root, covered: &covered };
            let layered = layer.lay(&touched, &self.unwanted())?;
            // In a user namespace /proc can be mounted only where another one can be seen.
            bind(Path::new("/proc"), &root.join("proc"), false)?;
            return Ok(layered);
        }
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .doing(|| "lay a writable layer over the machine's root".into())?;
        Ok(Vec::new())
    }

    /// A container's /dev: the few devices everybody needs, any accelerator the machine has, and a termination log.
    fn devices(&self, dev: &Path) -> Result<()> {
        tmpfs(dev, "mode=755")?;
        let special = fs::read_dir("/dev").doing(|| "read /dev".into())?.flatten();
        let special = special.filter_map(|entry| entry.file_name().into_string().ok());
        let special = special.filter(|name| name.starts_with("nvidia") || name == "infiniband");
        for name in DEVICES.iter().map(|name| (*name).to_owned()).chain(special) {
            let (from, to) = (Path::new("/dev").join(&name), dev.join(&name));
            if from.is_dir() {
                make_dir(&to)?
            } else {
                touch(&to)?
            }
            bind(&from, &to, false)?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            symlink(target, dev.join(name)).doing(|| format!("link /dev/{name}"))?;
        }
        make_dir(&dev.join("shm"))?;
        tmpfs(&dev.join("shm"), &format!("mode=1777,size={}", self.spec.shm))?;
        make_dir(&dev.join("mqueue"))?;
        make_dir(&dev.join("pts"))?;
        let options = Some("newinstance,ptmxmode=0666,mode=0620");
        mount(Some("devpts"), &dev.join("pts"), Some("devpts"), MsFlags::empty(), options)
            .doing(|| "mount /dev/pts".into())?;
        let log = dev.join("termination-log");
        touch(&log)?;
        bind(&self.termination_log, &log, false)
    }

    /// A /sys that shows the host's own network and its own cgroup, as container runtimes mount it.
    fn system(&self, sys: &Path) -> Result<()> {
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("sysfs"), sys, Some("sysfs"), quiet | MsFlags::MS_RDONLY, NONE)
            .doing(|| "mount /sys".into())?;
        let groups = sys.join("fs/cgroup");
        match (cgroup::version(), &self.cgroup) {
            (Version::Two, Some(own)) => bind(own, &groups, true),
            (Version::One, Some(own)) => {
                tmpfs(&groups, "mode=755")?;
                let memory = groups.join("memory");
                make_dir(&memory)?;
                bind(own, &memory, true)
            }
            (_, None) => Ok(()),
        }
    }

    /// What the image would not have.
    fn unwanted(&self) -> Vec<PathBuf> {
        let openssh = OPENSSH.iter().filter(|_| !self.spec.openssh).map(PathBuf::from);
        let other_mpi =
            self.spec.install.into_iter().flat_map(|install| install.foreign()).map(PathBuf::from);
        openssh.chain(other_mpi).chain(self.spec.removed.iter().cloned()).collect()
    }

    /// Lays a writable layer over the read-only directories from which something is to be taken away.
    fn open_up(&self, layers: &Path, at: impl Fn(&Path) -> PathBuf) -> Result<()> {
        let seen = |path: &&Path| self.visible.iter().any(|visible| path.starts_with(visible));
        let folders: BTreeSet<&Path> =
            self.spec.removed.iter().filter_map(|path| path.parent()).filter(seen).collect();
        for (number, folder) in folders.into_iter().enumerate() {
            let own = layers.join(format!("opened-{number}"));
            let (upper, work) = (own.join("upper"), own.join("work"));
            for part in [&own, &upper, &work] {
                make_dir(part)?;
            }
            overlay(&at(folder), &upper, &work, &at(folder))?;
        }
        Ok(())
    }

    /// Removes it. A file that is missing anyway is as good as removed.
    fn take_away(&self) -> Result<()> {
        for path in self.unwanted() {
            if fs::remove_file(&path).is_err() {
                let _ = fs::remove_dir_all(&path);
            }
        }
        if let Some(path) = self.spec.removed.iter().find(|path| path.exists()) {
            // It would be used, and what is tested is its absence.
            let busy = io::Error::from(io::ErrorKind::ResourceBusy);
            return Err(busy).doing(|| format!("take {} away", path.display()));
        }
        if let Some(install) = self.spec.install {
            for (link, target) in install.links() {
                let _ = fs::remove_file(link);
                let _ = symlink(target, link);
            }
        }
        Ok(())
    }

    /// Name resolution as the kubelet writes it, passwd without strangers, a home directory.
    fn identity(&self) -> Result<()> {
        let HostSpec { name, uid, gid, .. } = self.spec;
        let root_owned =
            |path: &str, content: String| write(&FileSpec::new(path, content).owner(0, 0), 0);
        root_owned("/etc/hosts", self.spec.hosts_file(self.address))?;
        root_owned("/etc/hostname", format!("{name}\n"))?;
        root_owned("/etc/resolv.conf", self.spec.resolv_conf())?;

        let home = self.spec.home_dir();
        let accounts = fs::read_to_string("/etc/passwd").doing(|| "read /etc/passwd".into())?;
        let system = |line: &&str| {
            line.split(':').nth(2).and_then(|id| id.parse().ok()).is_some_and(|id: u32| id < 1000)
        };
        let mut passwd: String =
            accounts.lines().filter(system).map(|line| format!("{line}\n")).collect();
        if let Some((login, shell)) = &self.spec.passwd {
            passwd.push_str(&format!("{login}:x:{uid}:{gid}::{}:{shell}\n", home.display()));
        }
        root_owned("/etc/passwd", passwd)?;
        if let Some(home) = &self.spec.home {
            fs::create_dir_all(home).doing(|| format!("make {}", home.display()))?;
            chown(home, Some(*uid), Some(*gid))
                .doing(|| format!("give {} away", home.display()))?;
        }
        Ok(())
    }
}

/// Writes a file with its directories, which are root's and open to read.
fn write(file: &FileSpec, group: u32) -> Result<()> {
    let path = &file.path;
    if let Some(above) = path.parent() {
        make_dir(above)?;
    }
    // Never through a link of the machine's, such as a resolv.conf that lives under /run.
    let _ = fs::remove_file(path);
    fs::write(path, &file.content).doing(|| format!("write {}", path.display()))?;
    let (uid, gid) = file.owner.unwrap_or((0, group));
    chown(path, Some(uid), Some(gid)).doing(|| format!("give {} away", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(file.mode))
        .doing(|| format!("set the mode of {}", path.display()))
}

/// Makes a mount point at `path` below `root`, every directory on the way open to pass for any uid.
fn open_path(root: &Path, path: &Path) -> Result<()> {
    let mut here = root.to_path_buf();
    for part in path.strip_prefix("/").unwrap_or(path) {
        here.push(part);
        if !here.exists() {
            make_dir(&here)?;
        }
        let mode = fs::metadata(&here)
            .doing(|| format!("look at {}", here.display()))?
            .permissions()
            .mode();
        if mode & 0o001 == 0 {
            fs::set_permissions(&here, Permissions::from_mode(mode & 0o7777 | 0o011))
                .doing(|| format!("open up {}", here.display()))?;
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).doing(|| format!("make {}", path.display()))
}

fn touch(path: &Path) -> Result<()> {
    fs::write(path, "").doing(|| format!("make {}", path.display()))
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .doing(|| format!("mount a tmpfs on {}", at.display()))
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    let shown = || format!("show {} at {}", source.display(), target.display());
    mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).doing(shown)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | locked(target);
        mount(NONE, target, NONE, flags, NONE).doing(shown)?;
    }
    Ok(())
}

/// Flags of a mount that root of a user namespace cannot take from it, and so has to repeat.
fn locked(target: &Path) -> MsFlags {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let mut flags = MsFlags::empty();
    if !ids::here().limited {
        return flags;
    }
    let present = statvfs(target).map_or(FsFlags::empty(), |found| found.flags());
    for (has, repeat) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        flags.set(repeat, present.contains(has));
    }
    flags
}
