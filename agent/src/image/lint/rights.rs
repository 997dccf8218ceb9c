//! Whether any UID can reach, read and run what it must.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use super::{Finding, Image, Level};
use crate::ssh::keys;

/// Home of the key in a pod that runs as root, which lets nobody else in by design.
const ROOTS_HOME: &str = "/root";

/// With which a worker runs every command.
const SHELL: &str = "/bin/sh";

/// Links on the way to a file, at most, as in the kernel.
const MAX_LINKS: usize = 40;

pub(super) fn look(image: &Image) -> Vec<Finding> {
    let run = |program: &Path, fine: &str| match closed(image, program) {
        Some(finding) => finding,
        None => Finding::new(Level::Ok, fine).at(program),
    };
    let mut findings = vec![
        run(&image.muster, "any UID may run muster"),
        run(Path::new(SHELL), "any UID may run the shell of a worker's commands"),
    ];
    for directory in keys::directories(None, &image.env) {
        findings.extend(key_directory(image, &directory));
    }
    findings
}

/// A directory in which the operator may mount the job's key.
fn key_directory(image: &Image, directory: &Path) -> Vec<Finding> {
    // Where the image has no such home, the mount makes it, open to all.
    if !image.seen(directory).parent().is_some_and(Path::exists) {
        return Vec::new();
    }
    let place = directory.display();
    // The mount has modes of its own; the way to it has the image's.
    let mut findings = vec![match shut(image, directory) {
        None => Finding::new(Level::Ok, "any UID can pass to a job's key here").at(directory),
        Some(shut) if directory.starts_with(ROOTS_HOME) && shut == Path::new(ROOTS_HOME) => {
            Finding::new(Level::Ok, "root alone can pass to a job's key here").at(directory).hint(
                "where pods run as another UID, have the operator mount the key elsewhere: \
                 sshAuthMountPath: /home/mpiuser/.ssh",
            )
        }
        Some(shut) => {
            Finding::new(Level::Error, format!("only its owner can pass to a job's key in {place}"))
                .at(&shut)
                .hint(format!("chmod o+x {}", shut.display()))
        }
    }];
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

/// What keeps any UID without capabilities from running a program of the image, if anything.
pub(super) fn closed(image: &Image, program: &Path) -> Option<Finding> {
    let Some(end) = image.led(program) else {
        return Some(Finding::new(Level::Error, "leads to no file").at(program));
    };
    if let Some(shut) = shut(image, program) {
        let what = format!("only its owner can pass to {}", program.display());
        let hint = format!("chmod o+x {}", shut.display());
        return Some(Finding::new(Level::Error, what).at(shut).hint(hint));
    }
    let runs = mode(&image.seen(&end)).is_some_and(|mode| mode & 0o005 == 0o005);
    if !runs {
        let finding = Finding::new(Level::Error, "cannot be run by any UID").at(&end);
        return Some(finding.hint(format!("chmod o+rx {}", end.display())));
    }
    has_capabilities(&image.seen(&end)).then(|| {
        let what = "has file capabilities: without them in the pod it cannot start";
        Finding::new(Level::Error, what).at(&end).hint(format!("setcap -r {}", end.display()))
    })
}

/// What keeps any UID from reading a file of the image, if anything.
pub(super) fn unreadable(image: &Image, file: &Path) -> Option<Finding> {
    if let Some(shut) = shut(image, file) {
        let what = format!("only its owner can pass to {}", file.display());
        let hint = format!("chmod o+x {}", shut.display());
        return Some(Finding::new(Level::Error, what).at(shut).hint(hint));
    }
    let reads = mode(&image.seen(file)).is_none_or(|mode| mode & 0o004 != 0);
    (!reads).then(|| {
        let finding = Finding::new(Level::Error, "cannot be read by any UID").at(file);
        finding.hint(format!("chmod o+r {}", file.display()))
    })
}

/// The first directory that not every UID may pass on the way to a file, through all links.
fn shut(image: &Image, file: &Path) -> Option<PathBuf> {
    let names = |path: &Path| -> Vec<OsString> {
        path.iter().rev().filter(|name| *name != "/").map(OsString::from).collect()
    };
    let (mut left, mut here, mut links) = (names(file), PathBuf::from("/"), 0);
    while let Some(name) = left.pop() {
        if mode(&image.seen(&here)).is_some_and(|mode| mode & 0o001 == 0) {
            return Some(here);
        }
        if name == ".." {
            here.pop();
            continue;
        }
        here.push(name);
        let Ok(target) = std::fs::read_link(image.seen(&here)) else { continue };
        links += 1;
        if links > MAX_LINKS {
            return None;
        }
        here.pop();
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        left.extend(names(&target));
    }
    None
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
