//! What a worker does in place of sshd, from what sshd was told.
//!
//! Must not read a configuration; `ssh::sshd_options` has done that.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::config::env::Environment;
use crate::config::variables::MUSTER_PORT;
use crate::devices::own::user_name;
use crate::discovery::lookup::LookupError;
use crate::exit::{Class, Explain, Failure};
use crate::ssh::access::{Access, authorized_keys};
use crate::ssh::config_text;
use crate::ssh::keys::{self, JobKey};
use crate::ssh::sshd_options::{Families, SshdOptions};
use crate::ssh::wire::PORT;
use crate::worker::server::{Needs, everywhere};

/// Where clients of sshd look for it, and where those of muster look for a worker.
const USUAL_PORTS: [u16; 2] = [22, PORT];

/// Where sshd looks for the keys that open it.
const USUAL_LISTS: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];

/// How many of the lines that open nothing a hint tells.
const REASONS: usize = 3;

/// Why a worker cannot do what sshd was told.
#[derive(Debug, thiserror::Error)]
pub enum AsSshdError {
    /// MUSTER_PORT is no port.
    #[error("read MUSTER_PORT: '{0}' is not a port from 0 to 65535")]
    Port(String),
    /// A name to listen by has no address.
    #[error("find the address of {name}, where sshd is to listen: {source}")]
    Name {
        /// What stands behind `ListenAddress`.
        name: String,
        /// Why.
        source: LookupError,
    },
    /// No address is left to listen on.
    #[error("listen: no ListenAddress is one of {0}, which AddressFamily, -4 or -6 asks for")]
    Nowhere(&'static str),
    /// A `%` that stands for nothing here.
    #[error("read AuthorizedKeysFile {0}: expected no token but %h, %u, %U and %%")]
    Token(String),
    /// No list of keys, or none with a key; and what kept keys out.
    #[error("find a key that opens this worker: none in {}", list(.0))]
    Nobody(Vec<PathBuf>, Vec<String>),
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if names.is_empty() { "AuthorizedKeysFile none".to_owned() } else { names.join(", ") }
}

impl Explain for AsSshdError {
    fn class(&self) -> Class {
        match self {
            Self::Port(_) | Self::Nowhere(_) | Self::Token(_) => Class::Config,
            Self::Name { source, .. } => source.class(),
            Self::Nobody(..) => Class::AuthFailed,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name { source, .. } => return source.hint(),
            Self::Port(_) => "unset it, or give the port with -p".to_owned(),
            Self::Nowhere(_) => {
                "take AddressFamily, -4 or -6 out, or listen on an address of that family"
                    .to_owned()
            }
            Self::Token(_) => "sshd_config(5) lists what stands for what".to_owned(),
            Self::Nobody(_, kept_out) => {
                let usual = "mount the job's SSH secret there, or name its authorized_keys with \
                             AuthorizedKeysFile; plain keys count, lines with options do not";
                let reasons = kept_out.iter().take(REASONS).map(|reason| format!("{reason}; "));
                let more = match kept_out.len().saturating_sub(REASONS) {
                    0 => String::new(),
                    more => format!("{more} more lines open nothing; "),
                };
                reasons.collect::<String>() + &more + usual
            }
        })
    }
}

/// Where to listen, and whether all of it is needed.
///
/// Without a port from anybody it is 22, where clients of sshd look, and 2222, where muster's look;
/// one of them is enough, because only root may have the first one in many places.
///
/// `looked_up` gives the addresses of a name or an address.
///
/// # Errors
/// See [`AsSshdError`]; and those of `looked_up`.
pub fn addresses(
    options: &SshdOptions,
    env: &Environment,
    looked_up: impl Fn(&str) -> Result<Vec<IpAddr>, Failure>,
) -> Result<(Vec<SocketAddr>, Needs), Failure> {
    let by_variable = env
        .non_empty(MUSTER_PORT)
        .map(|text| text.parse().map_err(|_| AsSshdError::Port(text.to_owned())));
    let (ports, needs) = match (&options.ports[..], by_variable.transpose()?) {
        ([], None) => (USUAL_PORTS.to_vec(), Needs::One),
        ([], Some(port)) => (vec![port], Needs::All),
        (ports, _) => (ports.to_vec(), Needs::All),
    };
    let mut addresses = Vec::new();
    let mut add = |address: IpAddr, port: u16| {
        let address = SocketAddr::new(address, port);
        if options.families.has(address.ip()) && !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    let anywhere = match options.families {
        Families::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Families::Any | Families::V6 => everywhere(),
    };
    if options.listen.is_empty() {
        ports.iter().for_each(|port| add(anywhere, *port));
    }
    for listen in &options.listen {
        let own = listen.port.as_slice();
        let ports = if own.is_empty() { &ports[..] } else { own };
        for address in looked_up(&listen.host)? {
            ports.iter().for_each(|port| add(address, *port));
        }
    }
    if addresses.is_empty() {
        let family = if options.families == Families::V6 { "IPv6" } else { "IPv4" };
        return Err(AsSshdError::Nowhere(family).into());
    }
    // A port that stands in an address was asked for.
    let told = options.listen.iter().any(|listen| listen.port.is_some());
    Ok((addresses, if told { Needs::All } else { needs }))
}

/// Who may enter and what to show, and what the log should say of it.
///
/// Shown are the HostKeys that can be read, else the job's key. Let in are the keys of
/// AuthorizedKeysFile; where that is not set and sshd's usual files are missing, the job's key.
///
/// # Errors
/// No host key can be read, or nobody could enter.
pub fn access(options: &SshdOptions, env: &Environment) -> Result<(Access, Vec<String>), Failure> {
    let mut notes = Vec::new();
    let shown = host_keys(options, env, &mut notes)?;
    let of_host_keys = notes.len();
    let home = env.non_empty("HOME").unwrap_or("/");
    let usual = || USUAL_LISTS.map(str::to_owned).to_vec();
    let patterns = options.authorized_keys.clone().unwrap_or_else(usual);
    let expand = |pattern: &String| expand(pattern, home, env);
    let paths = patterns.iter().map(expand).collect::<Result<Vec<PathBuf>, _>>()?;

    let (mut admitted, mut found) = (Vec::new(), false);
    for path in &paths {
        let Some(list) = authorized_keys(path, &options.rules)? else { continue };
        found = true;
        admitted.extend(list.keys);
        for (line, reason) in list.skipped {
            notes.push(format!("{} line {line} opens nothing: {reason}", path.display()));
        }
    }
    if !found && options.authorized_keys.is_none() {
        let job = keys::find(&keys::directories(None, env))?;
        match options.rules.check(job.public()) {
            Ok(()) => admitted.push(job.public().clone()),
            Err(reason) => notes.push(format!("the job's key opens nothing: {reason}")),
        }
    }
    if admitted.is_empty() {
        let kept_out = notes.split_off(of_host_keys);
        return Err(AsSshdError::Nobody(paths, kept_out).into());
    }
    Ok((Access::of_lists(shown, admitted), notes))
}

fn host_keys(
    options: &SshdOptions,
    env: &Environment,
    notes: &mut Vec<String>,
) -> Result<Vec<JobKey>, Failure> {
    if options.host_keys.is_empty() {
        return Ok(vec![keys::find(&keys::directories(None, env))?]);
    }
    let mut first = None;
    let mut loaded = Vec::new();
    for path in &options.host_keys {
        match keys::load(path) {
            Ok(key) => loaded.push(key),
            Err(error) => {
                notes.push(format!("goes on without a host key: failed to {error}"));
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if loaded.is_empty() => Err(error.into()),
        _ => Ok(loaded),
    }
}

/// Replaces `%h`, `%u`, `%U`, `%%` and a leading `~`; what is relative begins at the home directory.
fn expand(pattern: &str, home: &str, env: &Environment) -> Result<PathBuf, AsSshdError> {
    let value = |token: Option<char>| match token {
        Some('h') => Ok(Cow::from(home)),
        Some('u') => Ok(user_name(env).into()),
        Some('U') => Ok(nix::unistd::geteuid().to_string().into()),
        _ => Err(AsSshdError::Token(pattern.to_owned())),
    };
    Ok(Path::new(home).join(config_text::expand(pattern, home, value)?))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::ssh::access::KeyRules;
    use crate::ssh::sshd_options::ListenAddress;

    fn env(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn where_it_listens() {
        let listen = |text: &str, port| ListenAddress { host: text.to_owned(), port };
        let looked_up = |host: &str| match host {
            "two" => Ok(["10.0.0.3", "::1", "10.0.0.4"].map(|one| one.parse().unwrap()).to_vec()),
            other => Ok(vec![other.parse().unwrap()]),
        };
        let two = listen("two", Some(24));
        let (a, b) = (listen("10.0.0.1", None), listen("10.0.0.2", Some(23)));
        let all = |expected: &'static [&'static str]| (expected, Needs::All);
        let one = |expected: &'static [&'static str]| (expected, Needs::One);
        for (ports, listen, variable, (expected, needs)) in [
            (&[][..], &[][..], "", one(&["0.0.0.0:22", "0.0.0.0:2222"])),
            (&[], &[], "99", all(&["0.0.0.0:99"])),
            (&[2200], &[], "99", all(&["0.0.0.0:2200"])),
            (&[1, 2, 1], &[], "", all(&["0.0.0.0:1", "0.0.0.0:2"])),
            (&[], &[two], "", all(&["10.0.0.3:24", "10.0.0.4:24"])),
            (&[], slice::from_ref(&a), "", one(&["10.0.0.1:22", "10.0.0.1:2222"])),
            (&[], slice::from_ref(&b), "", all(&["10.0.0.2:23"])),
            (&[5], &[a.clone(), b.clone()], "", all(&["10.0.0.1:5", "10.0.0.2:23"])),
        ] {
            let options = SshdOptions {
                ports: ports.to_vec(),
                listen: listen.to_vec(),
                families: Families::V4,
                ..SshdOptions::default()
            };
            let (found, found_needs) =
                addresses(&options, &env(&[("MUSTER_PORT", variable)]), looked_up).unwrap();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(
                (found, found_needs),
                (expected.iter().map(|one| (*one).to_owned()).collect(), needs)
            );
        }
        for (host, families, family) in
            [("10.0.0.1", Families::V6, "IPv6"), ("fd00::1", Families::V4, "IPv4")]
        {
            let options = SshdOptions {
                listen: vec![listen(host, None)],
                families,
                ..SshdOptions::default()
            };
            let wrong = addresses(&options, &env(&[]), looked_up).unwrap_err();
            let words = wrong.error().to_string();
            assert!(words.starts_with("listen: no ListenAddress is one of "), "{words}");
            assert!(words.contains(family), "{words}");
            assert_eq!(wrong.error().class(), Class::Config);
        }
        let env = env(&[("MUSTER_PORT", "x")]);
        let wrong = addresses(&SshdOptions::default(), &env, looked_up).unwrap_err();
        assert_eq!(
            wrong.error().to_string(),
            "read MUSTER_PORT: 'x' is not a port from 0 to 65535"
        );
    }

    #[test]
    fn tokens() {
        let env = env(&[("USER", "ann")]);
        let uid = nix::unistd::geteuid();
        for (pattern, expected) in [
            (".ssh/authorized_keys", "/h/.ssh/authorized_keys".to_owned()),
            ("%h/k", "/h/k".into()),
            ("~/k", "/h/k".into()),
            ("/etc/keys/%u-%U.%%h", format!("/etc/keys/ann-{uid}.%h")),
            ("/k", "/k".into()),
        ] {
            assert_eq!(expand(pattern, "/h", &env).unwrap(), Path::new(&expected), "{pattern}");
        }
        for pattern in ["/%x", "/%", "%é"] {
            assert!(expand(pattern, "/h", &env).is_err(), "{pattern}");
        }
    }

    #[test]
    fn who_may_enter() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".ssh");
        std::fs::create_dir(&dir).unwrap();
        for name in ["id_rsa", "other"] {
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
                .arg(dir.join(name))
                .status();
            assert!(made.unwrap().success());
        }
        let env = env(&[("HOME", home.path().to_str().unwrap())]);
        let (job, other) =
            (keys::load(&dir.join("id_rsa")).unwrap(), keys::load(&dir.join("other")).unwrap());
        let mut options = SshdOptions::default();

        // Nothing but the job's key: it opens the worker.
        let (found, _) = access(&options, &env).unwrap();
        assert!(found.admits(job.public()) && !found.admits(other.public()));
        assert_eq!(found.shown()[0].path(), dir.join("id_rsa"));
        let derived = job.derived().unwrap();
        assert!(found.admits(derived.public_key()));
        assert_eq!(found.host_keys(), [(**derived).clone(), (**job.private()).clone()]);

        // A list says who may enter, and nobody else.
        std::fs::copy(dir.join("other.pub"), dir.join("authorized_keys")).unwrap();
        let (found, notes) = access(&options, &env).unwrap();
        assert!(found.admits(other.public()) && !found.admits(job.public()));
        assert!(notes.is_empty());
        // Shown, it would be used to enter.
        assert!(!found.admits(derived.public_key()));
        assert_eq!(found.host_keys(), [(**job.private()).clone()]);

        // So does a list of algorithms.
        let wrong = |names: &[&str]| {
            let algorithms = Some(names.iter().map(|one| (*one).to_owned()).collect());
            let rules = KeyRules { algorithms, ..KeyRules::default() };
            access(&SshdOptions { rules, ..SshdOptions::default() }, &env).err()
        };
        assert!(wrong(&["ssh-ed25519", "ecdsa-sha2-nistp256"]).is_none());
        let error = wrong(&["ssh-ed25519"]).unwrap();
        let hint = error.error().hint().unwrap();
        assert!(hint.contains("does not name ecdsa-sha2-nistp256; mount"), "{hint}");
        assert!(error.error().to_string().contains("none in "), "{}", error.error());

        // A list that was named must be there.
        options.authorized_keys = Some(vec!["%h/none".to_owned()]);
        let error = access(&options, &env).unwrap_err();
        assert_eq!(error.error().class(), Class::AuthFailed);
        assert!(error.error().to_string().contains("none in "), "{}", error.error());
        options.authorized_keys = Some(vec![".ssh/id_rsa.pub".to_owned()]);

        // Host keys that cannot be read are passed over while one can.
        options.host_keys = vec!["/none/key".into(), dir.join("other")];
        let (found, notes) = access(&options, &env).unwrap();
        assert!(found.admits(job.public()));
        assert_eq!(found.shown().len(), 1);
        assert_eq!(found.shown()[0].path(), dir.join("other"));
        assert!(notes[0].contains("/none/key"), "{notes:?}");
        options.host_keys.pop();
        assert!(access(&options, &env).is_err());
    }
}
