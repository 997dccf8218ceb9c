//! A report as Prometheus reads it: the text format 0.0.4, gauges in base units.
//!
//! What is unknown has no sample; zero would be a claim.

use std::fmt::Write as _;

use muster_nvml::Gpu;

use crate::devices::report::{Bound, Interface, Port, RdmaDevice, Report};

/// Labels and a value.
type Sample = (Vec<(&'static str, String)>, f64);

/// The report as text.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    host(&mut text, report);
    interfaces(&mut text, report);
    rdma(&mut text, report);
    gpus(&mut text, report);
    let warnings = report.warnings.len() as f64;
    one(
        &mut text,
        "muster_warnings",
        "Things that will slow a job down or fail it.",
        Some(warnings),
    );
    text
}

fn host(text: &mut String, report: &Report) {
    let bytes = |value: Option<u64>| value.map(|value| value as f64);
    let cpus = report.cpus.as_ref().map(|cpus| cpus.usable);
    one(text, "muster_cpus_usable", "CPUs that this process may use.", cpus);
    let memory = &report.memory;
    one(text, "muster_memory_bytes", "Memory of the machine.", bytes(memory.total));
    one(text, "muster_memory_limit_bytes", "Memory limit of the container.", bytes(memory.limit));
    one(text, "muster_memory_used_bytes", "Memory that counts to the limit.", bytes(memory.used));
    let shm = report.shm;
    one(text, "muster_shm_bytes", "Size of /dev/shm.", shm.map(|shm| shm.total as f64));
    let memlock = report.limits.memlock.map(|bound| match bound {
        Bound::Unlimited => f64::INFINITY,
        Bound::At(limit) => limit as f64,
    });
    one(text, "muster_memlock_bytes", "Memory that may be locked.", memlock);
}

fn interfaces(text: &mut String, report: &Report) {
    let named = |value: fn(&Interface) -> Option<f64>| {
        let all = report.interfaces.iter();
        all.filter_map(move |it| Some((vec![("interface", it.name.clone())], value(it)?))).collect()
    };
    let mtus = named(|it| it.mtu.map(f64::from));
    many(text, "muster_interface_mtu_bytes", "Largest packet.", mtus);
    // Megabits to bytes.
    let speeds = named(|it| it.speed.map(|speed| f64::from(speed) * 125_000.0));
    many(text, "muster_interface_speed_bytes_per_second", "Speed of the link.", speeds);
    let ups = named(|it| it.up.map(flag));
    many(text, "muster_interface_up", "Whether it is up.", ups);
}

fn rdma(text: &mut String, report: &Report) {
    let devices = &report.rdma.devices;
    let word = |value: &Option<String>| value.clone().unwrap_or_default();
    let info = devices.iter().map(|it| {
        let labels = vec![
            ("device", it.name.clone()),
            ("driver", word(&it.driver)),
            ("firmware", word(&it.firmware)),
            ("pci", word(&it.pci)),
        ];
        (labels, 1.0)
    });
    many(text, "muster_rdma_info", "An RDMA device.", info.collect());
    let usable = devices.iter().map(|it| (vec![("device", it.name.clone())], flag(it.usable)));
    many(text, "muster_rdma_usable", "Whether a job can use it.", usable.collect());
    let ports = || devices.iter().flat_map(|it| it.ports.iter().map(move |port| (it, port)));
    let labels = |(it, port): (&RdmaDevice, &Port)| {
        vec![("device", it.name.clone()), ("port", port.number.to_string())]
    };
    let active =
        ports().filter_map(|at| Some((labels(at), flag(at.1.state.as_ref()? == "ACTIVE"))));
    many(text, "muster_rdma_port_active", "Whether the port is active.", active.collect());
    // Gigabits to bytes.
    let rates = ports().filter_map(|at| Some((labels(at), at.1.rate? * 125_000_000.0)));
    many(text, "muster_rdma_port_rate_bytes_per_second", "Rate of the port.", rates.collect());
}

fn gpus(text: &mut String, report: &Report) {
    let gpus = &report.gpus.devices;
    let word = |value: &Option<String>| value.clone().unwrap_or_default();
    let labels = |it: &Gpu| {
        vec![("gpu", it.index.to_string()), ("uuid", word(&it.uuid)), ("pci", word(&it.pci))]
    };
    let info = gpus.iter().map(|it| {
        let mut labels = labels(it);
        labels.push(("name", word(&it.name)));
        labels.push(("driver", word(&report.gpus.driver)));
        (labels, 1.0)
    });
    many(text, "muster_gpu_info", "A GPU.", info.collect());
    let each = |value: fn(&Gpu) -> Option<f64>| {
        gpus.iter().filter_map(move |it| Some((labels(it), value(it)?))).collect()
    };
    many(text, "muster_gpu_usable", "Whether a job can use it.", each(|it| Some(flag(it.usable))));
    many(
        text,
        "muster_gpu_memory_bytes",
        "Its memory.",
        each(|it| it.memory_total.map(|it| it as f64)),
    );
    many(
        text,
        "muster_gpu_memory_used_bytes",
        "Its memory in use.",
        each(|it| it.memory_used.map(|it| it as f64)),
    );
    many(
        text,
        "muster_gpu_temperature_celsius",
        "Its temperature.",
        each(|it| it.temperature.map(f64::from)),
    );
    many(
        text,
        "muster_gpu_utilisation_ratio",
        "Share of time in use.",
        each(|it| it.utilisation.map(|it| f64::from(it) / 100.0)),
    );
    many(
        text,
        "muster_gpu_ecc_uncorrected_errors",
        "Since the driver was loaded.",
        each(|it| it.ecc?.uncorrected.map(|it| it as f64)),
    );
    many(
        text,
        "muster_gpu_mig_instances",
        "MIG instances, where it is cut.",
        each(|it| it.mig?.then_some(it.instances.len() as f64)),
    );
    many(
        text,
        "muster_gpu_xid",
        "Number of its last Xid.",
        each(|it| it.xid.as_ref().map(|xid| f64::from(xid.number))),
    );
}

const fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn one(text: &mut String, name: &str, help: &str, value: Option<f64>) {
    many(text, name, help, value.map(|value| (Vec::new(), value)).into_iter().collect());
}

/// One metric with all its samples.
fn many(text: &mut String, name: &str, help: &str, samples: Vec<Sample>) {
    if samples.is_empty() {
        return;
    }
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in samples {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let value = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_the_unknown_is_left_out() {
        let mut report = Report::default();
        assert!(!render(&report).contains("cpus"), "nothing known");
        let name = "a\"b\\c".to_owned();
        report.rdma.devices = vec![RdmaDevice { name, ..RdmaDevice::default() }];
        report.limits.memlock = Some(Bound::Unlimited);
        let text = render(&report);
        assert!(text.contains("muster_rdma_usable{device=\"a\\\"b\\\\c\"} 0\n"), "{text}");
        assert!(text.contains("\nmuster_memlock_bytes +Inf\n"), "{text}");
    }
}
