//! One host as people write it: `host`, `host:4`, `user@host`, `fd77::1`, `[fd77::1]:4`.
//!
//! Pure. Must not know where the text stands (a line of a hostfile, an entry of `--hosts`).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::HostSpec;
use crate::ids::HostName;

/// Why a piece of text is not a host, a count or an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Neither a DNS name nor an address. RFC 1123 §2.1, and `_`, which clusters do use.
    #[error("expected a host name of letters, digits, '-', '_' and '.', or an IP address")]
    NotAHost,
    /// A DNS name has at most 253 characters, a label at most 63 (RFC 1035 §2.3.4).
    #[error("expected a host name of at most 253 characters, with labels of at most 63")]
    TooLong,
    /// Digits and dots, but no IPv4 address.
    #[error("expected a host name or an IPv4 address such as 10.0.0.7")]
    NotAnIpv4,
    /// Brackets or many colons, but no IPv6 address.
    #[error("expected an IPv6 address such as fd77::1 or [fd77::1]:4")]
    NotAnIpv6,
    /// A slot count that is no number, zero, negative or too large.
    #[error("expected a number of slots from 1 to 4294967295")]
    NotSlots,
    /// `max_slots` likewise.
    #[error("expected an upper bound for slots from 1 to 4294967295")]
    NotMaxSlots,
    /// A port that is no number from 1 to 65535.
    #[error("expected a port from 1 to 65535")]
    NotAPort,
    /// A login name that no system would have.
    #[error("expected a user name of letters, digits, '.', '_', '-', not starting with '-'")]
    NotAUser,
}

/// `[user@]host[:slots]`, in which slots are Hydra's notation.
pub(super) fn host(text: &str) -> Result<HostSpec, Flaw> {
    let (user, rest) = match text.split_once('@') {
        Some((login, rest)) => (Some(user(login)?), rest),
        None => (None, text),
    };
    let (name, slots) = name_and_slots(rest)?;
    let slots = slots.map(self::slots).transpose()?;
    Ok(HostSpec { name: HostName::from(name), slots, max_slots: None, port: None, user })
}

/// A slot count: 1 to `u32::MAX`.
pub(super) fn slots(text: &str) -> Result<NonZeroU32, Flaw> {
    number(text).ok_or(Flaw::NotSlots)
}

/// A port: 1 to 65535.
pub(super) fn port(text: &str) -> Result<u16, Flaw> {
    let port: NonZeroU32 = number(text).ok_or(Flaw::NotAPort)?;
    u16::try_from(port.get()).map_err(|_| Flaw::NotAPort)
}

/// A login name; one that starts with `-` would be an option to ssh.
pub(super) fn user(text: &str) -> Result<String, Flaw> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.starts_with('-') || text.len() > 255 || !text.chars().all(allowed) {
        return Err(Flaw::NotAUser);
    }
    Ok(text.to_owned())
}

/// A DNS name or an address without brackets; one that starts with `-` would be an option to ssh.
pub(super) fn name(text: &str) -> Result<&str, Flaw> {
    if text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() {
        return Ok(text);
    }
    let numeric = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().all(numeric) {
        return Err(Flaw::NotAnIpv4);
    }
    let relative = text.strip_suffix('.').unwrap_or(text);
    let labels_hold = relative.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    if !labels_hold {
        return Err(Flaw::NotAHost);
    }
    if relative.len() > 253 || relative.split('.').any(|label| label.len() > 63) {
        return Err(Flaw::TooLong);
    }
    Ok(text)
}

/// Splits off `:slots`. A bare IPv6 address is all address: its last group is never a count.
fn name_and_slots(text: &str) -> Result<(&str, Option<&str>), Flaw> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(Flaw::NotAnIpv6)?;
        address.parse::<Ipv6Addr>().map_err(|_| Flaw::NotAnIpv6)?;
        return match rest.strip_prefix(':') {
            Some(slots) => Ok((address, Some(slots))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(Flaw::NotAnIpv6),
        };
    }
    match text.matches(':').count() {
        0 => Ok((name(text)?, None)),
        1 => {
            let (host, slots) = text.split_once(':').unwrap_or((text, ""));
            Ok((name(host)?, Some(slots)))
        }
        _ => text.parse::<Ipv6Addr>().map(|_| (text, None)).map_err(|_| Flaw::NotAnIpv6),
    }
}

/// Digits only: `+4`, which `parse` takes, is a slip of the hand.
fn number(text: &str) -> Option<NonZeroU32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Flaw, host, port, user};

    #[test]
    fn hosts_as_people_write_them() {
        for (text, name, slots, login) in [
            ("worker-1", "worker-1", None, None),
            ("worker-1:4", "worker-1", Some(4), None),
            ("Worker_1.job.ns.svc.", "Worker_1.job.ns.svc.", None, None),
            ("10.0.0.7:2", "10.0.0.7", Some(2), None),
            ("fd77::1", "fd77::1", None, None),
            ("fd77::1:4", "fd77::1:4", None, None),
            ("[fd77::1]", "fd77::1", None, None),
            ("[fd77::1]:4", "fd77::1", Some(4), None),
            ("bob@worker-1:4294967295", "worker-1", Some(u32::MAX), Some("bob")),
            ("1and1.example", "1and1.example", None, None),
        ] {
            let spec = host(text).unwrap();
            assert_eq!(spec.name.as_str(), name, "{text}");
            assert_eq!(spec.slots.map(u32::from), slots, "{text}");
            assert_eq!(spec.user.as_deref(), login, "{text}");
        }
    }

    #[test]
    fn flaws_are_told_apart() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(60).as_str(); 5].join(".");
        for (text, flaw) in [
            ("", Flaw::NotAHost),
            ("-oProxyCommand=id", Flaw::NotAHost),
            ("a..b", Flaw::NotAHost),
            (".", Flaw::NotAHost),
            ("w\u{f6}rker", Flaw::NotAHost),
            ("worker;1", Flaw::NotAHost),
            (&long_label, Flaw::TooLong),
            (&long_name, Flaw::TooLong),
            ("4", Flaw::NotAnIpv4),
            ("10.0.0.300", Flaw::NotAnIpv4),
            ("fd77::zz", Flaw::NotAnIpv6),
            ("[fd77::1", Flaw::NotAnIpv6),
            ("[fd77::1]4", Flaw::NotAnIpv6),
            ("[worker]:4", Flaw::NotAnIpv6),
            ("worker:", Flaw::NotSlots),
            ("worker:0", Flaw::NotSlots),
            ("worker:-1", Flaw::NotSlots),
            ("worker:+1", Flaw::NotSlots),
            ("worker:4294967296", Flaw::NotSlots),
            ("worker:four", Flaw::NotSlots),
            ("@worker", Flaw::NotAUser),
            ("-l@worker", Flaw::NotAUser),
        ] {
            assert_eq!(host(text).unwrap_err(), flaw, "{text:?}");
        }
    }

    #[test]
    fn ports_and_users() {
        assert_eq!(port("2222"), Ok(2222));
        for text in ["", "0", "65536", "ssh", "-1", "99999999999"] {
            assert_eq!(port(text), Err(Flaw::NotAPort), "{text:?}");
        }
        assert_eq!(user("mpiuser").as_deref(), Ok("mpiuser"));
        assert_eq!(user("a b"), Err(Flaw::NotAUser));
    }
}
