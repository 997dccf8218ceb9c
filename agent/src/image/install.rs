//! Links under the names of OpenSSH, so that what calls `ssh` and `sshd` finds muster.
//!
//! Must not take a file away that is not a link to muster, unless that is asked for.

use std::fmt;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::exit::{Class, Explain};

/// What mpirun, pdsh, rsync and their like look for on PATH.
pub const CLIENTS: [&str; 2] = ["ssh", "rsh"];

/// What operators and images start.
pub const SERVER: &str = "sshd";

/// What was done for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// There was nothing.
    Made,
    /// It led here already.
    Kept,
    /// A link to another muster, or to nothing.
    Renewed,
    /// This program once more, as a file of its own.
    Copy,
    /// Something else, by force.
    Replaced,
}

/// A link that leads to muster, once it is [made](Link::make).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The link.
    pub path: PathBuf,
    /// What it holds.
    pub target: PathBuf,
    /// What is done for it.
    pub done: Done,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, target) = (self.path.display(), self.target.display());
        match self.done {
            Done::Made => write!(f, "{path} -> {target}"),
            Done::Kept => write!(f, "{path} -> {target} (was there)"),
            Done::Renewed => write!(f, "{path} -> {target} (led elsewhere)"),
            Done::Copy => write!(f, "{path} -> {target} (was a copy)"),
            Done::Replaced => write!(f, "{path} -> {target} (took the place of another program)"),
        }
    }
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The running program has no path, such as one started from memory.
    #[error("find the file of this program: {0}")]
    Own(#[source] io::Error),
    /// Another program has the name.
    #[error("link {}: another program is there", .0.display())]
    Taken(PathBuf),
    /// A directory has it.
    #[error("link {}: a directory is there", .0.display())]
    Directory(PathBuf),
    /// The system says no.
    #[error("link {}: {source}", .path.display())]
    Refused {
        /// The link.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl Explain for InstallError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Own(_) => "run it from a file: /usr/local/bin/muster install".to_owned(),
            Self::Taken(path) => format!(
                "remove it (apt-get remove openssh-client openssh-server), choose another directory, \
                 or replace {} with --force",
                path.display()
            ),
            Self::Directory(_) => "name the directory that is to hold the link".to_owned(),
            Self::Refused { path, source } => match source.kind() {
                io::ErrorKind::PermissionDenied => format!(
                    "uid {} may not write there: run it as root while the image is built, or choose \
                     a directory of your own and put it on PATH",
                    nix::unistd::geteuid()
                ),
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the root is read-only: make the links while the image is built (RUN muster \
                     install)"
                        .to_owned()
                }
                io::ErrorKind::NotADirectory => {
                    format!("a part of {} is a file, where a directory must be", path.display())
                }
                _ => "choose another directory".to_owned(),
            },
        })
    }
}

/// The file of the running program, links followed.
///
/// # Errors
/// It has none.
pub fn own_file() -> Result<PathBuf, InstallError> {
    std::env::current_exe().and_then(|path| path.canonicalize()).map_err(InstallError::Own)
}

impl Link {
    /// What has to be done for `path` to lead to `program`. Changes nothing, so that all names can be
    /// looked at before the first one is taken.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub fn plan(path: &Path, program: &Path, force: bool) -> Result<Self, InstallError> {
        let refused = |source| InstallError::Refused { path: path.to_path_buf(), source };
        let path = &std::path::absolute(path).map_err(refused)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let done = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Done::Made,
            Err(error) => return Err(refused(error)),
            Ok(_) if path.canonicalize().is_ok_and(|led| led == program) => Done::Kept,
            Ok(found) if found.is_symlink() && (is_muster(path) || leads_nowhere(path)) => {
                Done::Renewed
            }
            Ok(found) if found.is_dir() => return Err(InstallError::Directory(path.to_path_buf())),
            Ok(found) if found.is_file() && is_copy(path, program) => Done::Copy,
            Ok(_) if force => Done::Replaced,
            Ok(_) => return Err(InstallError::Taken(path.to_path_buf())),
        };
        if done != Done::Kept {
            let there = directory.ancestors().find(|one| one.exists()).unwrap_or(directory);
            let may = access(there, AccessFlags::W_OK | AccessFlags::X_OK);
            may.map_err(|errno| refused(errno.into()))?;
        }
        Ok(Self { path: path.to_path_buf(), target: target(directory, program), done })
    }

    /// Makes it; its directory too, where that is missing.
    ///
    /// # Errors
    /// See [`InstallError`]; what was there is there still.
    pub fn make(&self) -> Result<(), InstallError> {
        let Self { path, target, done } = self;
        if *done == Done::Kept {
            return Ok(());
        }
        let refused = |source| InstallError::Refused { path: path.clone(), source };
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(refused)?;
        // Whoever looks for the name meanwhile finds the old one or the new one.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = directory.join(format!(".{name}.{}", std::process::id()));
        symlink(target, &new).map_err(refused)?;
        std::fs::rename(&new, path).map_err(|error| {
            let _ = std::fs::remove_file(&new);
            refused(error)
        })
    }
}

/// What the link holds: the bare name within one directory, which moves with it, else the whole path.
fn target(directory: &Path, program: &Path) -> PathBuf {
    let same = |parent: &Path| directory.canonicalize().is_ok_and(|directory| directory == parent);
    match (program.parent(), program.file_name()) {
        (Some(parent), Some(name)) if same(parent) => PathBuf::from(name),
        _ => program.to_path_buf(),
    }
}

/// Whether a link leads to a file of our name: an older muster, in another place.
fn is_muster(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|led| led.file_name().is_some_and(|name| name == "muster"))
}

/// Whether a link leads to no file for certain; one whose end may not be looked at leads somewhere.
fn leads_nowhere(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether a file holds what the program's holds.
fn is_copy(path: &Path, program: &Path) -> bool {
    let length = |path: &Path| path.metadata().map(|found| found.len()).ok();
    let (one, other) = (length(path), length(program));
    one.is_some()
        && one == other
        && std::fs::read(path)
            .is_ok_and(|one| std::fs::read(program).is_ok_and(|other| one == other))
}

/// Whether anybody may run a file, links followed; a search of PATH passes over what nobody may.
#[must_use]
pub fn runs(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The program that a search of PATH finds under this name, links not followed.
#[must_use]
pub fn found(name: &str, path: &str) -> Option<PathBuf> {
    let directories = path.split(':').filter(|directory| directory.starts_with('/'));
    let mut files = directories.map(|directory| Path::new(directory).join(name));
    files.find(|file| runs(file))
}

/// What keeps a client's link from being found, if anything: another program comes first on PATH, or
/// its directory does not stand there.
#[must_use]
pub fn hidden(link: &Path, program: &Path, path: &str) -> Option<String> {
    let name = link.file_name()?.to_str()?;
    match found(name, path) {
        Some(found) if found.canonicalize().is_ok_and(|led| led == program) => None,
        Some(found) => {
            Some(format!("{} comes first on PATH, before {}", found.display(), link.display()))
        }
        None => Some(format!("PATH ({path}) does not lead to {}", link.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Image {
        dir: tempfile::TempDir,
        program: PathBuf,
    }

    fn image() -> Image {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("bin")).unwrap();
        let program = root.join("bin/muster");
        std::fs::write(&program, "muster").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Image { dir, program }
    }

    impl Image {
        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(path)
        }

        fn link(&self, path: &str, force: bool) -> Result<Done, InstallError> {
            let link = Link::plan(&self.at(path), &self.program, force)?;
            link.make().map(|()| link.done)
        }
    }

    #[test]
    fn it_is_made_once_and_then_kept() {
        let image = image();
        assert_eq!(image.link("bin/ssh", false).unwrap(), Done::Made);
        assert_eq!(std::fs::read_link(image.at("bin/ssh")).unwrap(), Path::new("muster"));
        assert_eq!(image.link("bin/ssh", false).unwrap(), Done::Kept);
        assert_eq!(image.link("sbin/sshd", false).unwrap(), Done::Made);
        assert_eq!(std::fs::read_link(image.at("sbin/sshd")).unwrap(), image.program);
        assert_eq!(image.link("sbin/sshd", true).unwrap(), Done::Kept);
        // Nothing of the work is left over.
        assert_eq!(std::fs::read_dir(image.at("sbin")).unwrap().count(), 1);
    }

    #[test]
    fn another_program_stays_unless_by_force() {
        let image = image();
        std::fs::write(image.at("bin/ssh"), "OpenSSH").unwrap();
        let error = image.link("bin/ssh", false).unwrap_err();
        assert!(matches!(error, InstallError::Taken(_)), "{error}");
        assert!(error.hint().unwrap().contains("--force"));
        assert_eq!(std::fs::read(image.at("bin/ssh")).unwrap(), b"OpenSSH");
        symlink("ssh", image.at("bin/slogin")).unwrap();
        assert!(image.link("bin/slogin", false).is_err());
        assert_eq!(image.link("bin/ssh", true).unwrap(), Done::Replaced);
        assert_eq!(image.at("bin/ssh").canonicalize().unwrap(), image.program);
        std::fs::create_dir(image.at("bin/rsh")).unwrap();
        assert!(matches!(image.link("bin/rsh", true), Err(InstallError::Directory(_))));
    }

    #[test]
    fn links_to_an_older_muster_or_to_nothing_are_renewed() {
        let image = image();
        std::fs::create_dir(image.at("old")).unwrap();
        std::fs::write(image.at("old/muster"), "").unwrap();
        symlink(image.at("old/muster"), image.at("bin/ssh")).unwrap();
        symlink("/nothing/here", image.at("bin/rsh")).unwrap();
        assert_eq!(image.link("bin/ssh", false).unwrap(), Done::Renewed);
        assert_eq!(image.link("bin/rsh", false).unwrap(), Done::Renewed);
    }

    #[test]
    fn a_copy_becomes_a_link() {
        let image = image();
        std::fs::copy(&image.program, image.at("bin/ssh")).unwrap();
        assert_eq!(image.link("bin/ssh", false).unwrap(), Done::Copy);
        assert_eq!(image.at("bin/ssh").canonicalize().unwrap(), image.program);
        // As long, and another one.
        std::fs::write(image.at("bin/rsh"), "retsum").unwrap();
        assert!(matches!(image.link("bin/rsh", false), Err(InstallError::Taken(_))));
    }

    /// Root looks everywhere, but not through a loop: that ends as untold as a closed directory does.
    #[test]
    fn a_link_whose_end_cannot_be_looked_at_stays() {
        let image = image();
        symlink("rsh", image.at("bin/ssh")).unwrap();
        symlink("ssh", image.at("bin/rsh")).unwrap();
        assert!(matches!(image.link("bin/ssh", false), Err(InstallError::Taken(_))));
        assert_eq!(std::fs::read_link(image.at("bin/ssh")).unwrap(), Path::new("rsh"));
    }

    #[test]
    fn a_plan_changes_nothing() {
        let image = image();
        let link = Link::plan(&image.at("new/ssh"), &image.program, false).unwrap();
        assert_eq!(link.done, Done::Made);
        assert!(!image.at("new").exists());
    }

    #[test]
    fn refusals_say_what_to_do() {
        let image = image();
        let error = image.link("bin/muster/ssh", false).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        for (kind, words) in [
            (io::ErrorKind::PermissionDenied, "as root while the image is built"),
            (io::ErrorKind::ReadOnlyFilesystem, "RUN muster"),
        ] {
            let error = InstallError::Refused { path: "/x".into(), source: kind.into() };
            assert!(error.hint().unwrap().contains(words), "{error:?}");
        }
    }

    #[test]
    fn what_path_finds_first() {
        let image = image();
        image.link("bin/ssh", false).unwrap();
        let ssh = image.at("bin/ssh");
        let bin = image.at("bin").display().to_string();
        assert_eq!(hidden(&ssh, &image.program, &format!("/none:{bin}")), None);
        assert!(hidden(&ssh, &image.program, "/none").unwrap().contains("does not lead"));
        std::fs::create_dir(image.at("first")).unwrap();
        let other = image.at("first/ssh");
        std::fs::write(&other, "").unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
        let path = format!("{}:{bin}", image.at("first").display());
        assert_eq!(hidden(&ssh, &image.program, &path), None);
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(hidden(&ssh, &image.program, &path).unwrap().contains("first/ssh comes first"));
    }
}
