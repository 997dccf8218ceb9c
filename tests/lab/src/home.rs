//! The lab's directory, and the removal of what a lab whose process died has left.
//!
//! Must not remove anything of a living lab: a lab is alive as long as its lock file is locked.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cgroup;
use crate::error::{Doing, LabError, Result};
use crate::ids;

/// Where labs live: outside /tmp, which is private in every host. In a user namespace its owner's id is appended.
const BASE: &str = "/var/tmp/muster-lab";

/// Keeps the directory of a lab after its end, to look at the logs.
const KEEP: &str = "MUSTER_LAB_KEEP";

/// Only other PID namespaces' labs can have taken a name, so that few attempts are many.
const ATTEMPTS: usize = 1000;

static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// A lab's directory; removed on drop.
#[derive(Debug)]
pub(crate) struct Home {
    id: String,
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Home {
    pub(crate) fn new() -> Result<Self> {
        let base = base()?;
        sweep(&base);
        for _ in 0..ATTEMPTS {
            let id = format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let lock_path = base.join(format!("{id}.lock"));
            let lock = take(&lock_path).map_err(|source| unusable(&base, source))?;
            let Some(lock) = lock else { continue };
            let path = base.join(&id);
            for part in ["logs", "shared", "mount", "files"] {
                fs::create_dir_all(path.join(part)).doing(|| format!("make {}", path.display()))?;
            }
            fs::set_permissions(path.join("shared"), fs::Permissions::from_mode(0o1777))
                .doing(|| format!("open up {}/shared", path.display()))?;
            return Ok(Self { id, path, lock_path, _lock: lock });
        }
        Err(unusable(&base, io::Error::other(format!("all of {ATTEMPTS} lock files are taken"))))
    }

    /// Unique among the living labs of the machine.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Read-write for every host and every uid, at the same path.
    pub(crate) fn shared(&self) -> PathBuf {
        self.path.join("shared")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::env::var_os(KEEP).is_some() {
            eprintln!("lab: kept {}", self.path.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// The directory of this user's labs, made if need be.
fn base() -> Result<PathBuf> {
    let ids = ids::here();
    let base =
        PathBuf::from(if ids.limited { format!("{BASE}-{}", ids.owner) } else { BASE.into() });
    fs::create_dir_all(&base).map_err(|source| unusable(&base, source))?;
    let found = base.symlink_metadata().map_err(|source| unusable(&base, source))?;
    // Anybody may make anything in /var/tmp. The machine's root can use it all the same.
    if ids.limited && !(found.is_dir() && found.uid() == 0) {
        return Err(unusable(&base, io::Error::other("it is not this user's directory")));
    }
    Ok(base)
}

fn unusable(base: &Path, source: io::Error) -> LabError {
    LabError::Base { base: base.to_path_buf(), source, owner: ids::here().owner }
}

/// Makes and locks a lock file; none where somebody else has it, or swept it away in between.
fn take(path: &Path) -> io::Result<Option<File>> {
    let lock = File::create(path)?;
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    let Ok(present) = fs::metadata(path) else { return Ok(None) };
    let same = present.ino() == lock.metadata()?.ino();
    Ok(same.then_some(lock))
}

/// Ends and removes what dead labs have left: processes by their cgroup, cgroups, directories.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|end| end != "lock") {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        if let Some(id) = path.file_stem().and_then(|stem| stem.to_str()) {
            cgroup::remove_lab(id, Duration::from_secs(5));
            let _ = fs::remove_dir_all(base.join(id));
        }
        let _ = fs::remove_file(&path);
    }
}
