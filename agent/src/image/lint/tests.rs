//! Images as trees of files, good and bad.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::plan::{Family, Mpirun};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.mode("/", 0o755);
        tree.file("/usr/local/bin/muster", 0o755);
        tree.file("/usr/bin/mpirun", 0o755);
        tree.file("/usr/bin/orted", 0o755);
        tree.file("/bin/sh", 0o755);
        tree.directory("/tmp", 0o1777);
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn directory(&self, path: &str, mode: u32) {
        std::fs::create_dir_all(self.at(path)).unwrap();
        self.mode(path, mode);
    }

    fn file(&self, path: &str, mode: u32) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), "").unwrap();
        self.mode(path, mode);
    }

    fn link(&self, path: &str, target: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(target, self.at(path)).unwrap();
    }

    fn image(&self, variables: &[(&str, &str)]) -> Image {
        let usual = [("PATH", "/usr/local/bin:/usr/bin"), ("HOME", "/root")];
        Image {
            root: self.0.path().to_path_buf(),
            env: usual.into_iter().chain(variables.iter().copied()).collect(),
            muster: "/usr/local/bin/muster".into(),
        }
    }

    /// All checks, with the MPI as if it had answered.
    fn look(&self, variables: &[(&str, &str)], family: Family) -> Vec<Finding> {
        let image = self.image(variables);
        let path = PathBuf::from("/usr/bin/mpirun");
        let mpirun = Mpirun { path, family, version: "4.1.4".into() };
        [
            mpi::judge(&image, &mpirun),
            rights::look(&image),
            names::look(&image),
            leftovers::look(&image),
        ]
        .concat()
    }

    /// Levels and places of what is not as it should be.
    fn bad(&self, variables: &[(&str, &str)]) -> Vec<(Level, String)> {
        self.look(variables, Family::OpenMpi4)
            .into_iter()
            .filter(|finding| finding.level > Level::Ok)
            .inspect(|finding| assert!(finding.hint.is_some() || finding.what.contains("no file")))
            .map(|finding| {
                let place = finding.place.map(|place| place.display().to_string());
                (finding.level, place.unwrap_or(finding.what))
            })
            .collect()
    }
}

fn error(place: &str) -> (Level, String) {
    (Level::Error, place.to_owned())
}

fn warning(place: &str) -> (Level, String) {
    (Level::Warning, place.to_owned())
}

#[test]
fn a_small_image_is_fine() {
    let tree = Tree::new();
    assert_eq!(tree.bad(&[]), []);
    tree.link("/usr/local/bin/ssh", "muster");
    tree.link("/usr/sbin/sshd", "../local/bin/muster");
    assert_eq!(tree.bad(&[]), []);
    let told: Vec<String> =
        tree.look(&[], Family::OpenMpi4).into_iter().map(|finding| finding.what).collect();
    assert!(told.contains(&"ssh is muster".to_owned()), "{told:?}");
    assert!(told.contains(&"sshd is muster".to_owned()), "{told:?}");
    assert!(told.contains(&"Open MPI 4 4.1.4".to_owned()), "{told:?}");
}

#[test]
fn what_another_uid_cannot_reach_or_run() {
    let tree = Tree::new();
    tree.mode("/usr/local/bin/muster", 0o750);
    assert_eq!(tree.bad(&[]), [error("/usr/local/bin/muster")]);
    tree.mode("/usr/local/bin/muster", 0o755);
    tree.mode("/usr/local", 0o750);
    assert_eq!(tree.bad(&[]), [error("/usr/local")]);
    tree.mode("/usr/local", 0o755);
    tree.mode("/usr/bin/mpirun", 0o700);
    tree.mode("/usr/bin/orted", 0o700);
    assert_eq!(tree.bad(&[]), [error("/usr/bin/mpirun"), error("/usr/bin/orted")]);
}

#[test]
fn what_keeps_a_library_a_link_or_the_shell_from_another_uid() {
    let tree = Tree::new();
    tree.file("/usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4", 0o644);
    tree.link("/usr/lib/x86_64-linux-gnu/libmpi.so.40", "libmpi.so.40.30.4");
    tree.file("/usr/lib/libopen-rte.so.40", 0o755);
    tree.file("/usr/lib/libother.so", 0o600);
    assert_eq!(tree.bad(&[]), []);
    tree.mode("/usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4", 0o600);
    tree.mode("/usr/lib/libopen-rte.so.40", 0o700);
    assert_eq!(
        tree.bad(&[]),
        [
            error("/usr/lib/libopen-rte.so.40"),
            error("/usr/lib/x86_64-linux-gnu/libmpi.so.40"),
            error("/usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4")
        ]
    );
    let tree = Tree::new();
    tree.file("/opt/mpi/libmpi.so", 0o644);
    tree.mode("/opt/mpi", 0o700);
    assert_eq!(tree.bad(&[("LD_LIBRARY_PATH", "/opt/mpi")]), [error("/opt/mpi")]);

    let tree = Tree::new();
    tree.link("/opt/closed/ssh", "../../usr/local/bin/muster");
    tree.mode("/opt/closed", 0o700);
    assert_eq!(tree.bad(&[("PATH", "/opt/closed:/usr/bin")]), [error("/opt/closed")]);
    tree.mode("/opt/closed", 0o755);
    assert_eq!(tree.bad(&[("PATH", "/opt/closed:/usr/bin")]), []);
    // The way leads through a directory that the path does not show.
    tree.link("/opt/open", "closed");
    tree.mode("/opt/closed", 0o700);
    assert_eq!(tree.bad(&[("PATH", "/opt/open:/usr/bin")]), [error("/opt/closed")]);

    let tree = Tree::new();
    tree.link("/usr/sbin/sshd", "../local/bin/muster");
    tree.mode("/usr/sbin", 0o700);
    assert_eq!(tree.bad(&[]), [error("/usr/sbin")]);

    let tree = Tree::new();
    tree.mode("/bin/sh", 0o700);
    assert_eq!(tree.bad(&[]), [error("/bin/sh")]);
    std::fs::remove_file(tree.at("/bin/sh")).unwrap();
    assert_eq!(tree.bad(&[]), [error("/bin/sh")]);
}

/// setcap(8) is at work here for real, which root alone may do.
#[test]
fn programs_with_capabilities_do_not_start_without_them() {
    for program in ["/usr/local/bin/muster", "/usr/bin/mpirun", "/usr/bin/orted"] {
        let tree = Tree::new();
        let mut setcap = std::process::Command::new("setcap");
        let set = setcap.arg("cap_sys_nice+ep").arg(tree.at(program)).status().unwrap();
        assert!(set.success(), "setcap needs CAP_SETFCAP");
        assert_eq!(tree.bad(&[]), [error(program)]);
    }
}

#[test]
fn an_mpi_without_its_daemon_or_its_scratch() {
    let tree = Tree::new();
    std::fs::remove_file(tree.at("/usr/bin/orted")).unwrap();
    assert_eq!(tree.bad(&[]), [error("no orted, which mpirun starts on every host")]);
    tree.file("/usr/bin/orted", 0o755);
    tree.mode("/tmp", 0o755);
    assert_eq!(tree.bad(&[]), [error("/tmp")]);
    assert_eq!(tree.bad(&[("TMPDIR", "/scratch")]), [error("/scratch")]);
    tree.directory("/scratch", 0o1777);
    assert_eq!(tree.bad(&[("TMPDIR", "/scratch")]), []);
    tree.file("/usr/bin/hydra_pmi_proxy", 0o755);
    let findings = tree.look(&[], Family::Mpich);
    assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
}

#[test]
fn names_that_lead_elsewhere() {
    let tree = Tree::new();
    tree.file("/usr/bin/ssh", 0o755);
    assert_eq!(tree.bad(&[]), [warning("/usr/bin/ssh")]);
    tree.link("/usr/local/bin/ssh", "muster");
    assert_eq!(tree.bad(&[]), []);
    assert_eq!(tree.bad(&[("PATH", "/usr/bin:/usr/local/bin")]), [error("/usr/bin/ssh")]);
    // What nobody may run is passed over.
    tree.mode("/usr/bin/ssh", 0o644);
    assert_eq!(tree.bad(&[("PATH", "/usr/bin:/usr/local/bin")]), []);
    let tree = Tree::new();
    tree.link("/usr/local/bin/ssh", "/opt/muster");
    tree.link("/usr/sbin/sshd", "/opt/muster");
    assert_eq!(tree.bad(&[]), [error("/usr/local/bin/ssh"), error("/usr/sbin/sshd")]);
}

#[test]
fn a_configuration_that_muster_cannot_serve_by() {
    let tree = Tree::new();
    tree.link("/usr/sbin/sshd", "../local/bin/muster");
    std::fs::create_dir_all(tree.at("/etc/ssh")).unwrap();
    std::fs::write(tree.at("/etc/ssh/sshd_config"), "UsePAM yes\n").unwrap();
    assert_eq!(tree.bad(&[]), []);
    std::fs::write(tree.at("/etc/ssh/sshd_config"), "AllowUsers mpiuser\n").unwrap();
    assert_eq!(tree.bad(&[]), [error("/etc/ssh/sshd_config")]);
    std::fs::remove_file(tree.at("/etc/ssh/sshd_config")).unwrap();
    tree.directory("/home/mpiuser", 0o755);
    std::fs::write(tree.at("/home/mpiuser/.sshd_config"), "Port 2222\nStrictModes no\n").unwrap();
    assert_eq!(tree.bad(&[]), []);
    std::fs::write(tree.at("/home/mpiuser/.sshd_config"), "Match User bob\n").unwrap();
    let operator = error("/home/mpiuser/.sshd_config");
    assert_eq!(tree.bad(&[]), std::slice::from_ref(&operator));
    assert_eq!(tree.bad(&[("HOME", "/home/mpiuser")]), [operator]);
}

#[test]
fn a_configuration_that_muster_cannot_call_by() {
    let tree = Tree::new();
    std::fs::create_dir_all(tree.at("/etc/ssh")).unwrap();
    std::fs::write(tree.at("/etc/ssh/ssh_config"), "ProxyJump gate\n").unwrap();
    assert_eq!(tree.bad(&[]), []);
    tree.link("/usr/local/bin/ssh", "muster");
    assert_eq!(tree.bad(&[]), [error("/etc/ssh/ssh_config")]);
    // What is said of one host may be meant for another network.
    std::fs::write(tree.at("/etc/ssh/ssh_config"), "Host gate\nProxyJump gate\n").unwrap();
    assert_eq!(tree.bad(&[]), []);
}

#[test]
fn keys_and_the_way_to_them() {
    let tree = Tree::new();
    tree.directory("/home/mpiuser", 0o700);
    let told = |variables: &[(&str, &str)]| -> Vec<(Level, String, String)> {
        let findings = tree.look(variables, Family::OpenMpi4).into_iter();
        findings
            .filter(|finding| finding.what.contains("a job's key"))
            .map(|one| (one.level, one.place.unwrap().display().to_string(), one.what))
            .collect()
    };
    assert_eq!(tree.bad(&[]), [error("/home/mpiuser")]);
    assert_eq!(tree.bad(&[("HOME", "/home/mpiuser")]), [error("/home/mpiuser")]);
    assert_eq!(tree.bad(&[("MUSTER_KEY_DIR", "/home/mpiuser/keys")]), [error("/home/mpiuser")]);
    tree.mode("/home/mpiuser", 0o755);
    tree.directory("/root", 0o700);
    assert_eq!(tree.bad(&[]), []);
    let ok = |place: &str, who: &str| {
        (Level::Ok, place.to_owned(), format!("{who} can pass to a job's key here"))
    };
    assert_eq!(told(&[]), [ok("/root/.ssh", "root alone"), ok("/home/mpiuser/.ssh", "any UID")]);
    tree.directory("/home/mpiuser/.ssh", 0o755);
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(tree.at("/home/mpiuser/.ssh/id_ed25519"))
        .status();
    assert!(made.unwrap().success());
    assert_eq!(tree.bad(&[]), [warning("/home/mpiuser/.ssh")]);
}

#[test]
fn what_openssh_leaves() {
    let tree = Tree::new();
    tree.file("/usr/sbin/sshd", 0o755);
    tree.file("/var/lib/dpkg/info/openssh-server.list", 0o644);
    tree.file("/etc/ssh/ssh_host_rsa_key", 0o600);
    tree.file("/etc/ssh/ssh_host_rsa_key.pub", 0o644);
    tree.directory("/run/sshd", 0o755);
    tree.link("/var/run", "../run");
    let places = [
        "/usr/sbin/sshd",
        "/var/lib/dpkg/info/openssh-server.list",
        "/etc/ssh/ssh_host_rsa_key",
        "/run/sshd",
    ];
    assert_eq!(tree.bad(&[]), places.map(warning));
}

#[test]
fn an_image_without_mpi_is_told_so_in_text_and_json() {
    let tree = Tree::new();
    std::fs::remove_file(tree.at("/usr/bin/mpirun")).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let path = format!("{}:/usr/local/bin", empty.path().display());
    let report = report(&tree.image(&[("PATH", &path)]));
    assert!(!report.fine);
    let text = report.text();
    assert!(text.starts_with("error    no MPI: failed to find mpirun"), "{text}");
    assert!(text.contains("\n         hint: install Open MPI"), "{text}");
    assert!(text.ends_with("\n1 errors, 0 warnings\n"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["fine"], false);
    assert_eq!(json["findings"][0]["level"], "error");
}
