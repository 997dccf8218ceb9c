//! The last Xid of each GPU, out of the kernel's log where it may be read.
//!
//! NVML tells an Xid only to who listens while it happens. Must not wait for a new message.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use muster_nvml::{Xid, pci_address};
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;

use crate::devices::host::Roots;
use crate::devices::read;

/// Messages of the log that are looked at; the kernel's buffer holds fewer.
const MAX_RECORDS: usize = 100_000;

/// By PCI address.
pub(super) fn recent(roots: &Roots) -> BTreeMap<String, Xid> {
    let log = roots.dev.join("kmsg");
    if !roots.are_own() {
        return read::text(&log).iter().flat_map(|text| text.lines()).filter_map(parse).collect();
    }
    let Ok(log) = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(log) else {
        return BTreeMap::new();
    };
    records(log).filter_map(|record| parse(&record)).collect()
}

/// One read gives one message (Documentation/ABI/testing/dev-kmsg); at the end it would wait.
fn records(mut log: File) -> impl Iterator<Item = String> {
    let mut buffer = [0; 8192];
    let next = move || loop {
        match log.read(&mut buffer) {
            Ok(0) => return None,
            Ok(length) => return Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            // The message was overwritten before we read it.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    };
    std::iter::from_fn(next).take(MAX_RECORDS)
}

/// `…NVRM: Xid (PCI:0000:65:00): 79, pid=1234, GPU has fallen off the bus.`
fn parse(record: &str) -> Option<(String, Xid)> {
    let (_, rest) = record.lines().next()?.split_once("NVRM: Xid (PCI:")?;
    let (address, rest) = rest.split_once("): ")?;
    let (number, words) = rest.split_once(',').unwrap_or((rest, ""));
    let xid =
        Xid { number: number.trim().parse().ok()?, words: read::tidy(words).unwrap_or_default() };
    Some((pci_address(&format!("{address}.0"))?, xid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let fallen = "4,1234,98765,-;NVRM: Xid (PCI:0000:C1:00): 79, pid=77, GPU has fallen off the bus.\n SUBSYSTEM=pci";
        let (address, xid) = parse(fallen).unwrap();
        assert_eq!((address.as_str(), xid.number), ("0000:c1:00.0", 79));
        assert_eq!(xid.words, "pid=77, GPU has fallen off the bus.");
        for other in
            ["", "4,1,2,-;NVRM: loading", "NVRM: Xid (PCI:x): 1", "NVRM: Xid (PCI:0000:01:00): y"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
