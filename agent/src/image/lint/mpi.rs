//! The MPI: there, recognised, whole, and what it writes.

use std::path::{Path, PathBuf};

use super::rights::{closed, unreadable};
use super::{Finding, Image, Level};
use crate::devices::mpirun;
use crate::exit::Explain as _;
use crate::plan::{Family, Mpirun};

/// How the names of the libraries begin that an MPI brings or stands on.
const LIBRARIES: [&str; 7] =
    ["libmpi", "libopen-", "libprrte", "libpmi", "libhwloc", "libevent", "libfabric"];

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
    findings.extend(libraries(image, path));
    findings.extend(scratch(image, *family));
    findings
}

/// The MPI's libraries beside mpirun and where LD_LIBRARY_PATH leads: whether any UID may read them.
fn libraries(image: &Image, mpirun: &Path) -> Vec<Finding> {
    let end = image.led(mpirun);
    let prefixes = [Some(mpirun), end.as_deref()].into_iter().flatten();
    let prefixes = prefixes.filter_map(|program| program.parent()?.parent());
    let mut directories: Vec<PathBuf> = prefixes
        .flat_map(|prefix| ["lib", "lib64", "lib/release"].map(|name| prefix.join(name)))
        .collect();
    // Debian's, with a directory for each architecture.
    for directory in directories.clone() {
        let triplets = names(image, &directory).into_iter().filter(|name| name.contains("-linux-"));
        let triplets = triplets.map(|name| directory.join(name));
        directories.extend(triplets.flat_map(|one| [one.join("openmpi/lib"), one]));
    }
    let named = image.env.get("LD_LIBRARY_PATH").unwrap_or_default().split(':');
    directories.extend(named.filter(|name| name.starts_with('/')).map(PathBuf::from));
    let (mut seen, mut shut) = (0, Vec::new());
    for directory in directories {
        let is_mpi = |name: &String| {
            name.contains(".so") && LIBRARIES.iter().any(|known| name.starts_with(known))
        };
        for name in names(image, &directory).into_iter().filter(is_mpi) {
            seen += 1;
            let finding = unreadable(image, &directory.join(name));
            // One directory may keep them all away, and one file has several names.
            shut.extend(finding.filter(|one: &Finding| !shut.contains(one)));
        }
    }
    if shut.is_empty() && seen > 0 {
        shut.push(Finding::new(Level::Ok, "any UID may read the libraries of the MPI"));
    }
    shut
}

/// The names in a directory, sorted; none where it cannot be read.
fn names(image: &Image, directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(image.seen(directory)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
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
