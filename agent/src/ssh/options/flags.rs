//! The single-letter options of ssh(1), read as getopt(3) reads them.
//!
//! Must not decide what a value means beyond its form; `-o` goes to `keywords`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::{ConfigFiles, Family, Given, OptionsError, keywords, port};

/// What a letter does here.
enum Does {
    Set(fn(&mut Given)),
    Take(fn(&mut Given, String, &OsStr) -> Result<(), OptionsError>),
    Ignore(&'static str),
    IgnoreValue(&'static str),
    Refuse(&'static str),
    RefuseValue(&'static str),
}

const NO_PTY: &str = "there is never a terminal on the other side";
const NO_FORWARDING: &str = "muster forwards nothing";
const NO_X11: &str = "there is no X11 forwarding to turn on or off";
const NO_AGENT: &str = "there is no key agent to forward: every host has the job's key";
const NO_GSSAPI: &str = "the job's key is the only way in";
const OWN_CRYPTO: &str = "both ends choose the algorithms";
const OWN_SHARING: &str = "muster shares its connection by itself, through its own socket";
const NO_SHELL: &str = "muster runs a command and waits for it";
const NO_JUMP: &str = "muster dials hosts directly";
const NO_BINDING: &str = "muster leaves the local address to the routing table";

/// OpenSSH's letters, all of them (ssh.c, `getopt`).
fn does(letter: u8) -> Option<Does> {
    use Does::{Ignore, IgnoreValue, Refuse, RefuseValue, Set, Take};
    Some(match letter {
        b'1' => Refuse("there is no SSH protocol 1 any more"),
        b'2' => Ignore("there is no other protocol"),
        b'4' => Set(|given| given.family = Some(Some(Family::V4))),
        b'6' => Set(|given| given.family = Some(Some(Family::V6))),
        b'a' | b'A' => Ignore(NO_AGENT),
        b'b' | b'B' => RefuseValue(NO_BINDING),
        b'c' | b'm' => IgnoreValue(OWN_CRYPTO),
        b'C' => Ignore("control messages are too small to compress"),
        b'D' | b'L' | b'R' | b'W' | b'w' => RefuseValue(NO_FORWARDING),
        b'e' => IgnoreValue(NO_PTY),
        b'E' => RefuseValue("muster logs to stderr"),
        b'f' => Refuse("an MPI launcher needs its agent in the foreground"),
        b'F' => Take(|given, _, value| {
            given.config.get_or_insert(match value.to_str() {
                Some("none") => ConfigFiles::None,
                _ => ConfigFiles::One(value.into()),
            });
            Ok(())
        }),
        b'P' => Take(|given, option, value| {
            let tag = text(option, value)?;
            given.tag.get_or_insert(tag);
            Ok(())
        }),
        b'g' => Ignore("there are no forwarded ports to share"),
        b'G' | b'V' => Refuse("this asks ssh about itself"),
        b'Q' => RefuseValue("this asks ssh about itself"),
        b'i' => Take(|given, _, value| {
            given.identity.push(value.into());
            Ok(())
        }),
        b'I' => RefuseValue("muster reads keys from files only"),
        b'J' => RefuseValue(NO_JUMP),
        b'k' | b'K' => Ignore(NO_GSSAPI),
        b'l' => Take(|given, option, value| {
            let user = text(option, value)?;
            given.user.get_or_insert(user);
            Ok(())
        }),
        b'M' => Refuse(OWN_SHARING),
        b'O' | b'S' => RefuseValue(OWN_SHARING),
        b'n' => Set(|given| given.stdin_null = true),
        b'N' => Refuse(NO_SHELL),
        b'o' => Take(|given, option, value| keywords::apply(given, &text(option, value)?)),
        b'p' => Take(|given, option, value| {
            let number = port(&option, &text(option.clone(), value)?)?;
            given.port.get_or_insert(number);
            Ok(())
        }),
        b'q' => Set(|given| given.verbose = Some(0)),
        b's' => Refuse("muster runs commands, not subsystems"),
        b't' | b'T' => Ignore(NO_PTY),
        b'v' => Set(|given| {
            given.verbose = Some(given.verbose.unwrap_or_default().saturating_add(1));
        }),
        b'x' | b'X' | b'Y' => Ignore(NO_X11),
        b'y' => Ignore("muster logs to stderr"),
        _ => return None,
    })
}

/// Reads options up to the first word that is none; returns that word, and whether `--` came before.
pub(super) fn read(
    words: &mut impl Iterator<Item = OsString>,
    given: &mut Given,
) -> Result<(Option<OsString>, bool), OptionsError> {
    while let Some(word) = words.next() {
        let letters = match word.as_bytes() {
            b"--" => return Ok((words.next(), true)),
            // A lone dash is an operand to getopt.
            [b'-', letters @ ..] if !letters.is_empty() => letters,
            _ => return Ok((Some(word), false)),
        };
        bundle(letters, words, given)?;
    }
    Ok((None, false))
}

/// Reads one word: letters without values, then perhaps one whose value is the rest of the word, or
/// the next word.
fn bundle(
    letters: &[u8],
    words: &mut impl Iterator<Item = OsString>,
    given: &mut Given,
) -> Result<(), OptionsError> {
    for (index, letter) in letters.iter().enumerate() {
        let option = format!("-{}", letter.escape_ascii());
        let mut value = || match &letters[index + 1..] {
            [] => words.next().ok_or_else(|| OptionsError::NoValue(option.clone())),
            rest => Ok(OsStr::from_bytes(rest).to_owned()),
        };
        match does(*letter) {
            None => return Err(OptionsError::Unknown(option)),
            Some(Does::Set(set)) => set(given),
            Some(Does::Ignore(reason)) => given.ignore(option, reason),
            Some(Does::Refuse(reason)) => return Err(OptionsError::Refused { option, reason }),
            Some(Does::Take(take)) => {
                let value = value()?;
                return take(given, option, &value);
            }
            Some(Does::IgnoreValue(reason)) => {
                value()?;
                given.ignore(option, reason);
                return Ok(());
            }
            Some(Does::RefuseValue(reason)) => {
                value()?;
                return Err(OptionsError::Refused { option, reason });
            }
        }
    }
    Ok(())
}

fn text(option: String, value: &OsStr) -> Result<String, OptionsError> {
    value.to_str().map(str::to_owned).ok_or_else(|| OptionsError::Value {
        option,
        value: value.to_string_lossy().into_owned(),
        expected: "UTF-8 text",
    })
}
