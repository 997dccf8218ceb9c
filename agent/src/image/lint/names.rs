//! The names of OpenSSH: whose they are, and what is found first.

use std::path::{Path, PathBuf};

use super::rights::closed;
use super::{Finding, Image, Level, SSHD};
use crate::exit::Explain as _;
use crate::image::install::{CLIENTS, SERVER};
use crate::ssh::sshd_options;

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
    if let Err(error) = sshd_options::check(&image.seen(Path::new(sshd_options::CONFIG_FILE))) {
        let finding = Finding::new(
            Level::Error,
            format!("muster cannot serve as sshd by this: failed to {error}"),
        )
        .at(sshd_options::CONFIG_FILE);
        findings.push(match error.hint() {
            Some(hint) => finding.hint(hint),
            None => finding,
        });
    }
    findings
}

fn lost(path: &Path) -> Finding {
    Finding::new(Level::Error, "a link that leads to no file")
        .at(path)
        .hint("muster install makes it anew, from the place where muster is now")
}
