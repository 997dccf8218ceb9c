//! The keywords of ssh_config(5), as `-o` and files give them.
//!
//! Must not read a file; that is `file`.

use super::super::config_text::{duration, setting};
use super::criteria::is_listed;
use super::{Family, Given, OptionsError, port};

const HOST_KEY: &str = "muster checks the host key against the job's own";
const JOB_KEY: &str = "the job's key is the only way in";
const NEVER_ASKS: &str = "muster never asks";
const OWN_CRYPTO: &str = "both ends choose the algorithms";
const OWN_SHARING: &str = "muster shares its connection by itself";
const OWN_HEARTBEAT: &str = "muster has its own heartbeat";
const OWN_WAYS: &str = "muster has its own way with names and logs";
const OLD: &str = "ssh itself knows it no more";
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
        | "userknownhostsfile2"
        | "globalknownhostsfile"
        | "globalknownhostsfile2"
        | "checkhostip"
        | "hostkeyalias"
        | "hashknownhosts"
        | "updatehostkeys"
        | "verifyhostkeydns"
        | "visualhostkey"
        | "fingerprinthash"
        | "knownhostscommand"
        | "hostkeyalgorithms"
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
        | "hostbasedkeytypes"
        | "dsaauthentication"
        | "kerberosauthentication"
        | "skeyauthentication"
        | "tisauthentication"
        | "gssapiauthentication"
        | "gssapiclientidentity"
        | "gssapidelegatecredentials"
        | "gssapikexalgorithms"
        | "gssapikeyexchange"
        | "gssapirenewalforcesrekey"
        | "gssapiserveridentity"
        | "gssapitrustdns"
        | "pubkeyacceptedalgorithms"
        | "pubkeyacceptedkeytypes"
        | "identitiesonly"
        | "certificatefile"
        | "enablesshkeysign" => JOB_KEY,
        "batchmode" | "numberofpasswordprompts" => NEVER_ASKS,
        "cipher" | "ciphers" | "macs" | "kexalgorithms" | "rekeylimit" | "compression"
        | "requiredrsasize" | "protocol" => OWN_CRYPTO,
        "controlmaster" | "controlpath" | "controlpersist" => OWN_SHARING,
        "serveraliveinterval"
        | "protocolkeepalives"
        | "setuptimeout"
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
        | "logverbose"
        | "syslogfacility"
        | "versionaddendum"
        | "proxyusefdpass" => OWN_WAYS,
        "afstokenpassing"
        | "compressionlevel"
        | "fallbacktorsh"
        | "kerberostgtpassing"
        | "rhostsauthentication"
        | "rhostsrsaauthentication"
        | "rsaauthentication"
        | "useblacklistedkeys"
        | "useprivilegedport"
        | "useroaming"
        | "usersh" => OLD,
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
        "revokedhostkeys" => ("muster reads no list of revoked keys", "none"),
        "pkcs11provider" | "securitykeyprovider" | "smartcarddevice" => {
            ("muster reads keys from files only", "none")
        }
        _ => return None,
    })
}

/// Applies what stands behind `-o`.
pub(super) fn apply(given: &mut Given, text: &str) -> Result<(), OptionsError> {
    let setting = setting(text).ok_or_else(|| OptionsError::NoValue("-o".to_owned()))?;
    let option = format!("-o {}", setting.name);
    apply_setting(given, &option, &setting.name, setting.values.as_deref())
}

/// Applies one setting, called `option` in errors; no values where a quote is not closed.
pub(super) fn apply_setting(
    given: &mut Given,
    option: &str,
    name: &str,
    values: Option<&[String]>,
) -> Result<(), OptionsError> {
    let wrong = |expected| OptionsError::Value {
        option: option.to_owned(),
        value: values.unwrap_or_default().join(" "),
        expected,
    };
    let values = values.ok_or_else(|| wrong("a value with its quotes closed"))?;
    let Some(value) = values.first().filter(|_| !name.is_empty()) else {
        return Err(OptionsError::NoValue(option.to_owned()));
    };
    match name.to_ascii_lowercase().as_str() {
        "port" => {
            let number = port(option, value)?;
            given.port.get_or_insert(number);
        }
        "user" => drop(given.user.get_or_insert_with(|| value.clone())),
        "hostname" => drop(given.host_name.get_or_insert_with(|| value.clone())),
        "tag" => drop(given.tag.get_or_insert_with(|| value.clone())),
        "identityfile" | "identityfile2" if value.eq_ignore_ascii_case("none") => {}
        "identityfile" | "identityfile2" if given.identity.iter().any(|one| one == value) => {}
        "identityfile" | "identityfile2" => given.identity.push(value.into()),
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
        "addressfamily" => {
            let family = match value.to_ascii_lowercase().as_str() {
                "any" => None,
                "inet" => Some(Family::V4),
                "inet6" => Some(Family::V6),
                _ => return Err(wrong("any, inet or inet6")),
            };
            given.family.get_or_insert(family);
        }
        // The first SetEnv is the only one; SendEnv adds up.
        "setenv" if given.set_env.is_empty() => {
            for value in values {
                let (name, value) = value.split_once('=').ok_or_else(|| wrong("NAME=value"))?;
                given.set_env.push((name.to_owned(), value.to_owned()));
            }
        }
        "setenv" => {}
        "sendenv" => given.send_env.extend_from_slice(values),
        "stdinnull" => given.stdin_null |= value.eq_ignore_ascii_case("yes"),
        "loglevel" => {
            let verbose = match value.to_ascii_lowercase().as_str() {
                "quiet" | "fatal" | "error" | "info" => 0,
                "verbose" | "debug" | "debug1" => 1,
                "debug2" => 2,
                "debug3" => 3,
                _ => return Err(wrong("a level such as QUIET, INFO or DEBUG")),
            };
            given.verbose.get_or_insert(verbose);
        }
        // The first list is the only one.
        "ignoreunknown" => drop(given.ignore_unknown.get_or_insert_with(|| values.join(","))),
        keyword => {
            if let Some(reason) = ignored(keyword) {
                given.ignore(option.to_owned(), reason);
            } else if let Some((reason, off)) = refused(keyword) {
                if !value.eq_ignore_ascii_case(off) {
                    return Err(OptionsError::Refused { option: option.to_owned(), reason });
                }
            } else if !given
                .ignore_unknown
                .as_ref()
                .is_some_and(|list| is_listed(keyword, list, true))
            {
                return Err(OptionsError::Unknown(option.to_owned()));
            }
        }
    }
    Ok(())
}
