//! A host and the ways to it: ports, keys, and whom to believe there.
//!
//! Must not weaken a check to get through: another port or another key of ours is tried, never
//! another belief.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::env::Environment;
use crate::config::variables::{MUSTER_HOST_KEY, MUSTER_PORT};
use crate::devices::own::user_name;
use crate::discovery::dns::Resolver;
use crate::discovery::lookup::{Lookup, LookupError};
use crate::exit::{Class, Explain};
use crate::ids::HostName;
use crate::ssh::client::{Connection, DialError, HostKeys, Login};
use crate::ssh::config_text;
use crate::ssh::heartbeat::Heartbeat;
use crate::ssh::keys::{self, JobKey, KeyError};
use crate::ssh::options::{Family, RshOptions};
use crate::ssh::wire::PORT;

/// Where muster workers listen, and then where sshd does.
const USUAL_PORTS: [u16; 2] = [PORT, 22];

/// For one attempt, where `ConnectTimeout` says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two questions to a DNS that does not answer, or answers that it cannot.
const DNS_PAUSE: Duration = Duration::from_millis(500);

/// Keys that are tried, at most; each costs a connection.
const MAX_KEYS: usize = 6;

/// Why nobody can be dialled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no key to log in with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// MUSTER_PORT is no port.
    #[error("read MUSTER_PORT: '{0}' is not a port number")]
    Port(String),
    /// MUSTER_HOST_KEY is none of its words.
    #[error("read MUSTER_HOST_KEY: '{0}' is not job, known-hosts or any")]
    HostKey(String),
    /// An `IdentityFile` has a variable that is not there.
    #[error("read IdentityFile {path}: ${{{name}}} is not set")]
    Variable {
        /// As given.
        path: String,
        /// The variable.
        name: String,
    },
}

impl Explain for TargetError {
    fn class(&self) -> Class {
        match self {
            Self::Key(error) => error.class(),
            Self::Port(_) | Self::HostKey(_) | Self::Variable { .. } => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Key(error) => error.hint(),
            Self::Port(_) => Some("give the port with -p".into()),
            Self::HostKey(_) => Some("unset it: job is the usual one".into()),
            Self::Variable { name, .. } => Some(format!("set {name}, or name the whole path")),
        }
    }
}

/// What failed, and what to do about it.
pub(super) struct Unreached {
    pub words: String,
    pub hint: Option<String>,
    /// Whether it may be otherwise in a moment. Who has answered says the same then.
    pub passes: bool,
}

/// A host and the ways to it.
#[derive(Debug)]
pub struct Target {
    host: HostName,
    ports: Vec<u16>,
    login: Login,
    /// The same with our other keys.
    others: Vec<Login>,
}

impl Target {
    /// The ways to the host that options and environment leave.
    ///
    /// The port is that of the options, else `$MUSTER_PORT`, else 2222 and, where nothing listens
    /// there, 22. One after the other and only on a refusal, which comes at once: a worker costs
    /// nothing more, and a host that shows a wrong key is not given a second chance.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn resolve(options: &RshOptions, env: &Environment) -> Result<Self, TargetError> {
        let host_keys = match env.non_empty(MUSTER_HOST_KEY) {
            None => HostKeys::default(),
            Some(text) => HostKeys::from_str(text, false)
                .map_err(|_| TargetError::HostKey(text.to_owned()))?,
        };
        let ports = match (options.port, env.non_empty(MUSTER_PORT)) {
            (Some(port), _) => vec![port],
            (None, None) => USUAL_PORTS.to_vec(),
            (None, Some(text)) => {
                vec![text.parse().map_err(|_| TargetError::Port(text.to_owned()))?]
            }
        };
        let (user, host) = whom(options, env);
        let (key, more) = our_keys(options, env, &host, &user)?;
        let login = |key| {
            let (user, host, heartbeat) = (user.clone(), host.clone(), Heartbeat::default());
            Login { key, user, host_keys, host, heartbeat }
        };
        let others = more.into_iter().map(login).collect();
        Ok(Self { host: HostName::from(host.as_str()), ports, login: login(key), others })
    }

    /// Connects, by the first way that leads there.
    pub(super) async fn connect(&self, options: &RshOptions) -> Result<Connection, Unreached> {
        let limit = options.connect_timeout.flatten().unwrap_or(CONNECT_TIMEOUT);
        let name = &self.host;
        let words = format!("connect to {name}: no address of the wanted family");
        // Other addresses may come to a name, never to an address.
        let passes = name.as_str().parse::<IpAddr>().is_err();
        let mut last = Unreached { words, hint: None, passes };
        for address in addresses(name, limit).await? {
            let wanted = match options.family.flatten() {
                None => true,
                Some(Family::V4) => address.is_ipv4(),
                Some(Family::V6) => address.is_ipv6(),
            };
            if !wanted {
                continue;
            }
            last = match self.connect_to(address, limit).await {
                Ok(connection) => return Ok(connection),
                Err(unreached) => unreached,
            };
        }
        Err(last)
    }

    async fn connect_to(&self, address: IpAddr, limit: Duration) -> Result<Connection, Unreached> {
        let name = &self.host;
        let words = format!("connect to {name}: no way there");
        let mut last = Unreached { words, hint: None, passes: false };
        for (index, port) in self.ports.iter().enumerate() {
            let peer = SocketAddr::new(address, *port);
            let refused = match index {
                0 => String::new(),
                _ => format!(", and {} refused", self.ports[0]),
            };
            let (error, login) = match self.log_in(peer, limit).await {
                Ok(connection) => return Ok(connection),
                Err(failed) => failed,
            };
            let words = format!("connect to {name} ({peer}{refused}): {error}");
            last = Unreached { words, hint: hint(&error, login), passes: error.passes() };
            if !matches!(error, DialError::Refused) {
                break;
            }
        }
        Err(last)
    }

    /// Tries our keys in their order.
    async fn log_in(
        &self,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<Connection, (DialError, &Login)> {
        let mut last = match Connection::dial(peer, self.login.clone(), limit).await {
            Ok(connection) => return Ok(connection),
            Err(error) => (error, &self.login),
        };
        for login in &self.others {
            if !matches!(last.0, DialError::KeyRefused | DialError::WrongHostKey) {
                break;
            }
            last = match Connection::dial(peer, login.clone(), limit).await {
                Ok(connection) => return Ok(connection),
                Err(error) => (error, login),
            };
        }
        Err(last)
    }
}

/// The keys to log in with: those of the options that are there, else the job's.
fn our_keys(
    options: &RshOptions,
    env: &Environment,
    host: &str,
    user: &str,
) -> Result<(JobKey, Vec<JobKey>), TargetError> {
    let named = named_keys(options, env, host, user)?;
    let Some((first, others)) = named.split_first() else {
        return Ok((keys::find(&keys::directories(None, env))?, Vec::new()));
    };
    Ok((keys::load(first)?, others.iter().filter_map(|path| keys::load(path).ok()).collect()))
}

/// The keys that the options name, those alone that are there; the first one where none is.
fn named_keys(
    options: &RshOptions,
    env: &Environment,
    host: &str,
    user: &str,
) -> Result<Vec<PathBuf>, TargetError> {
    let named = options.identity.iter().map(|path| expand(path, options, env, host, user));
    let mut named = named.collect::<Result<Vec<PathBuf>, _>>()?;
    // As ssh does: a key that is not there is no key. Without any the first one is missed.
    match named.iter().any(|path| path.exists()) {
        true => named.retain(|path| path.exists()),
        false => named.truncate(1),
    }
    named.truncate(MAX_KEYS);
    Ok(named)
}

/// Who to be on the host, and the host to dial.
fn whom(options: &RshOptions, env: &Environment) -> (String, String) {
    let user = options.user.clone().unwrap_or_else(|| user_name(env));
    (user, options.host_name.clone().unwrap_or_else(|| options.host.to_string()))
}

/// The key that is shown first, where the options name any: its whole path, as text.
pub(super) fn key_asked(options: &RshOptions, env: &Environment) -> Option<String> {
    // Most name none, and need no look at passwd.
    let first = options.identity.first()?;
    let (user, host) = whom(options, env);
    // What cannot be told is no key of the launch; who dials says what is the matter with it.
    let named = named_keys(options, env, &host, &user).unwrap_or_else(|_| vec![first.clone()]);
    let key = named.into_iter().next()?;
    Some(std::path::absolute(&key).unwrap_or(key).to_string_lossy().into_owned())
}

/// Replaces a leading `~/`, the tokens and the variables of an `IdentityFile` (ssh_config(5), TOKENS and
/// ENVIRONMENT VARIABLES).
fn expand(
    path: &Path,
    options: &RshOptions,
    env: &Environment,
    host: &str,
    user: &str,
) -> Result<PathBuf, TargetError> {
    let Some(text) = path.to_str() else { return Ok(path.to_path_buf()) };
    let text = with_variables(text, env)?;
    let home = env.non_empty("HOME").unwrap_or("/");
    let value = |token: Option<char>| -> Result<Cow<'_, str>, Infallible> {
        Ok(match token {
            Some('d') => home.into(),
            Some('h') => host.into(),
            Some('n') => options.host.as_str().into(),
            Some('r') => user.into(),
            Some('u') => user_name(env).into(),
            // ssh would end here; a file of that very name may be meant.
            other => std::iter::once('%').chain(other).collect(),
        })
    };
    let Ok(expanded) = config_text::expand(&text, home, value);
    Ok(PathBuf::from(expanded))
}

/// Replaces each `${NAME}`; what a variable holds is not looked at again.
fn with_variables(text: &str, env: &Environment) -> Result<String, TargetError> {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, (name, after))) =
        rest.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let value = env.get(name).ok_or_else(|| TargetError::Variable {
            path: text.to_owned(),
            name: name.to_owned(),
        })?;
        replaced += before;
        replaced += &value.replace('%', "%%");
        rest = after;
    }
    Ok(replaced + rest)
}

/// Asks again, within the limit, where DNS did not answer: that is no word on the host.
async fn addresses(name: &HostName, limit: Duration) -> Result<Vec<IpAddr>, Unreached> {
    let resolver = Resolver::from_system();
    let deadline = Instant::now() + limit;
    // The name of a pod comes with the pod.
    let unreached = |words: String, hint| Unreached { words, hint, passes: true };
    let failed = |error: &LookupError| unreached(format!("resolve {name}: {error}"), error.hint());
    let mut last = None;
    loop {
        match timeout_at(deadline, resolver.lookup(name)).await {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(error)) if error.is_failure() => last = Some(failed(&error)),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => break,
        }
        if timeout_at(deadline, sleep(DNS_PAUSE)).await.is_err() {
            break;
        }
    }
    let late = || unreached(format!("resolve {name}: no answer in {} s", limit.as_secs()), None);
    Err(last.unwrap_or_else(late))
}

fn hint(error: &DialError, login: &Login) -> Option<String> {
    let hint = match (error, login.host_keys) {
        (DialError::Refused, _) => {
            format!("muster workers listen on port {PORT}, sshd on 22: -p or MUSTER_PORT")
        }
        (DialError::NotSsh, _) => "another service has this port: -p or MUSTER_PORT".into(),
        (DialError::WrongHostKey, HostKeys::KnownHosts) => {
            "list the host's key in ~/.ssh/known_hosts (ssh-keyscan prints it)".into()
        }
        (DialError::WrongHostKey, _) => {
            "a stock sshd shows a key of its own: set its HostKey to the job's key, or \
             MUSTER_HOST_KEY=known-hosts here; else another job's worker answers at this address"
                .into()
        }
        (DialError::KeyRefused, _) => format!(
            "{} does not open this host: do both sides mount this job's secret?",
            login.key.path().display()
        ),
        (
            DialError::TimedOut(_)
            | DialError::Closed
            | DialError::Unreachable(_)
            | DialError::Protocol(_),
            _,
        ) => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::ssh::options::parse;

    fn options(words: &[&str]) -> RshOptions {
        parse(words.iter().map(OsString::from)).unwrap()
    }

    fn home_with_keys(names: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        for name in names {
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(home.path().join(".ssh").join(name))
                .status();
            assert!(made.unwrap().success());
        }
        home
    }

    #[test]
    fn ports_and_beliefs() {
        let home = home_with_keys(&["id_rsa"]);
        let home = home.path().to_str().unwrap();
        for (words, variable, expected) in [
            (&["w1", "c"][..], "", &[2222, 22][..]),
            (&["w1", "c"], "2200", &[2200]),
            (&["-p", "22", "w1", "c"], "2200", &[22]),
            (&["-oPort=7", "w1", "c"], "", &[7]),
        ] {
            let env = [("HOME", home), ("MUSTER_PORT", variable)].into_iter().collect();
            let target = Target::resolve(&options(words), &env).unwrap();
            assert_eq!(target.ports, expected, "{words:?} {variable}");
            assert_eq!(target.login.host_keys, HostKeys::Job);
            assert!(target.others.is_empty());
        }
        for (name, value, message) in [
            ("MUSTER_PORT", "x", "read MUSTER_PORT: 'x' is not a port number"),
            (
                "MUSTER_HOST_KEY",
                "maybe",
                "read MUSTER_HOST_KEY: 'maybe' is not job, known-hosts or any",
            ),
        ] {
            let env = [("HOME", home), (name, value)].into_iter().collect();
            let error = Target::resolve(&options(&["w1", "c"]), &env).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn keys_that_are_there_count() {
        let home = home_with_keys(&["id_rsa", "one", "two"]);
        let env: Environment = [("HOME", home.path().to_str().unwrap())].into_iter().collect();
        let at = |name: &str| home.path().join(".ssh").join(name);
        let keys = |words: &[&str]| -> Result<Vec<PathBuf>, TargetError> {
            let target = Target::resolve(&options(words), &env)?;
            let logins = std::iter::once(&target.login).chain(&target.others);
            Ok(logins.map(|login| login.key.path().to_path_buf()).collect())
        };
        assert_eq!(keys(&["w1", "c"]).unwrap(), [at("id_rsa")]);
        assert_eq!(
            keys(&["-i~/.ssh/none", "-i%d/.ssh/two", "-oIdentityFile=~/.ssh/one", "w1", "c"])
                .unwrap(),
            [at("two"), at("one")]
        );
        let error = keys(&["-i~/.ssh/none", "w1", "c"]).unwrap_err().to_string();
        assert!(error.contains("/.ssh/none: No such file"), "{error}");
    }

    #[test]
    fn tokens() {
        let env: Environment = [("HOME", "/h"), ("USER", "me"), ("K", "a%h")].into_iter().collect();
        let options = options(&["w1", "c"]);
        for (path, expected) in [
            ("~/k", "/h/k"),
            ("%d/%u-%r@%h-%n%%", "/h/me-ann@w1.svc-w1%"),
            ("/k%z", "/k%z"),
            ("/k%", "/k%"),
            ("~ann/k", "~ann/k"),
            ("~/${K}-${USER}.%u", "/h/a%h-me.me"),
            ("/$K/${K", "/$K/${K"),
        ] {
            let found = expand(Path::new(path), &options, &env, "w1.svc", "ann").unwrap();
            assert_eq!(found, Path::new(expected), "{path}");
        }
        let error = expand(Path::new("/${NO}"), &options, &env, "w1.svc", "ann").unwrap_err();
        assert_eq!(error.to_string(), "read IdentityFile /${NO}: ${NO} is not set");
    }
}
