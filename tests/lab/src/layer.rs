//! A writable layer over the machine's root, made from inside a user namespace, where the machine's root is a stranger:
//! its directories cannot be written to, and nothing with mounts below it can be a lower layer.
//!
//! So there is one overlay for each directory that has no mounts below it, and every directory that shall be written
//! to is made in the upper layer first, where it is ours. What a host shall not have is hidden there as well.
//! Must not need anything that only the machine's root may do.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{AccessFlags, access};

use crate::error::{Doing, Result};

/// Directories that programs in a host may want to write to.
const OPEN: &[&str] = &[
    "/etc",
    "/opt",
    "/srv",
    "/mnt",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/local/lib",
    "/var/lib",
    "/var/log",
];

/// Files larger than this are not copied where a directory cannot be layered.
const COPIED: u64 = 1 << 20;

/// The machine's root, to be laid under a host's.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    /// A directory of ours in memory, empty, for what is written.
    pub(crate) upper: &'a Path,
    /// The same for the kernel's own use, on the same file system.
    pub(crate) work: &'a Path,
    /// Where the new root is.
    pub(crate) root: &'a Path,
    /// What the host gets from elsewhere, so that it need not be layered.
    pub(crate) covered: &'a [&'a str],
}

impl Layer<'_> {
    /// Lays everything; returns the mounts made, as paths in the host. `touched` are the paths where the lab will make
    /// something, `hidden` those that the host shall not have.
    pub(crate) fn lay(&self, touched: &[&Path], hidden: &[PathBuf]) -> Result<Vec<PathBuf>> {
        for path in OPEN.iter().map(Path::new).chain(touched.iter().copied()) {
            self.open(path)?;
        }
        for path in hidden {
            self.hide(path)?;
        }
        let mounts = mount_points()?;
        let mut made = Vec::new();
        self.descend(Path::new("/"), &mounts, &mut made)?;
        Ok(made)
    }

    /// Makes the nearest directory that exists at or above a path ours, with all above it.
    fn open(&self, path: &Path) -> Result<()> {
        let Some(found) = path.ancestors().find_map(|above| fs::canonicalize(above).ok()) else {
            return Ok(());
        };
        let found = if found.is_dir() { found.as_path() } else { found.parent().unwrap_or(&found) };
        let mut here = PathBuf::from("/");
        for part in found.strip_prefix("/").unwrap_or(found) {
            here.push(part);
            let copy = inside(self.upper, &here);
            if copy.exists() {
                continue;
            }
            copy_dir(&here, &copy)?;
        }
        Ok(())
    }

    /// Hides a file or a directory by a whiteout: a device file that stands for "nothing here".
    fn hide(&self, path: &Path) -> Result<()> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let Ok(above) = fs::canonicalize(above) else { return Ok(()) };
        self.open(&above)?;
        let (there, copy) = (above.join(name), inside(self.upper, &above).join(name));
        if there.symlink_metadata().is_err() || copy.symlink_metadata().is_ok() {
            return Ok(());
        }
        mknod(&copy, SFlag::S_IFCHR, Mode::empty(), 0).doing(|| format!("hide {}", path.display()))
    }

    fn descend(&self, dir: &Path, mounts: &[PathBuf], made: &mut Vec<PathBuf>) -> Result<()> {
        let target = inside(self.root, dir);
        // "/" is a directory in memory from the start, so that no mount of the machine below it matters.
        if dir != Path::new("/") {
            copy_dir(dir, &target)?;
            if self.covered.iter().any(|path| dir == Path::new(path)) || !readable(dir) {
                return Ok(());
            }
            if !mounts.iter().any(|mount| mount != dir && mount.starts_with(dir)) {
                let upper = inside(self.upper, dir);
                let work = self.work.join(made.len().to_string());
                for path in [&upper, &work] {
                    fs::create_dir_all(path).doing(|| format!("make {}", path.display()))?;
                }
                overlay(dir, &upper, &work, &target)?;
                made.push(dir.to_path_buf());
                return Ok(());
            }
        }
        let entries = fs::read_dir(dir).doing(|| format!("read {}", dir.display()))?;
        for entry in entries.flatten() {
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            if is_whiteout(&inside(self.upper, &from)) {
                continue;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.descend(&from, mounts, made)?;
            } else if kind.is_symlink() {
                let link = fs::read_link(&from).doing(|| format!("read {}", from.display()))?;
                symlink(link, &to).doing(|| format!("link {}", to.display()))?;
            } else if kind.is_file() && readable(&from) {
                let small = entry.metadata().is_ok_and(|meta| meta.len() <= COPIED);
                if small {
                    fs::copy(&from, &to).doing(|| format!("copy {}", from.display()))?;
                } else {
                    File::create(&to).doing(|| format!("make {}", to.display()))?;
                    mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                        .doing(|| format!("show {}", from.display()))?;
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .doing(|| format!("lay a writable layer over {}", lower.display()))
}

/// Makes a directory with the permissions of another; nothing if it is there already.
fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("make {}", to.display());
    let mode = fs::metadata(from).doing(|| format!("look at {}", from.display()))?.permissions();
    fs::create_dir_all(to).doing(doing)?;
    fs::set_permissions(to, Permissions::from_mode(mode.mode() & 0o7777)).doing(doing)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn readable(path: &Path) -> bool {
    access(path, AccessFlags::R_OK).is_ok()
}

fn is_whiteout(path: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

/// All mount points that the calling thread sees, but for spaces in their names, which nobody has.
fn mount_points() -> Result<Vec<PathBuf>> {
    let path = "/proc/thread-self/mountinfo";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}
