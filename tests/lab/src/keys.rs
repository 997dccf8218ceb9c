//! Key files as operators mount them, made by the real `openssl` and `ssh-keygen`.
//!
//! Must not make keys in a way of its own: the point is to have what others have.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::spec::FileSpec;
use crate::tool;

/// The kinds of key that jobs come with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA P-521, SEC1 PEM ("EC PRIVATE KEY"): mpi-operator and Trainer.
    EcdsaP521,
    /// RSA with 2048 bits, PKCS#1 PEM ("RSA PRIVATE KEY"): Volcano.
    Rsa2048,
    /// Ed25519 in OpenSSH's own format: what people make by hand.
    Ed25519,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EcdsaP521, Self::Rsa2048, Self::Ed25519];
}

/// A key pair as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The private key file.
    pub private: String,
    /// The line of the public key file.
    pub public: String,
}

impl KeyPair {
    /// Makes a new key.
    pub fn generate(kind: KeyKind) -> Result<Self> {
        let dir = tempfile::tempdir().doing(|| "make a temporary directory".into())?;
        let path = dir.path().join("key");
        match kind {
            KeyKind::EcdsaP521 => {
                let key = tool::run(
                    "openssl",
                    &["ecparam", "-name", "secp521r1", "-genkey", "-noout"],
                    "",
                )?;
                write_private(&path, &key)?;
            }
            KeyKind::Rsa2048 => write_private(
                &path,
                &tool::run("openssl", &["genrsa", "-traditional", "2048"], "")?,
            )?,
            KeyKind::Ed25519 => {
                let path = path.to_string_lossy();
                tool::run(
                    "ssh-keygen",
                    &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &path],
                    "",
                )?;
            }
        }
        let private = fs::read_to_string(&path).doing(|| "read a key".into())?;
        let public = tool::run("ssh-keygen", &["-y", "-f", &path.to_string_lossy()], "")?;
        Ok(Self { private, public: format!("{}\n", public.trim()) })
    }

    /// `id_rsa`, `id_rsa.pub` and `authorized_keys` below `dir`, all with this mode and root's, as the job's
    /// secret is mounted: 0600 below /root/.ssh, 0644 elsewhere.
    pub fn files(&self, dir: &str, mode: u32) -> [FileSpec; 3] {
        [("id_rsa", &self.private), ("id_rsa.pub", &self.public), ("authorized_keys", &self.public)]
            .map(|(name, content)| {
                FileSpec::new(Path::new(dir).join(name), content.as_str()).mode(mode)
            })
    }
}

fn write_private(path: &Path, key: &str) -> Result<()> {
    fs::write(path, key).doing(|| "write a key".into())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).doing(|| "close up a key".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_format() {
        for (kind, head, algorithm) in [
            (KeyKind::EcdsaP521, "-----BEGIN EC PRIVATE KEY-----\n", "ecdsa-sha2-nistp521 "),
            (KeyKind::Rsa2048, "-----BEGIN RSA PRIVATE KEY-----\n", "ssh-rsa "),
            (KeyKind::Ed25519, "-----BEGIN OPENSSH PRIVATE KEY-----\n", "ssh-ed25519 "),
        ] {
            let key = KeyPair::generate(kind).unwrap();
            assert!(key.private.starts_with(head), "{kind:?}: {}", key.private);
            assert!(
                key.public.starts_with(algorithm) && key.public.ends_with('\n'),
                "{kind:?}: {}",
                key.public
            );
        }
    }
}
