//! ssh_config(5): fills in what the command line leaves open.
//!
//! Must not connect or look a name up. Only the direct way reads the usual files; inside a launch the
//! engine's connection is there already, and only a file that the command line names leads elsewhere.

use std::io;
use std::path::{Path, PathBuf};

use super::criteria::{Facts, hold};
use super::keywords::apply_setting;
use super::{ConfigFiles, Given, OptionsError, RshOptions};
use crate::config::env::Environment;
use crate::devices::own::user_name;
use crate::exit::{Class, Explain};
use crate::ssh::config_text::{MAX_DEPTH, included, read, setting};
use crate::text::matches;

/// The configuration of all users, and whence its `Include` begins.
pub const SYSTEM_DIR: &str = "/etc/ssh";

/// Why a configuration file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It was named and cannot be read.
    #[error("read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line of it is wrong, or cannot be honoured.
    #[error("follow {} line {line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is the matter with it.
        problem: String,
    },
}

impl Explain for ConfigError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some("change the line, or read no configuration with -F none".to_owned())
    }
}

/// Completes the options from the files that they name, else from ~/.ssh/config and
/// /etc/ssh/ssh_config. `HOME` says where home is: an arbitrary UID has no passwd entry.
///
/// # Errors
/// See [`ConfigError`].
pub fn complete(options: &RshOptions, env: &Environment) -> Result<RshOptions, ConfigError> {
    complete_from(options, env, Path::new(SYSTEM_DIR))
}

/// Reads the configuration of all users alone, where it is there, for a host that no pattern knows.
///
/// # Errors
/// See [`ConfigError`].
pub fn check(system: &Path) -> Result<(), ConfigError> {
    let Ok(nobody) = super::parse(["nobody.invalid", "true"].map(Into::into)) else {
        return Ok(());
    };
    let homeless = [("HOME", "/dev/null")].into_iter().collect();
    complete_from(&nobody, &homeless, system).map(drop)
}

fn complete_from(
    options: &RshOptions,
    env: &Environment,
    system: &Path,
) -> Result<RshOptions, ConfigError> {
    let home = Path::new(env.non_empty("HOME").unwrap_or("/"));
    let ignore_unknown = options.ignore_unknown.clone();
    let given = Given { ignore_unknown, ..Given::default() };
    let mut reader = Reader { options, env, given, again: false, final_seen: false };
    let files = match &options.config {
        ConfigFiles::None => Vec::new(),
        ConfigFiles::One(path) => vec![(path.clone(), home.join(".ssh"))],
        ConfigFiles::Usual => vec![
            (home.join(".ssh/config"), home.join(".ssh")),
            (system.join("ssh_config"), system.into()),
        ],
    };
    let named = options.config != ConfigFiles::Usual;
    for again in [false, true] {
        reader.again = again;
        for (path, base) in &files {
            reader.file(path, base, named, 0)?;
        }
        if !reader.final_seen {
            break;
        }
    }
    let given = reader.given;
    let mut options = options.clone();
    options.user = options.user.or(given.user);
    options.port = options.port.or(given.port);
    let name = options.host.as_str();
    options.host_name =
        options.host_name.or(given.host_name.map(|text| super::expand_host(&text, name)));
    options.connect_timeout = options.connect_timeout.or(given.connect_timeout);
    options.connection_attempts = options.connection_attempts.or(given.connection_attempts);
    options.family = options.family.or(given.family);
    options.verbose = options.verbose.or(given.verbose);
    options.stdin_null |= given.stdin_null;
    options.identity.extend(given.identity);
    options.send_env.extend(given.send_env);
    if options.set_env.is_empty() {
        options.set_env = given.set_env;
    }
    options.ignored.extend(given.ignored);
    Ok(options)
}

/// Reads files for one command line.
struct Reader<'a> {
    options: &'a RshOptions,
    env: &'a Environment,
    given: Given,
    /// All is read for the second time, because a `Match final` was seen; Red Hat's own file has one.
    again: bool,
    final_seen: bool,
}

impl Reader<'_> {
    fn file(
        &mut self,
        path: &Path,
        base: &Path,
        named: bool,
        depth: usize,
    ) -> Result<(), ConfigError> {
        let wrong = |source| ConfigError::Unreadable { path: path.to_path_buf(), source };
        if depth > MAX_DEPTH {
            return Err(wrong(io::Error::other("Include inside Include, too deep")));
        }
        let text = match read(path) {
            Ok(text) => text,
            // As ssh does: what nobody named may be missing, or be somebody else's.
            Err(error) if !named && error.kind() != io::ErrorKind::InvalidData => {
                return match error.kind() {
                    io::ErrorKind::Other => Err(wrong(error)),
                    _ => Ok(()),
                };
            }
            Err(error) => return Err(wrong(error)),
        };
        let mut active = true;
        for (index, line) in text.lines().enumerate() {
            let Some(setting) = setting(line) else { continue };
            let at =
                |problem| ConfigError::Line { path: path.to_path_buf(), line: index + 1, problem };
            let values = setting.values.as_deref();
            let several = || {
                values.filter(|values| !values.is_empty()).ok_or_else(|| {
                    at(format!("{} needs a value with its quotes closed", setting.name))
                })
            };
            match setting.name.to_ascii_lowercase().as_str() {
                "host" => active = self.is_named(several()?),
                "match" => {
                    let is_final = |word: &String| {
                        word.strip_prefix('!').unwrap_or(word).eq_ignore_ascii_case("final")
                    };
                    self.final_seen |= several()?.iter().any(is_final);
                    active = self.is_meant(several()?).map_err(at)?;
                }
                _ if !active => {}
                "include" => {
                    for file in several()?.iter().flat_map(|one| included(&home(one, base), base)) {
                        self.file(&file, base, false, depth + 1)?;
                    }
                }
                _ => apply_setting(&mut self.given, &setting.name, &setting.name, values)
                    .map_err(|error| at(problem(error)))?,
            }
        }
        Ok(())
    }

    /// Whether a line of `Host` patterns is about the host: one matches, and none with a `!` does.
    fn is_named(&self, patterns: &[String]) -> bool {
        let original = self.options.host.to_string();
        let host = if self.again { self.host_name().unwrap_or(original) } else { original };
        let host = host.to_ascii_lowercase();
        let is = |pattern: &str| matches(&pattern.to_ascii_lowercase(), &host);
        let mut named = false;
        for pattern in patterns {
            match pattern.strip_prefix('!') {
                Some(other) if is(other) => return false,
                Some(_) => {}
                None => named |= is(pattern),
            }
        }
        named
    }

    /// What `HostName` says so far, if anything.
    fn host_name(&self) -> Option<String> {
        let by_file = || {
            let name = self.given.host_name.as_ref()?;
            Some(super::expand_host(name, self.options.host.as_str()))
        };
        self.options.host_name.clone().or_else(by_file)
    }

    /// Whether the criteria of a `Match` line hold, by what is known up to that line.
    fn is_meant(&self, words: &[String]) -> Result<bool, String> {
        let (options, given) = (self.options, &self.given);
        let original = options.host.as_str();
        let host = self.host_name();
        let local_user = &user_name(self.env);
        let facts = Facts {
            host: host.as_deref().unwrap_or(original),
            original,
            user: options.user.as_ref().or(given.user.as_ref()).unwrap_or(local_user),
            local_user,
            again: self.again,
            tag: options.tag.as_ref().or(given.tag.as_ref()).map_or("", String::as_str),
        };
        hold(words, &facts)
    }
}

/// A path with its `~/` replaced; `base` is the directory below home that user files lie in.
fn home(path: &str, base: &Path) -> PathBuf {
    match (path.strip_prefix("~/"), base.parent()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// The words of a command line's error that fit a line of a file.
fn problem(error: OptionsError) -> String {
    match error {
        OptionsError::Value { option, value, expected } => {
            format!("{option} takes {expected}, not {value:?}")
        }
        OptionsError::Refused { option, reason } => {
            format!("{option} cannot be honoured: {reason}")
        }
        OptionsError::Unknown(option) => format!("ssh has no setting {option}"),
        OptionsError::NoValue(option) => format!("{option} needs a value"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
