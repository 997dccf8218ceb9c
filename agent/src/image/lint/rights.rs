//! Whether any UID can reach, read and run what it must.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use super::{Finding, Image, Level};
use crate::config::variables::MUSTER_KEY_DIR;
use crate::ssh::keys;

/// Homes whose keys only their owner may reach by design.
const ROOTS_HOME: &str = "/root";

pub(super) fn look(image: &Image) -> Vec<Finding> {
    let mut findings: Vec<Finding> = closed(image, &image.muster).into_iter().collect();
    if findings.is_empty() {
        findings.push(Finding::new(Level::Ok, "any UID may run muster").at(&image.muster));
    }
    if has_capabilities(&image.seen(&image.muster)) {
        findings.push(
            Finding::new(
                Level::Error,
                "has file capabilities: without them in the pod it cannot start",
            )
            .at(&image.muster)
            .hint(format!("setcap -r {}", image.muster.display())),
        );
    }
    let named = image.env.non_empty(MUSTER_KEY_DIR).is_some();
    for directory in keys::directories(None, &image.env) {
        findings.extend(key_directory(image, &directory, named));
    }
    findings
}

/// A directory in which the operator may mount the job's key.
fn key_directory(image: &Image, directory: &Path, named: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if directory.starts_with(ROOTS_HOME)
        || !image.seen(directory).parent().is_some_and(Path::exists)
    {
        return findings;
    }
    // The mount has modes of its own; the way to it has the image's.
    if let Some(shut) = directory.parent().and_then(|parent| shut(image, parent)) {
        let level = if named { Level::Error } else { Level::Warning };
        findings.push(
            Finding::new(
                level,
                format!("only its owner can pass to the job's key in {}", directory.display()),
            )
            .at(&shut)
            .hint(format!("chmod o+x {}, where the pod's UID is not its owner's", shut.display())),
        );
    }
    if keys::find(&[image.seen(directory)]).is_ok() {
        findings.push(
            Finding::new(
                Level::Warning,
                "a private key lies in the image, for everybody who pulls it",
            )
            .at(directory)
            .hint("leave it out: operators mount a key of the job's own"),
        );
    }
    findings
}

/// What keeps any UID from running a program of the image, if anything.
pub(super) fn closed(image: &Image, program: &Path) -> Option<Finding> {
    let Some(end) = image.led(program) else {
        return Some(Finding::new(Level::Error, "leads to no file").at(program));
    };
    if let Some(shut) = end.parent().and_then(|parent| shut(image, parent)) {
        let what = format!("only its owner can pass to {}", end.display());
        let hint = format!("chmod o+x {}", shut.display());
        return Some(Finding::new(Level::Error, what).at(shut).hint(hint));
    }
    let runs = mode(&image.seen(&end)).is_some_and(|mode| mode & 0o005 == 0o005);
    (!runs).then(|| {
        Finding::new(Level::Error, "cannot be run by any UID")
            .at(&end)
            .hint(format!("chmod o+rx {}", end.display()))
    })
}

/// The first directory from the root down that not every UID may pass.
fn shut(image: &Image, directory: &Path) -> Option<PathBuf> {
    let mut ways: Vec<&Path> = directory.ancestors().collect();
    ways.reverse();
    let barred = |way: &&Path| mode(&image.seen(way)).is_some_and(|mode| mode & 0o001 == 0);
    ways.into_iter().find(barred).map(Path::to_path_buf)
}

/// Permission bits, links followed.
pub(super) fn mode(path: &Path) -> Option<u32> {
    path.metadata().ok().map(|found| found.permissions().mode())
}

/// Whether a file brings capabilities with it (capabilities(7), "File capabilities").
pub(super) fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    let name = c"security.capability";
    // SAFETY: both strings end in NUL, and with a size of 0 nothing is written.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}
