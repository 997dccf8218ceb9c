//! Who may enter a worker, and by which key it shows itself.
//!
//! Must not log or copy private keys; public ones are no secret, but nobody needs to read them.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::Algorithm;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{PrivateKey, PublicKey};

use super::keys::JobKey;
use crate::exit::{Class, Explain};

/// No list of the keys of one job is longer.
const MAX_LIST_BYTES: u64 = 1024 * 1024;

/// The keys of one worker.
#[derive(Debug, Clone)]
pub struct Access {
    shown: Vec<JobKey>,
    admitted: Vec<PublicKey>,
}

impl Access {
    /// The job's key, and the one derived from it, are the only ones that open the worker, and the only
    /// ones that it shows.
    #[must_use]
    pub fn of_job(key: JobKey) -> Self {
        let admitted = vec![key.public().clone()];
        Self::of_lists(vec![key], admitted)
    }

    /// Host keys and those who may enter, told apart as sshd does; both hold one key at least.
    #[must_use]
    pub fn of_lists(shown: Vec<JobKey>, admitted: Vec<PublicKey>) -> Self {
        Self { shown, admitted }
    }

    /// The keys to show: what is derived from one that may also enter comes first. A client that is shown
    /// a derived key enters with it.
    #[must_use]
    pub fn host_keys(&self) -> Vec<PrivateKey> {
        let both = self.shown.iter().flat_map(|key| {
            let derived = key.derived().filter(|_| self.lists(key.public()));
            derived.into_iter().chain([key.private()])
        });
        both.map(|key| key.as_ref().clone()).collect()
    }

    /// The files of the host keys.
    #[must_use]
    pub fn shown(&self) -> &[JobKey] {
        &self.shown
    }

    /// Whether the holder of this key may enter; comments do not count. Who holds a key that may enter
    /// holds what is derived from it.
    #[must_use]
    pub fn admits(&self, key: &PublicKey) -> bool {
        let derived = |own: &&JobKey| own.is_derived(key) && self.lists(own.public());
        self.lists(key) || self.shown.iter().find(derived).is_some()
    }

    fn lists(&self, key: &PublicKey) -> bool {
        self.admitted.iter().any(|admitted| admitted.key_data() == key.key_data())
    }
}

/// Why a list of keys could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read the authorized keys {}: {source}", .path.display())]
pub struct ListError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl Explain for ListError {
    fn class(&self) -> Class {
        Class::AuthFailed
    }

    fn hint(&self) -> Option<String> {
        let denied = self.source.kind() == io::ErrorKind::PermissionDenied;
        denied.then(|| {
            let uid = nix::unistd::geteuid();
            format!("uid {uid} must be able to read it: set the secret's defaultMode or the pod's fsGroup")
        })
    }
}

/// The keys of an authorized_keys file (sshd(8)), and why lines were passed over.
#[derive(Debug, Default)]
pub struct KeyList {
    /// In the order of the file.
    pub keys: Vec<PublicKey>,
    /// Number of a line, from 1, and what keeps its key out.
    pub skipped: Vec<(usize, String)>,
}

/// Which keys may enter at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// `RequiredRSASize`: the bits that an RSA key must have.
    pub rsa_bits: usize,
    /// `PubkeyAcceptedAlgorithms`: names of signature algorithms; none = all that muster knows.
    pub algorithms: Option<Vec<String>>,
}

impl KeyRules {
    /// Whether a key may enter.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, key: &PublicKey) -> Result<(), String> {
        if let KeyData::Rsa(rsa) = key.key_data() {
            let bits = rsa.n().as_positive_bytes().map_or(0, |bytes| {
                bytes.len() * 8 - bytes.first().map_or(0, |first| first.leading_zeros() as usize)
            });
            if bits < self.rsa_bits {
                return Err(format!("an RSA key of {bits} bits, fewer than RequiredRSASize"));
            }
        }
        let Some(algorithms) = &self.algorithms else { return Ok(()) };
        let own = key.algorithm();
        // An RSA key signs by more than one; muster never by ssh-rsa, which is SHA-1.
        let names = match own {
            Algorithm::Rsa { .. } => &["rsa-sha2-256", "rsa-sha2-512"][..],
            _ => &[own.as_str()],
        };
        match algorithms.iter().any(|one| names.contains(&one.as_str())) {
            true => Ok(()),
            false => Err(format!("PubkeyAcceptedAlgorithms does not name {}", names.join(", "))),
        }
    }
}

/// Reads an authorized_keys file; none where there is no such file.
///
/// A line with options is passed over: options restrict what its key may do, which muster cannot.
/// So are keys that `rules` keep out.
///
/// # Errors
/// The file is there and cannot be read.
pub fn authorized_keys(path: &Path, rules: &KeyRules) -> Result<Option<KeyList>, ListError> {
    let wrong = |source| ListError { path: path.to_path_buf(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(wrong(io::Error::other(format!("longer than {MAX_LIST_BYTES} bytes"))));
    }
    // Comments may have any bytes; a key that has others than its own is none.
    Ok(Some(read_list(&String::from_utf8_lossy(&bytes), rules)))
}

fn read_list(text: &str, rules: &KeyRules) -> KeyList {
    let mut list = KeyList::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read_line(line, rules) {
            Ok(key) => list.keys.push(key),
            Err(reason) => list.skipped.push((index + 1, reason)),
        }
    }
    list
}

fn read_line(line: &str, rules: &KeyRules) -> Result<PublicKey, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_type = |word: &&str| word.parse::<Algorithm>().is_ok_and(|of| !is_other(&of));
    let key = match &words[..] {
        [first, key, ..] if is_type(first) => PublicKey::from_openssh(&format!("{first} {key}")),
        words if words.iter().any(is_type) => {
            return Err("its options cannot be honoured".to_owned());
        }
        _ => return Err("not a public key".to_owned()),
    };
    let key = key.map_err(|_| "not a public key".to_owned())?;
    rules.check(&key)?;
    Ok(key)
}

/// Names that this library does not know are not names of key types to us.
fn is_other(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Other(_))
}

#[cfg(test)]
mod tests {
    use super::{KeyRules, authorized_keys, read_list};
    use crate::exit::Explain as _;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn of_bits(rsa_bits: usize) -> KeyRules {
        KeyRules { rsa_bits, ..KeyRules::default() }
    }

    #[test]
    fn only_plain_keys_count() {
        let text = format!(
            "# a comment\n\n{KEY} root at pi # 1\n  {KEY}\ncommand=\"date\" {KEY}\nrestrict {KEY}\n\
             cert-authority {KEY}\nssh-ed25519 AAAA\nnonsense\n"
        );
        let list = read_list(&text, &of_bits(1024));
        assert_eq!(list.keys.len(), 2);
        let lines: Vec<usize> = list.skipped.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [5, 6, 7, 8, 9]);
        assert_eq!(list.skipped[0].1, "its options cannot be honoured");
        assert_eq!(list.skipped[4].1, "not a public key");
        assert_eq!(list.keys[0].key_data(), list.keys[1].key_data());
    }

    #[test]
    fn keys_stay_out_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let public = path.with_extension("pub");
        assert_eq!(authorized_keys(&public, &of_bits(2048)).unwrap().unwrap().keys.len(), 1);
        let list = authorized_keys(&public, &of_bits(2049)).unwrap().unwrap();
        assert!(list.keys.is_empty());
        assert!(list.skipped[0].1.contains("2048 bits"), "{:?}", list.skipped);
        assert!(authorized_keys(&dir.path().join("none"), &KeyRules::default()).unwrap().is_none());
        for (names, fine) in
            [("rsa-sha2-512", true), ("ssh-ed25519,rsa-sha2-256", true), ("ssh-rsa", false)]
        {
            let algorithms = Some(names.split(',').map(str::to_owned).collect());
            let list =
                authorized_keys(&public, &KeyRules { algorithms, ..KeyRules::default() }).unwrap();
            let skipped = list.unwrap().skipped;
            assert_eq!(skipped.is_empty(), fine, "{names}: {skipped:?}");
        }
        let error = authorized_keys(dir.path(), &KeyRules::default()).unwrap_err();
        assert_eq!(error.hint(), None, "{error}");
    }

    #[test]
    fn comments_may_have_any_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authorized_keys");
        let text = [b"# caf\xe9\n", KEY.as_bytes(), b" ann@caf\xe9\n\xff\n"].concat();
        std::fs::write(&path, text).unwrap();
        let list = authorized_keys(&path, &KeyRules::default()).unwrap().unwrap();
        assert_eq!(list.keys.len(), 1);
        assert_eq!(list.skipped, [(3, "not a public key".to_owned())]);
    }
}
