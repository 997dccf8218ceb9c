//! Keeps a report within the size that a hello carries.
//!
//! Must not drop silently: a report that was cut says so.

use super::{MAX_BYTES, Report};

impl Report {
    /// The report with so much left out that it fits [`MAX_BYTES`], and says so. Details go first,
    /// devices last.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        for (details, devices) in [(8, 64), (4, 64), (1, 64), (0, 64), (0, 16), (0, 4), (0, 0)] {
            let bytes = serde_json::to_vec(&self).map_or(0, |json| json.len());
            if bytes <= MAX_BYTES {
                break;
            }
            self.cut(details, devices);
        }
        self
    }

    /// Leaves at most so many details of each thing, and so many things of each kind.
    fn cut(&mut self, details: usize, devices: usize) {
        for gpu in &mut self.gpus.devices {
            gpu.processes.truncate(details);
            gpu.peers.truncate(details);
            gpu.unknown.clear();
            if details == 0 {
                gpu.nics.clear();
            }
        }
        for device in &mut self.rdma.devices {
            device.ports.iter_mut().for_each(|port| port.gids.truncate(details));
        }
        for interface in &mut self.interfaces {
            interface.addresses.truncate(details.max(1));
        }
        if details == 0 {
            self.gpus.variables.clear();
        }
        self.gpus.devices.truncate(devices);
        self.rdma.devices.truncate(devices);
        self.interfaces.truncate(devices);
        self.numa.truncate(devices);
        self.warnings.truncate(devices);
        self.warnings.insert(0, "this host has more than a report holds: it is cut".into());
        self.warnings.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::report::{Gid, MAX_GIDS, Port, RdmaDevice};

    #[test]
    fn a_report_never_exceeds_its_bound() {
        let gid = Gid { gid: "f".repeat(128), kind: Some("x".repeat(128)), ..Gid::default() };
        let port = Port { gids: vec![gid; MAX_GIDS], ..Port::default() };
        let device =
            RdmaDevice { name: "d".repeat(128), ports: vec![port; 8], ..RdmaDevice::default() };
        let whole = Report::default().fitted();
        assert_eq!(whole, Report::default());
        let mut report = Report::default();
        report.rdma.devices = vec![device; 8];
        let fitted = report.fitted();
        assert!(serde_json::to_vec(&fitted).unwrap().len() <= MAX_BYTES);
        assert_eq!(fitted.rdma.devices.len(), 8, "details go first");
        assert!(!fitted.rdma.devices[7].ports[7].gids.is_empty(), "and not all of them");
        assert_eq!(fitted.warnings.len(), 1);
        let endless = Report { warnings: vec!["x".repeat(1000); 1000], ..Report::default() };
        assert!(serde_json::to_vec(&endless.fitted()).unwrap().len() <= MAX_BYTES);
    }
}
