//! The command line of `muster rsh [options] host command…`, read exactly as ssh(1) reads it.
//!
//! Must not connect or look a name up; only `file` reads files. An option is honoured, ignored because it says
//! nothing here, or refused because the result would differ from what was asked for; there is no
//! fourth way.

mod criteria;
pub mod file;
mod flags;
mod keywords;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::exit::{Class, Explain};
use crate::ids::HostName;

/// Which addresses of a name to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only (`-4`).
    V4,
    /// IPv6 only (`-6`).
    V6,
}

/// An option that was understood and has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// As given: `-x`, `StrictHostKeyChecking`.
    pub option: String,
    /// Why it needs none.
    pub reason: &'static str,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.reason)
    }
}

/// What the command line asks for. Where an option is given twice, the first one counts, as in ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RshOptions {
    /// The host as mpirun names it, without user, brackets and port.
    pub host: HostName,
    /// `HostName=`: dial this instead; `%h` is already replaced.
    pub host_name: Option<String>,
    /// Who to be there.
    pub user: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
    /// Private keys to try, in order.
    pub identity: Vec<PathBuf>,
    /// How long one attempt to connect may take; the inner none is `ConnectTimeout=none`.
    pub connect_timeout: Option<Option<Duration>>,
    /// How many attempts to connect.
    pub connection_attempts: Option<u32>,
    /// Which addresses to use; the inner none is `AddressFamily=any`.
    pub family: Option<Option<Family>>,
    /// How many `-v`, or what `LogLevel` makes of that; 0 with `-q`. Errors are told always: Intel MPI has
    /// `-q` on every line.
    pub verbose: Option<u8>,
    /// `-n`: the command reads end of file.
    pub stdin_null: bool,
    /// `SetEnv=`: variables for the command.
    pub set_env: Vec<(String, String)>,
    /// `SendEnv=`: patterns (`*`, `?`) for variables of ours that the command gets too.
    pub send_env: Vec<String>,
    /// The words of the command with single spaces between, byte for byte; never empty.
    pub command: OsString,
    /// `-F`: which files of configuration complete this.
    pub config: ConfigFiles,
    /// `-P`: what `Match tagged` asks about.
    pub tag: Option<String>,
    /// `IgnoreUnknown=`: patterns, with commas between, of settings that files may have and ssh has not.
    pub ignore_unknown: Option<String>,
    /// Options without effect, for `-v` to tell.
    pub ignored: Vec<Ignored>,
}

/// Which files of configuration are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConfigFiles {
    /// The user's and the system's.
    #[default]
    Usual,
    /// This one.
    One(PathBuf),
    /// None (`-F none`).
    None,
}

/// What is wrong with the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Only options.
    #[error("read the remote-shell command line: no host given")]
    NoHost,
    /// ssh would open an interactive shell.
    #[error("run a command on {0}: none given")]
    NoCommand(HostName),
    /// Not a host that ssh would accept.
    #[error("read the remote-shell command line: {0:?} is no host name")]
    Host(String),
    /// Not an option of ssh.
    #[error("read the remote-shell command line: ssh has no option {0}")]
    Unknown(String),
    /// The last word, and it needs one more.
    #[error("read the remote-shell command line: {0} needs a value")]
    NoValue(String),
    /// A value of the wrong form.
    #[error("read the remote-shell command line: {option} takes {expected}, not {value:?}")]
    Value {
        /// As given.
        option: String,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// An option that muster cannot honour and must not ignore.
    #[error("honour {option}: {reason}")]
    Refused {
        /// As given.
        option: String,
        /// What is missing.
        reason: &'static str,
    },
}

impl Explain for OptionsError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoHost | Self::Host(_) | Self::Unknown(_) | Self::NoValue(_) => {
                "usage: muster rsh [ssh options] host command…".to_owned()
            }
            Self::NoCommand(host) => format!("give a command: muster rsh {host} hostname"),
            Self::Value { .. } => "ssh_config(5) tells what each option takes".to_owned(),
            Self::Refused { option, .. } => format!(
                "take {option} out of the remote-shell arguments (plm_rsh_args, \
                 HYDRA_LAUNCHER_EXTRA_ARGS), or use ssh for this"
            ),
        })
    }
}

/// Reads the words after `muster rsh`.
///
/// # Errors
/// Where ssh would refuse them too, where they name no command, or where muster cannot do what they
/// ask for.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<RshOptions, OptionsError> {
    let mut words = words.into_iter();
    let mut given = Given::default();
    // Once before the host and once after it: hostfile entries put `-p 2222` behind the name.
    let (word, terminated) = flags::read(&mut words, &mut given)?;
    let word = word.ok_or(OptionsError::NoHost)?;
    let destination = Destination::read(&word)?;
    given.user = given.user.or(destination.user);
    given.port = given.port.or(destination.port);
    let first = if terminated { words.next() } else { flags::read(&mut words, &mut given)?.0 };

    let mut command = Vec::new();
    for (index, word) in first.into_iter().chain(words).enumerate() {
        if index > 0 {
            command.push(b' ');
        }
        command.extend_from_slice(word.as_bytes());
    }
    let host = destination.host;
    if command.is_empty() {
        return Err(OptionsError::NoCommand(host));
    }
    Ok(RshOptions {
        host_name: given.host_name.map(|name| expand_host(&name, host.as_str())),
        host,
        user: given.user,
        port: given.port,
        identity: given.identity,
        connect_timeout: given.connect_timeout,
        connection_attempts: given.connection_attempts,
        family: given.family,
        verbose: given.verbose,
        stdin_null: given.stdin_null,
        set_env: given.set_env,
        send_env: given.send_env,
        command: OsString::from_vec(command),
        config: given.config.unwrap_or_default(),
        tag: given.tag,
        ignore_unknown: given.ignore_unknown,
        ignored: given.ignored,
    })
}

/// The options met so far.
#[derive(Debug, Default)]
struct Given {
    host_name: Option<String>,
    user: Option<String>,
    port: Option<u16>,
    identity: Vec<PathBuf>,
    /// The inner `None` is `ConnectTimeout=none`, which a later one does not change.
    connect_timeout: Option<Option<Duration>>,
    connection_attempts: Option<u32>,
    /// The inner `None` is `AddressFamily=any`, which a later one does not change.
    family: Option<Option<Family>>,
    verbose: Option<u8>,
    stdin_null: bool,
    set_env: Vec<(String, String)>,
    send_env: Vec<String>,
    config: Option<ConfigFiles>,
    tag: Option<String>,
    ignore_unknown: Option<String>,
    ignored: Vec<Ignored>,
}

impl Given {
    fn ignore(&mut self, option: String, reason: &'static str) {
        let ignored = Ignored { option, reason };
        if !self.ignored.contains(&ignored) {
            self.ignored.push(ignored);
        }
    }
}

/// Replaces `%h` and `%%` in a `HostName`.
fn expand_host(name: &str, host: &str) -> String {
    name.replace("%%", "\0").replace("%h", host).replace('\0', "%")
}

/// A port number as ssh takes it from `-p`, `Port=` and a URI.
fn port(option: &str, value: &str) -> Result<u16, OptionsError> {
    value.parse().ok().filter(|port| *port != 0).ok_or_else(|| OptionsError::Value {
        option: option.to_owned(),
        value: value.to_owned(),
        expected: "a port from 1 to 65535",
    })
}

/// `host`, `user@host` or `ssh://[user@]host[:port]`.
struct Destination {
    host: HostName,
    user: Option<String>,
    port: Option<u16>,
}

impl Destination {
    fn read(word: &OsStr) -> Result<Self, OptionsError> {
        let wrong = || OptionsError::Host(word.to_string_lossy().into_owned());
        let text = word.to_str().ok_or_else(wrong)?;
        let uri = text.strip_prefix("ssh://").map(|uri| uri.strip_suffix('/').unwrap_or(uri));
        let rest = uri.unwrap_or(text);
        // The last @, because user names may hold one.
        let (user, mut host) = match rest.rsplit_once('@') {
            Some(("", _)) => return Err(wrong()),
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let mut number = None;
        if uri.is_some()
            && let Some((name, digits)) = host.rsplit_once(':')
            // A colon inside brackets belongs to an IPv6 address.
            && !digits.ends_with(']')
        {
            number = Some(port("the destination", digits)?);
            host = name;
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let fine =
            |c: char| !c.is_control() && !c.is_whitespace() && !"'\"`$\\;&<>|(){}/".contains(c);
        if bare.is_empty() || bare.starts_with('-') || !bare.chars().all(fine) {
            return Err(wrong());
        }
        let user = match user {
            Some(user) if uri.is_some() => Some(percent_decoded(user).ok_or_else(wrong)?),
            other => other.map(str::to_owned),
        };
        Ok(Self { host: HostName::from(bare), user, port: number })
    }
}

/// RFC 3986, section 2.1.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
