//! The command line and the configuration of sshd(8), read as what a worker in its place must do.
//!
//! Must not listen, or read a key. A setting is honoured, ignored because it asks for nothing that a
//! worker does otherwise, or refused because more would be let in, or something else would happen,
//! than was asked for; there is no fourth way.

mod flags;
mod keywords;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::access::KeyRules;
use super::config_text::{self, MAX_DEPTH, included, setting};
use crate::exit::{Class, Explain};

/// Where sshd looks for its configuration, and whence an `Include` begins.
const CONFIG_DIR: &str = "/etc/ssh";
/// Its file there.
pub const CONFIG_FILE: &str = "/etc/ssh/sshd_config";

/// What sshd was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `-?` and `--help`.
    Help,
    /// `-V`.
    Version,
    /// Serve, or with `-t` only check the configuration.
    Serve(Box<SshdOptions>),
}

/// One `ListenAddress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// Where: an address, or a name that stands for some.
    pub host: String,
    /// A port of its own; none = each of [`SshdOptions::ports`].
    pub port: Option<u16>,
}

/// What is left of sshd's settings for a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshdOptions {
    /// `-t`: check, do not serve.
    pub check: bool,
    /// `-D` or `-d`: stay in the foreground.
    pub foreground: bool,
    /// `-e` or `-d`: in the background too, stderr is kept.
    pub stderr: bool,
    /// `-d`, or a LogLevel of DEBUG: say more.
    pub debug: bool,
    /// `-q`, or a LogLevel of QUIET: say nothing of what is ignored.
    pub quiet: bool,
    /// `-p` and `Port`; none given = sshd's own default.
    pub ports: Vec<u16>,
    /// `ListenAddress`; none given = every address.
    pub listen: Vec<ListenAddress>,
    /// `AddressFamily`, `-4`, `-6`: whether addresses of IPv4 and of IPv6 are wanted.
    pub families: Families,
    /// `-h` and `HostKey`; none given = the job's key.
    pub host_keys: Vec<PathBuf>,
    /// `AuthorizedKeysFile`, tokens not yet replaced; none given = sshd's default.
    pub authorized_keys: Option<Vec<String>>,
    /// `RequiredRSASize` and `PubkeyAcceptedAlgorithms`.
    pub rules: KeyRules,
    /// `PidFile`, where one is asked for by name.
    pub pid_file: Option<PathBuf>,
    /// `AcceptEnv`: patterns that clients may set beside the usual ones.
    pub accept_env: Vec<String>,
    /// `SetEnv`: variables for every command.
    pub set_env: Vec<(String, String)>,
    /// Settings without effect, each once, with the reason.
    pub ignored: Vec<(String, &'static str)>,
}

impl SshdOptions {
    /// What is ignored and why, in one line; empty where nothing is.
    #[must_use]
    pub fn without_effect(&self) -> String {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, reason) in &self.ignored {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        let told: Vec<String> = reasons
            .into_iter()
            .map(|(reason, names)| format!("{} ({reason})", names.join(", ")))
            .collect();
        if told.is_empty() { String::new() } else { format!("sshd: ignored {}", told.join("; ")) }
    }
}

/// Which addresses are listened on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Families {
    /// Both.
    #[default]
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Families {
    /// Whether this address is wanted.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Behind `-o`, or as a flag of its own.
    CommandLine,
    /// In a file.
    File(PathBuf, usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("sshd's command line"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
        }
    }
}

/// What is wrong with the command line or the configuration.
#[derive(Debug, thiserror::Error)]
pub enum SshdOptionsError {
    /// Not an option of sshd.
    #[error("read sshd's command line: sshd has no option {0}")]
    Flag(String),
    /// A word that no option takes.
    #[error("read sshd's command line: {0:?} belongs to no option")]
    Extra(String),
    /// The last word, and it needs one more.
    #[error("read sshd's command line: {0} needs a value")]
    NoFlagValue(String),
    /// The file cannot be read.
    #[error("read {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A value of the wrong form.
    #[error("read {place}: {name} takes {expected}, not {value:?}")]
    Value {
        /// Where it stands.
        place: Place,
        /// The keyword, or the flag.
        name: String,
        /// What would be right.
        expected: &'static str,
        /// What was given.
        value: String,
    },
    /// Not a keyword of sshd_config(5).
    #[error("read {place}: sshd has no setting {name}")]
    Unknown {
        /// Where it stands.
        place: Place,
        /// The keyword.
        name: String,
    },
    /// A setting that muster cannot honour and must not ignore.
    #[error("honour {name} ({place}): {reason}")]
    Refused {
        /// Where it stands.
        place: Place,
        /// The keyword with its value, or the flag.
        name: String,
        /// What is missing.
        reason: &'static str,
    },
}

impl Explain for SshdOptionsError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Flag(_) | Self::Extra(_) | Self::NoFlagValue(_) => {
                "sshd --help lists what muster reads in place of sshd".to_owned()
            }
            Self::File { .. } => "-f names the configuration; -f none reads none".to_owned(),
            Self::Value { .. } | Self::Unknown { .. } => {
                "sshd_config(5) lists the settings, and what each takes".to_owned()
            }
            Self::Refused { name, .. } => {
                format!("take {name} out, or run OpenSSH's sshd where it is needed")
            }
        })
    }
}

/// Reads the words after `sshd`, and the configuration that they name. `root` says whether the worker
/// runs as root, for settings that are about root alone.
///
/// # Errors
/// Where sshd would refuse them too, or where a worker cannot do what they ask for.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    root: bool,
) -> Result<Request, SshdOptionsError> {
    parse_with(words, root, Path::new(CONFIG_FILE))
}

/// Reads a configuration alone, where it is there; what a worker of any UID could do by it.
///
/// # Errors
/// As for [`parse`].
pub fn check(file: &Path) -> Result<(), SshdOptionsError> {
    parse_with([], false, file).map(drop)
}

/// The same, with another default for the configuration.
fn parse_with(
    words: impl IntoIterator<Item = OsString>,
    root: bool,
    default: &Path,
) -> Result<Request, SshdOptionsError> {
    let mut given = Given { root, ..Given::default() };
    let file = match flags::read(words.into_iter(), &mut given)? {
        flags::Asked::Help => return Ok(Request::Help),
        flags::Asked::Version => return Ok(Request::Version),
        flags::Asked::Serve { file } => file,
    };
    match file {
        Some(path) if path == Path::new("none") => {}
        Some(path) => read_file(&mut given, &path, 0)?,
        // An image without OpenSSH has none, and needs none.
        None if default.exists() => read_file(&mut given, default, 0)?,
        None => {}
    }
    let Given { mut options, families, pid_file, rsa_bits, algorithms, .. } = given;
    options.families = families.unwrap_or_default();
    options.pid_file = pid_file.flatten();
    options.rules =
        KeyRules { rsa_bits: rsa_bits.unwrap_or_default(), algorithms: algorithms.flatten() };
    Ok(Request::Serve(Box::new(options)))
}

/// What was met so far; where a setting is given twice, the first one counts, as in sshd.
#[derive(Debug, Default)]
struct Given {
    options: SshdOptions,
    root: bool,
    /// `-p` was given: `Port` counts no more.
    port_by_flag: bool,
    families: Option<Families>,
    pid_file: Option<Option<PathBuf>>,
    rsa_bits: Option<usize>,
    /// The inner none adds to the usual ones, which a later list does not change.
    algorithms: Option<Option<Vec<String>>>,
    log_level: bool,
}

impl Given {
    /// Takes these families, where none were asked for before.
    fn prefer(&mut self, families: Families) {
        self.families.get_or_insert(families);
    }

    fn ignore(&mut self, name: &str, reason: &'static str) {
        let known = |(one, _): &(String, &str)| one.eq_ignore_ascii_case(name);
        if !self.options.ignored.iter().any(known) {
            self.options.ignored.push((name.to_owned(), reason));
        }
    }
}

fn read_file(given: &mut Given, path: &Path, depth: usize) -> Result<(), SshdOptionsError> {
    let wrong = |source| SshdOptionsError::File { path: path.to_path_buf(), source };
    if depth > MAX_DEPTH {
        return Err(wrong(io::Error::other("Include inside Include, too deep")));
    }
    let text = config_text::read(path).map_err(wrong)?;
    for (index, line) in text.lines().enumerate() {
        let place = Place::File(path.to_path_buf(), index + 1);
        let Some(setting) = setting(line) else { continue };
        let values = keywords::values(&setting, &place)?;
        if setting.name.eq_ignore_ascii_case("include") {
            let files = values.iter();
            for file in files.flat_map(|one| included(Path::new(one), Path::new(CONFIG_DIR))) {
                read_file(given, &file, depth + 1)?;
            }
            continue;
        }
        keywords::apply(given, &setting.name, &values, &place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
