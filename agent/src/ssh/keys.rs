//! The job's key: found in the directory that the operator mounts, read in the formats they write.
//!
//! Must not log, print or copy key material anywhere; errors name the file, never its content.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve};
use russh::keys::{PrivateKey, PublicKey, decode_secret_key};

use super::derived::derive;
use super::sec1;
use crate::config::env::Environment;
use crate::config::variables::MUSTER_KEY_DIR;
use crate::exit::{Class, Explain};

/// Names under which a key may lie in the directory. mpi-operator, Trainer and Volcano all write
/// `id_rsa`, whatever the key's type is.
const FILE_NAMES: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

/// No private key of a supported type is longer (an RSA-16384 key has about 13 kB).
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// The one key pair that every pod of the job holds; it authenticates both ends.
#[derive(Clone)]
pub struct JobKey {
    private: Arc<PrivateKey>,
    /// None where the job's own is as quick.
    derived: Option<Arc<PrivateKey>>,
    path: PathBuf,
}

impl fmt::Debug for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key itself, whatever the types below would show.
        f.debug_struct("JobKey").field("path", &self.path).finish_non_exhaustive()
    }
}

impl JobKey {
    /// The private half, to sign with.
    #[must_use]
    pub fn private(&self) -> &Arc<PrivateKey> {
        &self.private
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        self.private.public_key()
    }

    /// The key that only holders of the private half can derive from it, and sign with in a fraction of
    /// the time; none where the job's own is of that kind.
    #[must_use]
    pub fn derived(&self) -> Option<&Arc<PrivateKey>> {
        self.derived.as_ref()
    }

    /// Whether the other side showed one of the two keys: the only ones that open a worker, and the
    /// only ones a worker may show. Comments do not count.
    #[must_use]
    pub fn is(&self, other: &PublicKey) -> bool {
        self.public().key_data() == other.key_data() || self.is_derived(other)
    }

    /// Whether the other side showed the derived key.
    #[must_use]
    pub fn is_derived(&self, other: &PublicKey) -> bool {
        let derived = self.derived.as_ref();
        derived.is_some_and(|own| own.public_key().key_data() == other.key_data())
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Why there is no job key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// None of the directories holds a key.
    #[error("find the job's key: no id_rsa, id_ecdsa or id_ed25519 in {}", list(.looked))]
    Missing {
        /// The directories in the order in which they were looked into.
        looked: Vec<PathBuf>,
    },
    /// The file is there but cannot be read.
    #[error("read the job's key {}: {source}", .path.display())]
    Unreadable {
        /// The key file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not a private key, or of a format that is not read.
    #[error("read the job's key {}: {reason}", .path.display())]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

impl Explain for KeyError {
    fn class(&self) -> Class {
        Class::AuthFailed
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => {
                "mount the job's SSH secret and name its directory with MUSTER_KEY_DIR (launch, wait, \
                 worker and devices also take --key-dir)"
                    .into()
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "mount the key there, or name the file that is one (-i of ssh, HostKey of sshd)"
                    .into()
            }
            Self::Unreadable { path, .. } => format!(
                "uid {} must be able to read it: set the secret's defaultMode or the pod's fsGroup \
                 (ls -l {})",
                nix::unistd::geteuid(),
                path.display()
            ),
            Self::Malformed { .. } => {
                "expected an unencrypted private key: ECDSA (SEC1 or PKCS#8), \
                                       RSA (PKCS#1 or PKCS#8) or the OpenSSH format"
                    .into()
            }
        })
    }
}

/// Where a key is looked for, first match wins: the flag alone when given, else
/// `$MUSTER_KEY_DIR` alone when set, else `~/.ssh`, `/root/.ssh`, `/home/mpiuser/.ssh`.
#[must_use]
pub fn directories(flag: Option<&Path>, env: &Environment) -> Vec<PathBuf> {
    if let Some(dir) = flag {
        return vec![dir.to_path_buf()];
    }
    if let Some(dir) = env.non_empty(MUSTER_KEY_DIR) {
        return vec![PathBuf::from(dir)];
    }
    let home = env.non_empty("HOME").map(|home| Path::new(home).join(".ssh"));
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in home.into_iter().chain(["/root/.ssh".into(), "/home/mpiuser/.ssh".into()]) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

/// Loads the key from the first of `dirs` that holds one.
///
/// A directory that this user may not even search counts as holding none, as `/root/.ssh` does for
/// everyone but root; a key file that is there but unreadable is an error.
///
/// # Errors
/// See [`KeyError`].
pub fn find(dirs: &[PathBuf]) -> Result<JobKey, KeyError> {
    for dir in dirs {
        for name in FILE_NAMES {
            let path = dir.join(name);
            match path.metadata() {
                Ok(_) => return load(&path),
                Err(_) => continue,
            }
        }
    }
    Err(KeyError::Missing { looked: dirs.to_vec() })
}

/// Loads one key file. Its mode is not judged: operators mount it 0600, 0640 or 0644 as they can.
///
/// # Errors
/// [`KeyError::Unreadable`] or [`KeyError::Malformed`].
pub fn load(path: &Path) -> Result<JobKey, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_path_buf(), source };
    let malformed = |reason: String| KeyError::Malformed { path: path.to_path_buf(), reason };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(MAX_KEY_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_KEY_BYTES {
        return Err(malformed(format!("longer than {MAX_KEY_BYTES} bytes")));
    }
    if !text.contains("-----BEGIN ") {
        let what = if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
            "this is a public key"
        } else {
            "not a PEM file"
        };
        return Err(malformed(what.into()));
    }
    if text.contains("ENCRYPTED") {
        return Err(malformed("the key is protected by a passphrase".into()));
    }
    let key = match sec1::read(&text) {
        Some(key) => key,
        None => decode_secret_key(&text, None).map_err(|error| malformed(error.to_string()))?,
    };
    supported(&key.algorithm()).map_err(malformed)?;
    let derived = derive(&key).map_err(|error| malformed(error.to_string()))?.map(Arc::new);
    Ok(JobKey { private: Arc::new(key), derived, path: path.to_path_buf() })
}

fn supported(algorithm: &Algorithm) -> Result<(), String> {
    match algorithm {
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 | EcdsaCurve::NistP521,
        }
        | Algorithm::Ed25519
        | Algorithm::Rsa { .. } => Ok(()),
        other => Err(format!("keys of type {other} are not supported")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn generate(dir: &Path, arguments: &[&str]) -> PathBuf {
        let path = dir.join("id_rsa");
        let status = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-f"])
            .arg(&path)
            .args(arguments)
            .status()
            .unwrap();
        assert!(status.success());
        path
    }

    #[test]
    fn reads_every_format_that_operators_mount() {
        for (arguments, header) in [
            (&["-t", "ecdsa", "-b", "521", "-m", "PEM"][..], "BEGIN EC PRIVATE KEY"),
            (&["-t", "rsa", "-b", "2048", "-m", "PEM"], "BEGIN RSA PRIVATE KEY"),
            (&["-t", "ecdsa", "-b", "256", "-m", "PKCS8"], "BEGIN PRIVATE KEY"),
            (&["-t", "ecdsa", "-b", "521"], "BEGIN OPENSSH PRIVATE KEY"),
            (&["-t", "ed25519"], "BEGIN OPENSSH PRIVATE KEY"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = generate(dir.path(), arguments);
            assert!(std::fs::read_to_string(&path).unwrap().contains(header), "{arguments:?}");
            for mode in [0o600, 0o640, 0o644] {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                let key = find(&[dir.path().to_path_buf()]).unwrap();
                let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
                assert!(key.is(&PublicKey::from_openssh(&public).unwrap()), "{arguments:?}");
                let text = std::fs::read_to_string(&path).unwrap();
                assert_eq!(**key.private(), decode_secret_key(&text, None).unwrap());
                assert_eq!(key.derived().is_none(), arguments[1] == "ed25519");
                assert!(key.derived().is_none_or(|derived| key.is(derived.public_key())));
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let missing = find(&[dir.path().to_path_buf()]).unwrap_err();
        assert!(matches!(&missing, KeyError::Missing { looked } if looked.len() == 1));
        for (content, expected) in [
            ("", "not a PEM file"),
            ("ssh-rsa AAAA", "public key"),
            ("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "id_rsa"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "passphrase"),
        ] {
            std::fs::write(dir.path().join("id_rsa"), content).unwrap();
            let error = find(&[dir.path().to_path_buf()]).unwrap_err();
            assert!(error.to_string().contains(expected), "{content:?}: {error}");
            assert!(error.hint().is_some());
        }
        let wrong = generate_dsa_like(dir.path());
        assert!(find(&[wrong]).is_err());
    }

    /// A certificate authority's PEM stands in for "some other PEM file".
    fn generate_dsa_like(dir: &Path) -> PathBuf {
        let other = dir.join("other");
        std::fs::create_dir(&other).unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        std::fs::write(other.join("id_rsa"), pem).unwrap();
        other
    }

    #[test]
    fn the_flag_outranks_the_variable_and_the_variable_the_defaults() {
        let env: Environment =
            [("MUSTER_KEY_DIR", "/keys"), ("HOME", "/home/mpiuser")].into_iter().collect();
        let flag = Path::new("/flag");
        assert_eq!(directories(Some(flag), &env), [flag]);
        assert_eq!(directories(None, &env), [Path::new("/keys")]);
        let env: Environment = [("HOME", "/home/mpiuser")].into_iter().collect();
        let defaults = [Path::new("/home/mpiuser/.ssh"), Path::new("/root/.ssh")];
        assert_eq!(directories(None, &env), defaults);
    }
}
