//! Whether this user may open a device node.
//!
//! Must not use a device: a node is opened and closed, where that does nothing to the device.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;

use nix::unistd::{AccessFlags, eaccess};

use super::host::Roots;
use super::report::Access;

/// By opening it: only that tells what a container's device rules forbid.
pub(super) fn opens(roots: &Roots, node: &Path) -> Access {
    // Whatever a recorded tree leads to must not be opened as a device.
    if !roots.are_own() {
        return permits(roots, node);
    }
    tell(roots, node, || OpenOptions::new().read(true).write(true).open(node).is_ok())
}

/// By its mode: to open it would wake or initialise the device.
pub(super) fn permits(roots: &Roots, node: &Path) -> Access {
    tell(roots, node, || eaccess(node, AccessFlags::R_OK | AccessFlags::W_OK).is_ok())
}

fn tell(roots: &Roots, node: &Path, allowed: impl FnOnce() -> bool) -> Access {
    if !roots.dev.is_dir() {
        return Access::Unknown;
    }
    match fs::metadata(node) {
        Err(error) if error.kind() == ErrorKind::NotFound => Access::Absent,
        Ok(found) if !found.is_dir() && allowed() => Access::Open,
        Ok(_) | Err(_) => Access::Refused,
    }
}
