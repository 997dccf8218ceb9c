//! `/etc/hosts`: names that need no name server, asked first.
//!
//! Must not fail: a file that is missing or strange has no names, as the C libraries have it.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Where the C libraries look.
pub const PATH: &str = "/etc/hosts";

/// Addresses by name in lower case, in the order of the file.
pub type Table = HashMap<String, Vec<IpAddr>>;

/// The file, read again when it changes: sidecars and operators do write to it while jobs start.
#[derive(Debug)]
pub struct HostsFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Arc<Table>)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl HostsFile {
    /// Does not read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), last: Mutex::new(None) }
    }

    /// The addresses of a name, without regard to case and a dot at the end; empty if there is none.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Vec<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.table().get(&name).cloned().unwrap_or_default()
    }

    /// What follows the first label of this host's full name, where the file has one: a kubelet writes
    /// it there for a pod with a subdomain.
    #[must_use]
    pub fn domain_of(&self, hostname: &str) -> Option<String> {
        let first = format!("{}.", hostname.to_ascii_lowercase());
        let table = self.table();
        let domains = table.keys().filter_map(|name| name.strip_prefix(&first));
        let domains = domains.map(|domain| domain.trim_end_matches('.'));
        // Of several the fullest; of equals always the same.
        domains
            .filter(|domain| !domain.is_empty())
            .max_by_key(|domain| (domain.len(), *domain))
            .map(str::to_owned)
    }

    fn table(&self) -> Arc<Table> {
        let Ok(metadata) = fs::metadata(&self.path) else { return Arc::default() };
        let stamp = Stamp { modified: metadata.modified().ok(), bytes: metadata.len() };
        // Nothing is left half done under this lock, so a poisoned one is as good.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, table)) = &*last
            && *seen == stamp
        {
            return Arc::clone(table);
        }
        let bytes = fs::read(&self.path).unwrap_or_default();
        let table = Arc::new(parse(&String::from_utf8_lossy(&bytes)));
        *last = Some((stamp, Arc::clone(&table)));
        table
    }
}

/// Parses the content: an address and its names a line. Other lines are skipped.
#[must_use]
pub fn parse(text: &str) -> Table {
    let mut table = Table::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            let addresses = table.entry(name.to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::{HostsFile, parse};

    #[test]
    fn names_and_addresses() {
        let table = parse(
            "# Kubernetes-managed\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\
             10.0.0.7 pi-launcher.pi.default.svc.cluster.local PI-Launcher # own\n\
             fe80::1%eth0 link\nnonsense here\n10.0.0.7 pi-launcher\n10.0.0.8\n",
        );
        for (name, expected) in [
            ("localhost", &["127.0.0.1", "::1"][..]),
            ("pi-launcher", &["10.0.0.7"]),
            ("pi-launcher.pi.default.svc.cluster.local", &["10.0.0.7"]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(table.get(name), Some(&expected), "{name}");
        }
        assert!(!table.contains_key("link") && !table.contains_key("here"));
    }

    #[test]
    fn changes_are_seen_and_a_missing_file_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let hosts = HostsFile::new(&path);
        assert!(hosts.lookup("w-0").is_empty());
        fs::write(&path, "10.0.0.1 w-0\n").unwrap();
        assert_eq!(hosts.lookup("W-0."), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        fs::write(&path, "10.0.0.2 w-0 w-1\n").unwrap();
        assert_eq!(hosts.lookup("w-0"), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        fs::write(&path, "10.0.0.2 w-0 w-0.pi.N.svc.\n10.0.0.3 w-01.x w-0.pi\n").unwrap();
        assert_eq!(hosts.domain_of("W-0").as_deref(), Some("pi.n.svc"));
        assert_eq!(hosts.domain_of("w"), None);
        fs::remove_file(&path).unwrap();
        assert!(hosts.lookup("w-0").is_empty());
    }
}
