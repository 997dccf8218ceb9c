//! `/etc/resolv.conf` as a value: name servers, search list, options.
//!
//! Parsing is pure and lenient like the C libraries': what cannot be understood is skipped, unless
//! that leaves no name server. Must not send anything.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the C libraries look.
pub const PATH: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
/// As many as the C libraries ask (resolv.conf(5), `MAXNS`).
const MAX_SERVERS: usize = 3;

/// How to ask for names. The defaults and bounds are resolv.conf(5)'s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// At least one; asked in this order. The file cannot give a port, so it is 53 but in tests.
    pub servers: Vec<SocketAddr>,
    /// Suffixes without dots at their ends, in order.
    pub search: Vec<String>,
    /// Names with at least so many dots are first asked as they are.
    pub ndots: usize,
    /// How long one server is waited for.
    pub timeout: Duration,
    /// How often the servers are asked.
    pub attempts: u32,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ResolvConfError {
    /// Missing, or may not be read.
    #[error("read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word for it.
        #[source]
        error: io::Error,
    },
    /// Bytes that are not UTF-8.
    #[error("read {}: not a text file", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// There are `nameserver` lines, but none holds an address.
    #[error("read {}: line {line}: 'nameserver {text}': expected an IP address", path.display())]
    BadServer {
        /// The file.
        path: PathBuf,
        /// The first such line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// No `nameserver` line.
    #[error("read {}: no nameserver line in it", path.display())]
    NoServer {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the file.
pub fn read(path: &Path) -> Result<ResolvConf, ResolvConfError> {
    let bytes = fs::read(path)
        .map_err(|error| ResolvConfError::Unreadable { path: path.to_owned(), error })?;
    let text =
        String::from_utf8(bytes).map_err(|_| ResolvConfError::NotText { path: path.to_owned() })?;
    parse(&text, path)
}

/// Parses the content; `path` is for messages only.
pub fn parse(text: &str, path: &Path) -> Result<ResolvConf, ResolvConfError> {
    let mut conf = ResolvConf {
        servers: Vec::new(),
        search: Vec::new(),
        ndots: 1,
        timeout: Duration::from_secs(5),
        attempts: 2,
    };
    let mut bad_server = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let text = words.next().unwrap_or_default();
                match server(text) {
                    Some(server) if conf.servers.len() < MAX_SERVERS => conf.servers.push(server),
                    Some(_) => {}
                    None => {
                        bad_server.get_or_insert((index + 1, text.escape_debug().to_string()));
                    }
                }
            }
            // The last of all `search` and `domain` lines counts.
            Some("search") => conf.search = words.filter_map(suffix).collect(),
            Some("domain") => conf.search = words.next().and_then(suffix).into_iter().collect(),
            Some("options") => words.for_each(|word| option(&mut conf, word)),
            Some(_) | None => {}
        }
    }
    match (conf.servers.is_empty(), bad_server) {
        (false, _) => Ok(conf),
        (true, Some((line, text))) => {
            Err(ResolvConfError::BadServer { path: path.to_owned(), line, text })
        }
        (true, None) => Err(ResolvConfError::NoServer { path: path.to_owned() }),
    }
}

/// An address. The scope of a link-local one (`fe80::1%eth0`) is a number to the kernel that only
/// the interface list tells, and no cluster has such a name server.
fn server(text: &str) -> Option<SocketAddr> {
    let address: IpAddr = text.parse().ok()?;
    Some(SocketAddr::new(address, DNS_PORT))
}

/// `.` means the root, which the walk ends with anyway.
fn suffix(text: &str) -> Option<String> {
    let bare = text.trim_matches('.');
    (!bare.is_empty()).then(|| bare.to_owned())
}

fn option(conf: &mut ResolvConf, word: &str) {
    let Some((key, value)) = word.split_once(':') else { return };
    let Ok(value) = value.parse::<u32>() else { return };
    match key {
        "ndots" => conf.ndots = value.min(15) as usize,
        "timeout" => conf.timeout = Duration::from_secs(value.clamp(1, 30).into()),
        "attempts" => conf.attempts = value.clamp(1, 5),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{parse, read};

    const POD: &str = "search pi.default.svc.cluster.local default.svc.cluster.local \
                       svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";

    #[test]
    fn a_pods_file() {
        let conf = parse(POD, Path::new("r")).unwrap();
        assert_eq!(conf.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(
            conf.search,
            [
                "pi.default.svc.cluster.local",
                "default.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local"
            ]
        );
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (5, Duration::from_secs(5), 2));
    }

    #[test]
    fn lines_are_taken_as_the_c_libraries_take_them() {
        for (text, servers, search, ndots, timeout, attempts) in [
            ("nameserver 10.0.0.1\n", 1, &[][..], 1, 5, 2),
            ("; old\r\nnameserver\t10.0.0.1 # why\r\nsearch a. b\r\n", 1, &["a", "b"], 1, 5, 2),
            ("nameserver fd77::1\ndomain a b\n", 1, &["a"], 1, 5, 2),
            ("search a\ndomain b\nnameserver 10.0.0.1", 1, &["b"], 1, 5, 2),
            ("search .\nnameserver 10.0.0.1\noptions ndots:99 rotate timeout:0", 1, &[], 15, 1, 2),
            ("nameserver 10.0.0.1\noptions timeout:2 attempts:9 ndots:x edns0", 1, &[], 1, 2, 5),
            ("nameserver nobody\nnameserver 10.0.0.1\nfrobnicate\n", 1, &[], 1, 5, 2),
            ("nameserver 10.0.0.1\n".repeat(5).as_str(), 3, &[], 1, 5, 2),
        ] {
            let conf = parse(text, Path::new("r")).unwrap();
            assert_eq!(conf.servers.len(), servers, "{text:?}");
            assert_eq!(conf.search, search, "{text:?}");
            let found = (conf.ndots, conf.timeout.as_secs(), conf.attempts);
            assert_eq!(found, (ndots, timeout, attempts), "{text:?}");
        }
    }

    #[test]
    fn without_a_server_the_reason_is_told() {
        for (text, message) in [
            ("", "read r: no nameserver line in it"),
            ("search a\n", "read r: no nameserver line in it"),
            (
                "search a\nnameserver 10.0.0.300\n",
                "read r: line 2: 'nameserver 10.0.0.300': expected an IP address",
            ),
            ("nameserver", "read r: line 1: 'nameserver ': expected an IP address"),
        ] {
            assert_eq!(parse(text, Path::new("r")).unwrap_err().to_string(), message);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let missing = read(&path).unwrap_err().to_string();
        assert!(missing.ends_with("resolv.conf: No such file or directory (os error 2)"));
        std::fs::write(&path, b"nameserver \xff\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("not a text file"));
    }
}
