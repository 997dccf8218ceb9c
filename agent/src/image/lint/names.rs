//! The names of OpenSSH: whose they are, and what is found first.

use std::path::{Path, PathBuf};

use super::rights::closed;
use super::{Finding, Image, Level, SSHD};
use crate::exit::Explain;
use crate::image::install::{CLIENTS, SERVER};
use crate::ssh::options::file::SYSTEM_DIR;
use crate::ssh::{options, sshd_options};

/// The configuration of all users of ssh.
const SYSTEM_FILE: &str = "/etc/ssh/ssh_config";

/// The configuration that manifests of mpi-operator name, and the home of its user.
const OPERATOR_FILE: &str = ".sshd_config";
const OPERATOR_HOME: &str = "/home/mpiuser";

pub(super) fn look(image: &Image) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        CLIENTS.into_iter().flat_map(|name| client(image, name)).collect();
    findings.extend(server(image));
    findings
}

fn is_muster(image: &Image, path: &Path) -> bool {
    image.led(path).is_some_and(|led| Some(led) == image.led(&image.muster))
}

/// A name that is looked for on PATH.
fn client(image: &Image, name: &str) -> Vec<Finding> {
    let all = image.on_path(name);
    let (dangling, there): (Vec<PathBuf>, Vec<PathBuf>) =
        all.into_iter().partition(|path| image.led(path).is_none());
    let mut findings: Vec<Finding> = dangling.iter().map(|path| lost(path)).collect();
    let ours = there.iter().find(|path| is_muster(image, path));
    match (there.first(), ours) {
        (None, _) if name == CLIENTS[0] => findings.push(
            Finding::new(Level::Ok, "no program ssh: only `muster launch` reaches other hosts")
                .hint("muster install --ssh, where mpirun is to reach them by itself"),
        ),
        (Some(first), Some(ours)) if first == ours => {
            let fine = || Finding::new(Level::Ok, format!("{name} is muster")).at(first);
            findings.push(closed(image, first).unwrap_or_else(fine));
            if name == CLIENTS[0]
                && let Err(error) = options::file::check(&image.seen(Path::new(SYSTEM_DIR)))
            {
                findings.push(unfollowed("ssh", SYSTEM_FILE, &error));
            }
        }
        (Some(first), Some(ours)) => findings.push(
            Finding::new(
                Level::Error,
                format!("comes first on PATH, before muster's {}", ours.display()),
            )
            .at(first)
            .hint("remove the package (openssh-client), or put the link's directory first"),
        ),
        (Some(first), None) if name == CLIENTS[0] => findings.push(
            Finding::new(Level::Warning, "mpirun by itself calls this ssh, which is not muster")
                .at(first)
                .hint("remove it and run muster install, or launch with muster launch"),
        ),
        _ => {}
    }
    findings
}

/// The name that operators start.
fn server(image: &Image) -> Vec<Finding> {
    let path = Path::new(SSHD);
    if image.seen(path).symlink_metadata().is_err() {
        let finding = Finding::new(
            Level::Ok,
            format!("no {SSHD}: the pods must start `muster worker` themselves"),
        );
        return vec![finding.hint("muster install --sshd, where the operator starts sshd")];
    }
    if image.led(path).is_none() {
        return vec![lost(path)];
    }
    if !is_muster(image, path) {
        return Vec::new();
    }
    let fine = || Finding::new(Level::Ok, format!("{SERVER} is muster")).at(path);
    let mut findings = vec![closed(image, path).unwrap_or_else(fine)];
    let home = image.env.get("HOME").unwrap_or_default();
    let of_operators = [home, OPERATOR_HOME].map(|home| format!("{home}/{OPERATOR_FILE}"));
    let mut files = vec![sshd_options::CONFIG_FILE.to_owned()];
    files.extend(of_operators.into_iter().filter(|file| image.seen(Path::new(file)).exists()));
    files.dedup();
    for file in files {
        if let Err(error) = sshd_options::check(&image.seen(Path::new(&file))) {
            findings.push(unfollowed("sshd", &file, &error));
        }
    }
    findings
}

fn unfollowed(program: &str, file: &str, error: &dyn Explain) -> Finding {
    let what = format!("muster cannot do as {program} what this says: failed to {error}");
    let finding = Finding::new(Level::Error, what).at(file);
    match error.hint() {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}

fn lost(path: &Path) -> Finding {
    Finding::new(Level::Error, "a link that leads to no file")
        .at(path)
        .hint("muster install makes it anew, from the place where muster is now")
}
