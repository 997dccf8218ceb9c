//! The keywords of sshd_config(5).
//!
//! Must not read a file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::super::config_text::Setting;
use super::{Families, Given, ListenAddress, Place, SshdOptionsError};

const JOB_KEY: &str = "keys are the only way in";
const NO_ROOT: &str = "muster serves as the user that it runs as, with no root to change it";
const NO_LOGIN: &str = "a worker runs commands and keeps no books of logins";
const NO_FORWARDING: &str = "a worker forwards nothing";
const OWN_CRYPTO: &str = "both ends choose the algorithms";
const OWN_BOUNDS: &str = "muster has bounds of its own for strangers";
const OWN_HEARTBEAT: &str = "muster has its own heartbeat";
const NO_SFTP: &str = "a worker runs commands, not subsystems";
const STDERR: &str = "muster logs to stderr";
const BY_OTHERS: &str = "it says something only where another setting is refused";
const OLD: &str = "sshd itself knows it no more";

/// Keywords that ask for nothing that a worker does otherwise, or for more than it lets in.
fn ignored(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "challengeresponseauthentication"
        | "gssapiauthentication"
        | "gssapicleanupcredentials"
        | "gssapicleanupcreds"
        | "gssapienablek5users"
        | "gssapikexalgorithms"
        | "gssapikeyexchange"
        | "gssapistorecredentialsonrekey"
        | "gssapistrictacceptorcheck"
        | "gssapiusesessioncredcache"
        | "gssusesessionccache"
        | "hostbasedacceptedalgorithms"
        | "hostbasedacceptedkeytypes"
        | "hostbasedauthentication"
        | "hostbasedusesnamefrompacketonly"
        | "ignorerhosts"
        | "ignoreuserknownhosts"
        | "kbdinteractiveauthentication"
        | "kerberosauthentication"
        | "kerberosgetafstoken"
        | "kerberosorlocalpasswd"
        | "kerberosticketcleanup"
        | "passwordauthentication"
        | "pubkeyauthoptions"
        | "securitykeyprovider"
        | "skeyauthentication" => JOB_KEY,
        "strictmodes" | "usepam" | "useprivilegeseparation" | "uselogin" => NO_ROOT,
        "banner" | "debianbanner" | "exposeauthinfo" | "permittty" | "permituserrc"
        | "printlastlog" | "printmotd" | "versionaddendum" => NO_LOGIN,
        "allowagentforwarding"
        | "allowstreamlocalforwarding"
        | "allowtcpforwarding"
        | "disableforwarding"
        | "gatewayports"
        | "permitlisten"
        | "permitopen"
        | "permittunnel"
        | "streamlocalbindmask"
        | "streamlocalbindunlink"
        | "x11displayoffset"
        | "x11forwarding"
        | "x11uselocalhost"
        | "xauthlocation" => NO_FORWARDING,
        "casignaturealgorithms"
        | "ciphers"
        | "compression"
        | "fingerprinthash"
        | "hostkeyalgorithms"
        | "kexalgorithms"
        | "macs"
        | "modulifile"
        | "rekeylimit" => OWN_CRYPTO,
        "logingracetime"
        | "maxauthtries"
        | "maxstartups"
        | "persourcemaxstartups"
        | "persourcenetblocksize"
        | "persourcepenalties"
        | "persourcepenaltyexemptlist"
        | "usedns" => OWN_BOUNDS,
        "channeltimeout"
        | "clientalivecountmax"
        | "clientaliveinterval"
        | "ipqos"
        | "keepalive"
        | "tcpkeepalive"
        | "unusedconnectiontimeout" => OWN_HEARTBEAT,
        "subsystem" | "sshdauthpath" | "sshdsessionpath" => NO_SFTP,
        "logverbose" | "syslogfacility" => STDERR,
        "authorizedkeyscommanduser" | "authorizedprincipalscommanduser" => BY_OTHERS,
        "afstokenpassing"
        | "authorizedkeysfile2"
        | "checkmail"
        | "kerberostgtpassing"
        | "keyregenerationinterval"
        | "pamauthenticationviakbdint"
        | "permitblacklistedkeys"
        | "protocol"
        | "reversemappingcheck"
        | "rhostsauthentication"
        | "rhostsrsaauthentication"
        | "rsaauthentication"
        | "serverkeybits"
        | "verifyreversemapping" => OLD,
        _ => return None,
    })
}

/// Keywords that shut somebody out, or have something else run: the reason to refuse them, and the
/// values with which they do neither.
fn refused(keyword: &str, root: bool) -> Option<(&'static str, &'static [&'static str])> {
    const NAMES: &str = "muster knows keys, not users: whoever holds the job's key may enter";
    const RUNS: &str = "muster runs what the client asks for, and nothing else";
    const CERTIFICATES: &str = "muster knows keys, not certificates";
    Some(match keyword {
        "allowgroups" | "allowusers" | "denygroups" | "denyusers" => (NAMES, &[]),
        "match" => ("muster's settings are the same for every connection", &[]),
        "authenticationmethods" => (JOB_KEY, &["any", "publickey"]),
        "permitemptypasswords" => ("muster lets nobody in without a key", &["no"]),
        "pubkeyauthentication" | "dsaauthentication" => (JOB_KEY, &["yes"]),
        "permitrootlogin" if !root => {
            (NAMES, &["yes", "no", "without-password", "prohibit-password", "forced-commands-only"])
        }
        "permitrootlogin" => (
            "this worker runs as root and nobody else could log in",
            &["yes", "without-password", "prohibit-password"],
        ),
        "forcecommand" | "authorizedkeyscommand" | "authorizedprincipalscommand" => {
            (RUNS, &["none"])
        }
        "permituserenvironment" => {
            ("muster reads no ~/.ssh/environment; commands get the worker's environment", &["no"])
        }
        "chrootdirectory" => ("muster changes no root", &["none"]),
        "authorizedprincipalsfile" | "trustedusercakeys" => (CERTIFICATES, &["none"]),
        "hostcertificate" => (CERTIFICATES, &["none"]),
        "revokedkeys" => ("muster reads no list of revoked keys", &["none"]),
        "hostkeyagent" => ("muster reads keys from files only", &["none"]),
        "rdomain" => ("muster listens in its own routing domain", &["none"]),
        "refuseconnection" => ("a worker that refuses everybody is of no use", &["no"]),
        _ => return None,
    })
}

/// The values of a setting, of which every keyword needs one at least.
pub(super) fn values(setting: &Setting, place: &Place) -> Result<Vec<String>, SshdOptionsError> {
    let wrong = |expected| SshdOptionsError::Value {
        place: place.clone(),
        name: setting.name.clone(),
        expected,
        value: String::new(),
    };
    let values = setting.values.clone();
    let values = values.ok_or_else(|| wrong("a value with its quotes closed"))?;
    if values.is_empty() { Err(wrong("a value")) } else { Ok(values) }
}

/// A port as sshd takes it, or 0 for a free one.
pub(super) fn port(name: &str, value: &str, place: &Place) -> Result<u16, SshdOptionsError> {
    value.parse().map_err(|_| SshdOptionsError::Value {
        place: place.clone(),
        name: name.to_owned(),
        expected: "a port from 0 to 65535",
        value: value.to_owned(),
    })
}

/// Applies one setting.
pub(super) fn apply(
    given: &mut Given,
    name: &str,
    values: &[String],
    place: &Place,
) -> Result<(), SshdOptionsError> {
    let refused_here = |reason| SshdOptionsError::Refused {
        place: place.clone(),
        name: format!("{name} {}", values.join(" ")),
        reason,
    };
    let wrong = |expected| SshdOptionsError::Value {
        place: place.clone(),
        name: name.to_owned(),
        expected,
        value: values.join(" "),
    };
    let [value, ..] = values else { return Err(wrong("a value")) };
    let none = value.eq_ignore_ascii_case("none");
    let keyword = name.to_ascii_lowercase();
    match keyword.as_str() {
        "port" => {
            let port = port(name, value, place)?;
            if !given.port_by_flag {
                given.options.ports.push(port);
            }
        }
        "listenaddress" => {
            let expected =
                "an address or a name of this host, with a port where wanted: 0.0.0.0:2222";
            let address = listen_address(value).filter(|_| values.len() == 1);
            given.options.listen.push(address.ok_or_else(|| wrong(expected))?);
        }
        "addressfamily" => {
            let families = match value.to_ascii_lowercase().as_str() {
                "any" => Families::Any,
                "inet" => Families::V4,
                "inet6" => Families::V6,
                _ => return Err(wrong("any, inet or inet6")),
            };
            given.prefer(families);
        }
        "hostkey" | "hostdsakey" if none => {}
        "hostkey" | "hostdsakey" => given.options.host_keys.push(value.into()),
        "authorizedkeysfile" => {
            let files = if none { Vec::new() } else { values.to_vec() };
            given.options.authorized_keys.get_or_insert(files);
        }
        // What begins so adds algorithms or puts them first, and shuts nobody out.
        "pubkeyacceptedalgorithms" | "pubkeyacceptedkeytypes" if value.starts_with(['+', '^']) => {
            given.algorithms.get_or_insert(None);
            given.ignore(name, OWN_CRYPTO);
        }
        "pubkeyacceptedalgorithms" | "pubkeyacceptedkeytypes" => {
            if value.starts_with('-') || value.contains(['*', '?']) {
                return Err(refused_here("muster knows algorithms by their whole names alone"));
            }
            let names = value.split(',').map(str::to_owned).collect();
            given.algorithms.get_or_insert(Some(names));
        }
        // Any number of commands share a connection; with 0 of them nobody gets one.
        "maxsessions" => match value.parse::<u32>() {
            Ok(0) => return Err(refused_here("a worker that runs no command is of no use")),
            Ok(_) => given.ignore(name, OWN_BOUNDS),
            Err(_) => return Err(wrong("a number")),
        },
        "pidfile" => drop(given.pid_file.get_or_insert((!none).then(|| PathBuf::from(value)))),
        "requiredrsasize" => {
            let bits = value.parse().map_err(|_| wrong("a number of bits"))?;
            given.rsa_bits.get_or_insert(bits);
        }
        "acceptenv" => given.options.accept_env.extend_from_slice(values),
        // The first one is the only one.
        "setenv" if given.options.set_env.is_empty() => {
            for value in values {
                let (name, value) = value.split_once('=').ok_or_else(|| wrong("NAME=value"))?;
                given.options.set_env.push((name.to_owned(), value.to_owned()));
            }
        }
        "setenv" => {}
        "loglevel" => {
            let level = value.to_ascii_lowercase();
            let (quiet, debug) = match level.as_str() {
                "quiet" | "fatal" => (true, false),
                "error" | "info" => (false, false),
                "verbose" | "debug" | "debug1" | "debug2" | "debug3" => (false, true),
                _ => return Err(wrong("a level such as QUIET, INFO or DEBUG")),
            };
            if !given.log_level {
                given.options.quiet |= quiet;
                given.options.debug |= debug;
                given.log_level = true;
            }
        }
        "include" => return Err(wrong("a line of a file")),
        other => {
            if let Some((reason, fine)) = refused(other, given.root) {
                if !fine.iter().any(|fine| value.eq_ignore_ascii_case(fine)) {
                    return Err(refused_here(reason));
                }
            } else if let Some(reason) = ignored(other) {
                given.ignore(name, reason);
            } else {
                let (place, name) = (place.clone(), name.to_owned());
                return Err(SshdOptionsError::Unknown { place, name });
            }
        }
    }
    Ok(())
}

/// `host`, `host:port` or `[host]:port`, where the host is an address or a name; `*` stands for every
/// address of IPv4.
fn listen_address(text: &str) -> Option<ListenAddress> {
    let host = |text: &str| -> Option<String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let is_name = !text.is_empty() && text.chars().all(fits);
        match text {
            "*" => Some(Ipv4Addr::UNSPECIFIED.to_string()),
            _ => (is_name || text.parse::<IpAddr>().is_ok()).then(|| text.to_owned()),
        }
    };
    if let Some(host) = host(text) {
        return Some(ListenAddress { host, port: None });
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Some(ListenAddress { host: host(bare)?, port: None });
    }
    let (name, port) = text.rsplit_once(':')?;
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    Some(ListenAddress { host: host(bare.unwrap_or(name))?, port: Some(port.parse().ok()?) })
}
