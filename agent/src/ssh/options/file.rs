//! ssh_config(5): fills in what the command line leaves open.
//!
//! Must not connect or look a name up. Only the direct way reads these files; inside a launch the
//! engine's connection is there already, and nothing in them can change it.

use std::io;
use std::path::{Path, PathBuf};

use super::keywords::apply_setting;
use super::{ConfigFiles, Given, OptionsError, RshOptions};
use crate::config::env::Environment;
use crate::exit::{Class, Explain};
use crate::ssh::config_text::{MAX_DEPTH, included, read, setting};
use crate::text::matches;

/// The configuration of all users, and whence its `Include` begins.
const SYSTEM_DIR: &str = "/etc/ssh";

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

fn complete_from(
    options: &RshOptions,
    env: &Environment,
    system: &Path,
) -> Result<RshOptions, ConfigError> {
    let home = Path::new(env.non_empty("HOME").unwrap_or("/"));
    let mut reader =
        Reader { host: options.host.as_str(), given: Given::default(), unknown: Vec::new() };
    match &options.config {
        ConfigFiles::None => {}
        ConfigFiles::One(path) => reader.file(path, &home.join(".ssh"), true, 0)?,
        ConfigFiles::Usual => {
            for (path, base) in [
                (home.join(".ssh/config"), home.join(".ssh")),
                (system.join("ssh_config"), system.into()),
            ] {
                reader.file(&path, &base, false, 0)?;
            }
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
    options.stdin_null |= given.stdin_null;
    options.identity.extend(given.identity);
    options.send_env.extend(given.send_env);
    if options.set_env.is_empty() {
        options.set_env = given.set_env;
    }
    options.ignored.extend(given.ignored);
    Ok(options)
}

/// Reads files for one host.
struct Reader<'a> {
    host: &'a str,
    given: Given,
    /// `IgnoreUnknown`.
    unknown: Vec<String>,
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
                    active = matches!(several()?, [one] if one.eq_ignore_ascii_case("all"));
                    if !active {
                        self.given.ignore("Match".into(), "muster reads blocks of Host alone");
                    }
                }
                _ if !active => {}
                "include" => {
                    for file in several()?.iter().flat_map(|one| included(&home(one, base), base)) {
                        self.file(&file, base, false, depth + 1)?;
                    }
                }
                "ignoreunknown" => {
                    let lists = several()?.iter().flat_map(|list| list.split(','));
                    self.unknown.extend(lists.map(str::to_ascii_lowercase));
                }
                keyword => {
                    let known = self.unknown.iter().any(|pattern| matches(pattern, keyword));
                    match apply_setting(&mut self.given, &setting.name, &setting.name, values) {
                        Err(OptionsError::Unknown(_)) if known => {}
                        result => result.map_err(|error| at(problem(error)))?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a line of `Host` patterns is about the host: one matches, and none with a `!` does.
    fn is_named(&self, patterns: &[String]) -> bool {
        let host = self.host.to_ascii_lowercase();
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
mod tests {
    use std::ffi::OsString;
    use std::time::Duration;

    use super::*;
    use crate::ssh::options::parse;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(user: &str, system: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("home/.ssh/more")).unwrap();
            std::fs::create_dir_all(dir.path().join("etc/d")).unwrap();
            std::fs::write(dir.path().join("home/.ssh/config"), user).unwrap();
            std::fs::write(dir.path().join("etc/ssh_config"), system).unwrap();
            Self(dir)
        }

        fn add(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        fn options(&self, words: &[&str]) -> Result<RshOptions, ConfigError> {
            let options = parse(words.iter().map(OsString::from)).unwrap();
            let home = self.0.path().join("home").display().to_string();
            let env: Environment = [("HOME", home)].into_iter().collect();
            complete_from(&options, &env, &self.0.path().join("etc"))
        }
    }

    #[test]
    fn the_first_value_counts_and_the_command_line_comes_first() {
        let files = Files::new(
            "Host w1 w2\n  Port 2200\n  User ann\n  IdentityFile ~/.ssh/one\n\
             Host w*\n  Port 2300\n  User bob\n  ConnectTimeout 5\n  IdentityFile ~/.ssh/two\n\
             Host *\n  HostName %h.svc\n",
            "ConnectTimeout 9\nConnectionAttempts 7\nStrictHostKeyChecking no\nSendEnv LANG LC_*\n",
        );
        let options = files.options(&["w1", "c"]).unwrap();
        assert_eq!((options.port, options.user.as_deref()), (Some(2200), Some("ann")));
        assert_eq!(options.host_name.as_deref(), Some("w1.svc"));
        assert_eq!(options.connect_timeout.flatten(), Some(Duration::from_secs(5)));
        assert_eq!(options.connection_attempts, Some(7));
        assert_eq!(options.identity, ["~/.ssh/one", "~/.ssh/two"].map(PathBuf::from));
        assert_eq!(options.send_env, ["LANG", "LC_*"]);
        assert_eq!(options.ignored.len(), 1);

        let options = files.options(&["w3", "c"]).unwrap();
        assert_eq!((options.port, options.user.as_deref()), (Some(2300), Some("bob")));
        let options = files
            .options(&["-p1", "-oConnectTimeout=none", "-oHostName=a", "-i/k", "eve@w1", "c"])
            .unwrap();
        assert_eq!((options.port, options.user.as_deref()), (Some(1), Some("eve")));
        assert_eq!(options.connect_timeout, Some(None));
        assert_eq!(options.host_name.as_deref(), Some("a"));
        assert_eq!(options.identity[0], Path::new("/k"));
        assert_eq!(files.options(&["other", "c"]).unwrap().port, None);
    }

    #[test]
    fn which_hosts_a_block_is_about() {
        for (patterns, host, expected) in [
            ("w1", "w1", true),
            ("W1", "w1", true),
            ("w?", "w1", true),
            ("w?", "w10", false),
            ("*.svc", "w1.pi.svc", true),
            ("!w1 *", "w1", false),
            ("* !w1", "w1", false),
            ("* !w1", "w2", true),
            ("!w1", "w2", false),
            ("10.0.0.*", "10.0.0.7", true),
        ] {
            let files = Files::new(&format!("Host {patterns}\nPort 7\n"), "");
            let port = files.options(&[host, "c"]).unwrap().port;
            assert_eq!(port.is_some(), expected, "{patterns} {host}");
        }
    }

    #[test]
    fn which_files_are_read() {
        let files = Files::new("Include more/*\nPort 1\n", "Port 2\n");
        assert_eq!(files.options(&["w1", "c"]).unwrap().port, Some(1));
        files.add("home/.ssh/more/a", "Host other\nPort 5\nHost w2\nPort 6\n");
        assert_eq!(files.options(&["w1", "c"]).unwrap().port, Some(1));
        assert_eq!(files.options(&["w2", "c"]).unwrap().port, Some(6));
        files.add("etc/alone", "User ann\n");
        let alone = files.0.path().join("etc/alone").display().to_string();
        let options = files.options(&["-F", &alone, "w1", "c"]).unwrap();
        assert_eq!((options.port, options.user.as_deref()), (None, Some("ann")));
        assert_eq!(files.options(&["-Fnone", "w1", "c"]).unwrap().port, None);
        assert_eq!(files.options(&["-F/dev/null", "w1", "c"]).unwrap().port, None);
        let error = files.options(&["-F", "/no/such", "w1", "c"]).unwrap_err();
        assert_eq!(error.to_string(), "read /no/such: No such file or directory (os error 2)");
        // A block that is not read includes nothing.
        let files = Files::new("Host other\nInclude more/*\n", "");
        files.add("home/.ssh/more/a", "Port 5\n");
        assert_eq!(files.options(&["w1", "c"]).unwrap().port, None);
        let files = Files::new("Include config\n", "");
        assert!(files.options(&["w1", "c"]).unwrap_err().to_string().contains("too deep"));
    }

    #[test]
    fn match_is_passed_over_but_for_all() {
        let files = Files::new("Match host w1\nPort 5\nMatch all\nUser ann\n", "");
        let options = files.options(&["w1", "c"]).unwrap();
        assert_eq!((options.port, options.user.as_deref()), (None, Some("ann")));
        assert_eq!(options.ignored[0].to_string(), "Match: muster reads blocks of Host alone");
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        for (text, words) in [
            ("Port x", "line 2: Port takes a port from 1 to 65535, not \"x\""),
            ("Port", "line 2: Port needs a value"),
            ("User \"a", "line 2: User takes a value with its quotes closed"),
            ("Host", "line 2: Host needs a value"),
            ("Bogus 1", "line 2: ssh has no setting Bogus"),
            ("ProxyJump gate", "line 2: ProxyJump cannot be honoured: muster dials hosts directly"),
        ] {
            let files = Files::new(&format!("\n{text}\n"), "");
            let error = files.options(&["w1", "c"]).unwrap_err();
            assert!(error.to_string().contains("/.ssh/config "), "{error}");
            assert!(error.to_string().contains(words), "{text}: {error}");
            assert!(error.hint().is_some());
        }
        let files = Files::new("IgnoreUnknown bog*\nBogus 1\nHost gate\nProxyJump gate\n", "");
        files.options(&["w1", "c"]).unwrap();
    }
}
