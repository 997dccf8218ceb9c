//! The single-letter options of sshd(8), read as getopt(3) reads them.
//!
//! Must not decide what a value means beyond its form; `-o` goes to `keywords`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::super::config_text::setting;
use super::{Families, Given, Place, SshdOptionsError, keywords};

/// What the command line asks for.
pub(super) enum Asked {
    Help,
    Version,
    Serve { file: Option<PathBuf> },
}

/// What a letter does here.
enum Does {
    Help,
    Version,
    File,
    Set(fn(&mut Given)),
    Take(fn(&mut Given, String) -> Result<(), SshdOptionsError>),
    Ignore(&'static str),
    IgnoreValue(&'static str),
    Refuse(&'static str),
    RefuseValue(&'static str),
}

/// OpenSSH's letters, all of them (sshd.c, `getopt`).
fn does(letter: u8) -> Option<Does> {
    use Does::{File, Help, Ignore, IgnoreValue, Refuse, RefuseValue, Set, Take, Version};
    Some(match letter {
        b'4' => Set(|given| given.prefer(Families::V4)),
        b'6' => Set(|given| given.prefer(Families::V6)),
        b'b' | b'k' => IgnoreValue("this was for SSH protocol 1"),
        b'C' => RefuseValue("muster checks the configuration with -t alone"),
        b'c' => RefuseValue("muster shows a key, not a certificate"),
        b'D' => Set(|given| given.options.foreground = true),
        b'd' => Set(|given| {
            given.options.foreground = true;
            given.options.stderr = true;
            given.options.debug = true;
        }),
        b'E' => IgnoreValue("muster logs to stderr"),
        b'e' => Set(|given| given.options.stderr = true),
        b'f' => File,
        b'G' | b'T' => Refuse("muster checks the configuration with -t alone"),
        b'g' => IgnoreValue("muster gives strangers 20 s to log in"),
        b'h' => Take(|given, value| {
            given.options.host_keys.push(value.into());
            Ok(())
        }),
        b'i' => Refuse("muster listens by itself"),
        b'o' => Take(|given, value| {
            let no_value = || SshdOptionsError::NoFlagValue("-o".to_owned());
            let setting = setting(&value).ok_or_else(no_value)?;
            let values = keywords::values(&setting, &Place::CommandLine)?;
            keywords::apply(given, &setting.name, &values, &Place::CommandLine)
        }),
        b'p' => Take(|given, value| {
            let port = keywords::port("-p", &value, &Place::CommandLine)?;
            given.port_by_flag = true;
            given.options.ports.push(port);
            Ok(())
        }),
        b'q' => Set(|given| given.options.quiet = true),
        b'r' | b'R' => Ignore("muster does not start itself anew for a connection"),
        b't' => Set(|given| given.options.check = true),
        b'u' => IgnoreValue("muster writes no utmp"),
        b'V' => Version,
        b'?' => Help,
        _ => return None,
    })
}

/// Reads all words.
pub(super) fn read(
    mut words: impl Iterator<Item = OsString>,
    given: &mut Given,
) -> Result<Asked, SshdOptionsError> {
    let mut file = None;
    while let Some(word) = words.next() {
        let letters = match word.as_bytes() {
            b"--help" => return Ok(Asked::Help),
            b"--version" => return Ok(Asked::Version),
            b"--" => match words.next() {
                Some(word) => return Err(extra(&word)),
                None => break,
            },
            [b'-', letters @ ..] if !letters.is_empty() => letters,
            _ => return Err(extra(&word)),
        };
        for (index, letter) in letters.iter().enumerate() {
            let option = format!("-{}", letter.escape_ascii());
            let mut value = || -> Result<String, SshdOptionsError> {
                let value = match &letters[index + 1..] {
                    [] => {
                        words.next().ok_or_else(|| SshdOptionsError::NoFlagValue(option.clone()))?
                    }
                    rest => OsStr::from_bytes(rest).to_owned(),
                };
                value.into_string().map_err(|value| SshdOptionsError::Value {
                    place: Place::CommandLine,
                    name: option.clone(),
                    expected: "UTF-8 text",
                    value: value.to_string_lossy().into_owned(),
                })
            };
            let refused = |name: String, reason| SshdOptionsError::Refused {
                place: Place::CommandLine,
                name,
                reason,
            };
            match does(*letter) {
                None => return Err(SshdOptionsError::Flag(option)),
                Some(Does::Help) => return Ok(Asked::Help),
                Some(Does::Version) => return Ok(Asked::Version),
                Some(Does::Set(set)) => set(given),
                Some(Does::Ignore(reason)) => given.ignore(&option, reason),
                Some(Does::Refuse(reason)) => return Err(refused(option, reason)),
                // What follows takes the rest of the word.
                Some(Does::File) => {
                    file = Some(PathBuf::from(value()?));
                    break;
                }
                Some(Does::Take(take)) => {
                    take(given, value()?)?;
                    break;
                }
                Some(Does::IgnoreValue(reason)) => {
                    value()?;
                    given.ignore(&option, reason);
                    break;
                }
                Some(Does::RefuseValue(reason)) => {
                    value()?;
                    return Err(refused(option, reason));
                }
            }
        }
    }
    Ok(Asked::Serve { file })
}

fn extra(word: &OsStr) -> SshdOptionsError {
    SshdOptionsError::Extra(word.to_string_lossy().into_owned())
}
