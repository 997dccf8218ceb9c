//! The keywords of ssh_config(5), as `-o` gives them.
//!
//! Must not read a configuration file.

use std::time::Duration;

use super::{Family, Given, OptionsError, port};

const HOST_KEY: &str = "muster checks the host key against the job's own";
const JOB_KEY: &str = "the job's key is the only way in";
const NEVER_ASKS: &str = "muster never asks";
const OWN_CRYPTO: &str = "both ends choose the algorithms";
const OWN_SHARING: &str = "muster shares its connection by itself";
const OWN_HEARTBEAT: &str = "muster has its own heartbeat";
const OWN_CONFIG: &str = "muster reads no ssh_config";
const NO_PTY: &str = "there is never a terminal on the other side";
const NO_AGENT: &str = "there is no key agent: every host has the job's key";
const NO_FORWARDING: &str = "muster forwards nothing";
const NO_JUMP: &str = "muster dials hosts directly";
const NO_BINDING: &str = "muster leaves the local address to the routing table";

/// Keywords that ask for nothing that muster does otherwise, and why.
fn ignored(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "stricthostkeychecking"
        | "userknownhostsfile"
        | "globalknownhostsfile"
        | "checkhostip"
        | "hostkeyalias"
        | "hashknownhosts"
        | "updatehostkeys"
        | "verifyhostkeydns"
        | "visualhostkey"
        | "fingerprinthash"
        | "knownhostscommand"
        | "hostkeyalgorithms"
        | "revokedhostkeys"
        | "casignaturealgorithms"
        | "nohostauthenticationforlocalhost" => HOST_KEY,
        "preferredauthentications"
        | "pubkeyauthentication"
        | "passwordauthentication"
        | "kbdinteractiveauthentication"
        | "challengeresponseauthentication"
        | "kbdinteractivedevices"
        | "hostbasedauthentication"
        | "hostbasedacceptedalgorithms"
        | "gssapiauthentication"
        | "gssapidelegatecredentials"
        | "gssapikeyexchange"
        | "gssapitrustdns"
        | "pubkeyacceptedalgorithms"
        | "pubkeyacceptedkeytypes"
        | "identitiesonly"
        | "certificatefile"
        | "enablesshkeysign" => JOB_KEY,
        "batchmode" | "numberofpasswordprompts" => NEVER_ASKS,
        "ciphers" | "macs" | "kexalgorithms" | "rekeylimit" | "compression" | "requiredrsasize"
        | "protocol" => OWN_CRYPTO,
        "controlmaster" | "controlpath" | "controlpersist" => OWN_SHARING,
        "serveraliveinterval"
        | "serveralivecountmax"
        | "tcpkeepalive"
        | "ipqos"
        | "obscurekeystroketiming"
        | "channeltimeout" => OWN_HEARTBEAT,
        "requesttty" | "escapechar" | "enableescapecommandline" => NO_PTY,
        "forwardagent" | "identityagent" | "addkeystoagent" => NO_AGENT,
        "forwardx11"
        | "forwardx11trusted"
        | "forwardx11timeout"
        | "xauthlocation"
        | "exitonforwardfailure"
        | "clearallforwardings"
        | "gatewayports"
        | "streamlocalbindmask"
        | "streamlocalbindunlink"
        | "permitremoteopen"
        | "tunneldevice" => NO_FORWARDING,
        "canonicalizehostname"
        | "canonicaldomains"
        | "canonicalizefallbacklocal"
        | "canonicalizemaxdots"
        | "canonicalizepermittedcnames"
        | "ignoreunknown"
        | "tag"
        | "logverbose"
        | "syslogfacility"
        | "versionaddendum"
        | "proxyusefdpass" => OWN_CONFIG,
        _ => return None,
    })
}

/// Keywords that change what happens: the reason to refuse them, and the value that turns them off.
fn refused(keyword: &str) -> Option<(&'static str, &'static str)> {
    Some(match keyword {
        "proxycommand" | "proxyjump" => (NO_JUMP, "none"),
        "remotecommand" => ("the command is given after the host", "none"),
        "localforward" | "remoteforward" | "dynamicforward" => (NO_FORWARDING, "none"),
        "tunnel" => (NO_FORWARDING, "no"),
        "bindaddress" | "bindinterface" => (NO_BINDING, "none"),
        "localcommand" => ("muster runs nothing on this side", "none"),
        "permitlocalcommand" => ("muster runs nothing on this side", "no"),
        "forkafterauthentication" => ("an MPI launcher needs its agent in the foreground", "no"),
        "sessiontype" => ("muster runs commands, not subsystems", "default"),
        "pkcs11provider" | "securitykeyprovider" => ("muster reads keys from files only", "none"),
        _ => return None,
    })
}

/// Applies `Keyword=value`, `Keyword value` or `Keyword = "value"`.
pub(super) fn apply(given: &mut Given, setting: &str) -> Result<(), OptionsError> {
    let setting = setting.trim();
    let end = setting.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(setting.len());
    let (name, rest) = setting.split_at(end);
    let rest = rest.trim_start();
    let values = words(rest.strip_prefix('=').unwrap_or(rest));
    let option = format!("-o {name}");
    let wrong = |expected| OptionsError::Value {
        option: option.clone(),
        value: values.clone().unwrap_or_default().join(" "),
        expected,
    };
    let values = values.clone().ok_or_else(|| wrong("a value with its quotes closed"))?;
    let Some(value) = values.first().filter(|_| !name.is_empty()) else {
        return Err(OptionsError::NoValue(option));
    };
    match name.to_ascii_lowercase().as_str() {
        "port" => {
            let number = port(&option, value)?;
            given.port.get_or_insert(number);
        }
        "user" => drop(given.user.get_or_insert_with(|| value.clone())),
        "hostname" => drop(given.host_name.get_or_insert_with(|| value.clone())),
        "identityfile" if value.eq_ignore_ascii_case("none") => {}
        "identityfile" => given.identity.push(value.into()),
        "connecttimeout" => {
            let time = if value.eq_ignore_ascii_case("none") {
                None
            } else {
                let time = duration(value).ok_or_else(|| wrong("a time such as 10 or 1m30s"))?;
                Some(time).filter(|time| !time.is_zero())
            };
            given.connect_timeout.get_or_insert(time);
        }
        "connectionattempts" => {
            let count = value.parse().ok().filter(|count| *count > 0);
            let count = count.ok_or_else(|| wrong("a number from 1"))?;
            given.connection_attempts.get_or_insert(count);
        }
        "addressfamily" => match value.to_ascii_lowercase().as_str() {
            "any" => {}
            "inet" => drop(given.family.get_or_insert(Family::V4)),
            "inet6" => drop(given.family.get_or_insert(Family::V6)),
            _ => return Err(wrong("any, inet or inet6")),
        },
        // The first SetEnv is the only one; SendEnv adds up.
        "setenv" if given.set_env.is_empty() => {
            for value in &values {
                let (name, value) = value.split_once('=').ok_or_else(|| wrong("NAME=value"))?;
                given.set_env.push((name.to_owned(), value.to_owned()));
            }
        }
        "setenv" => {}
        "sendenv" => given.send_env.extend(values),
        "stdinnull" => given.stdin_null |= value.eq_ignore_ascii_case("yes"),
        "loglevel" => match value.to_ascii_lowercase().as_str() {
            "quiet" | "fatal" => given.quiet = true,
            "error" | "info" => {}
            "verbose" | "debug" | "debug1" => given.verbose = given.verbose.max(1),
            "debug2" => given.verbose = given.verbose.max(2),
            "debug3" => given.verbose = given.verbose.max(3),
            _ => return Err(wrong("a level such as QUIET, INFO or DEBUG")),
        },
        keyword => {
            if let Some(reason) = ignored(keyword) {
                given.ignore(option, reason);
            } else if let Some((reason, off)) = refused(keyword) {
                if !value.eq_ignore_ascii_case(off) {
                    return Err(OptionsError::Refused { option, reason });
                }
            } else {
                return Err(OptionsError::Unknown(option));
            }
        }
    }
    Ok(())
}

/// Splits at white space, except inside double quotes; `None` where a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// Seconds, or sums such as `1h30m` (sshd_config(5), "time formats").
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(end);
        let (unit, tail) = match tail.chars().next().map(|c| c.to_ascii_lowercase()) {
            None => (1, tail),
            Some('s') => (1, &tail[1..]),
            Some('m') => (60, &tail[1..]),
            Some('h') => (3_600, &tail[1..]),
            Some('d') => (86_400, &tail[1..]),
            Some('w') => (604_800, &tail[1..]),
            Some(_) => return None,
        };
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_secs(total))
}
