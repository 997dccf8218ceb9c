//! What OpenSSH's server leaves in an image that needs it no more.

use std::path::Path;

use super::rights::has_capabilities;
use super::{Finding, Image, Level, SSHD};

pub(super) fn look(image: &Image) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |place: &str, what: &str, hint: &str| {
        findings.push(Finding::new(Level::Warning, what).at(place).hint(hint));
    };
    let sshd = Path::new(SSHD);
    let led = image.led(sshd);
    if led.is_some() && led != image.led(&image.muster) {
        if has_capabilities(&image.seen(sshd)) {
            warn(
                SSHD,
                "OpenSSH's server with file capabilities, which a pod without capabilities cannot start",
                "muster needs none: remove openssh-server, then muster install --sshd",
            );
        } else {
            warn(
                SSHD,
                "OpenSSH's server is still here, and is what operators start",
                "remove openssh-server, then muster install --sshd",
            );
        }
    }
    // Debian's and Ubuntu's list of the package's files; the key files below tell of any other's.
    let package = "/var/lib/dpkg/info/openssh-server.list";
    if image.seen(Path::new(package)).exists() {
        warn(package, "the package openssh-server is installed", "apt-get purge openssh-server");
    }
    let entries = std::fs::read_dir(image.seen(Path::new("/etc/ssh"))).into_iter().flatten();
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    for name in names {
        if name.starts_with("ssh_host_") && name.ends_with("_key") {
            warn(
                &format!("/etc/ssh/{name}"),
                "a private host key lies in the image, the same in every container",
                "rm /etc/ssh/ssh_host_*: muster shows the job's key",
            );
        }
    }
    for place in ["/run/sshd", "/var/run/sshd"] {
        let seen = image.seen(Path::new(place));
        // The second one is the first one wherever /var/run is a link.
        if seen.symlink_metadata().is_ok()
            && image.led(Path::new(place)).as_deref() == Some(Path::new(place))
        {
            warn(
                place,
                "sshd's own directory, which muster does not need",
                &format!("rmdir {place}"),
            );
        }
    }
    findings
}
