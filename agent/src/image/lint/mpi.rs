//! The MPI: there, recognised, whole, and what it writes.

use std::path::Path;

use super::rights::closed;
use super::{Finding, Image, Level};
use crate::devices::mpirun;
use crate::exit::Explain as _;
use crate::plan::{Family, Mpirun};

pub(super) fn look(image: &Image) -> Vec<Finding> {
    let found = mpirun::find(None, image.env.get("PATH").map(AsRef::as_ref));
    match found.and_then(|path| mpirun::identify(&path)) {
        Ok(mpirun) => judge(image, &mpirun),
        Err(error) => {
            let finding = Finding::new(Level::Error, format!("no MPI: failed to {error}"));
            vec![match error.hint() {
                Some(hint) => finding.hint(hint),
                None => finding,
            }]
        }
    }
}

/// What is to be said of an MPI that answers.
pub(super) fn judge(image: &Image, mpirun: &Mpirun) -> Vec<Finding> {
    let Mpirun { path, family, version } = mpirun;
    let mut findings = vec![Finding::new(Level::Ok, format!("{family} {version}")).at(path)];
    findings.extend(closed(image, path));
    let daemon = family.daemon();
    let beside = image.led(path).unwrap_or_else(|| path.clone()).with_file_name(daemon);
    let daemons = image.on_path(daemon).into_iter().chain([path.with_file_name(daemon), beside]);
    match daemons.into_iter().find(|file| image.seen(file).is_file()) {
        Some(found) => findings.extend(closed(image, &found)),
        None => findings.push(
            Finding::new(Level::Error, format!("no {daemon}, which mpirun starts on every host"))
                .hint(
                    "install the whole MPI on workers too; its runtime package brings the daemon",
                ),
        ),
    }
    findings.extend(scratch(image, *family));
    findings
}

/// Where ranks and daemons keep their files: the one place that must be writable.
fn scratch(image: &Image, family: Family) -> Option<Finding> {
    let keeps = match family {
        Family::OpenMpi4 | Family::OpenMpi5 => "keeps its session directory there",
        Family::IntelMpi => "keeps its sockets and shared files there",
        // MPICH shares memory through /dev/shm, which the runtime mounts.
        Family::Mpich => return None,
    };
    let directory = image.env.non_empty("TMPDIR").unwrap_or("/tmp");
    let seen = image.seen(Path::new(directory));
    let open = super::rights::mode(&seen).is_some_and(|mode| mode & 0o003 == 0o003);
    let finding = match (seen.is_dir(), open) {
        (true, true) => Finding::new(
            Level::Ok,
            format!(
                "writable by any UID; {family} {keeps}: mount an emptyDir over it where the root is read-only"
            ),
        ),
        (true, false) => {
            Finding::new(Level::Error, format!("not writable by any UID, and {family} {keeps}"))
                .hint(format!("chmod 1777 {directory}"))
        }
        (false, _) => Finding::new(Level::Error, format!("missing, and {family} {keeps}"))
            .hint(format!("mkdir -m 1777 {directory}")),
    };
    Some(finding.at(directory))
}
