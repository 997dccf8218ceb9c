//! A report for people: the host in a few lines, then a table each of its interfaces, RDMA devices and
//! GPUs, then the warnings.

use std::fmt::Display;

use muster_nvml::Gpu;

use crate::devices::report::{
    Access, Bound, HugePages, Interface, InterfaceKind, Limits, OwnName, RdmaDevice, Report,
};
use crate::text::{columns, size};

/// The report as text.
pub(super) fn render(report: &Report) -> String {
    let mut text = columns(&host(report));
    text += "\n";
    text += &section(&report.interfaces, "no network interfaces", &INTERFACE);
    text += "\n";
    text += &section(&report.rdma.devices, "no RDMA devices", &RDMA);
    text += "\n";
    let none = report.gpus.why_none.as_ref();
    let none = none.map_or_else(|| "no GPUs".to_owned(), |why| format!("GPUs: {why}"));
    text += &section(&report.gpus.devices, &none, &GPU);
    if !report.warnings.is_empty() {
        text += "\n";
    }
    for warning in &report.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

/// A column: its title, and its cell for one thing.
type Column<T> = (&'static str, fn(&T) -> String);

const INTERFACE: [Column<Interface>; 7] = [
    ("INTERFACE", |it| format!("{}{}", it.name, if it.default_route { " (default)" } else { "" })),
    ("KIND", |it| kind(it.kind).to_owned()),
    ("UP", |it| cell(it.up.map(|up| if up { "yes" } else { "no" }))),
    ("MTU", |it| cell(it.mtu)),
    ("SPEED", |it| cell(it.speed.map(|speed| format!("{} Gb/s", f64::from(speed) / 1000.0)))),
    ("NUMA", |it| cell(it.numa)),
    ("ADDRESSES", |it| list(&it.addresses)),
];

const RDMA: [Column<RdmaDevice>; 9] = [
    ("RDMA", |it| it.name.clone()),
    ("DRIVER", |it| cell(it.driver.as_ref())),
    ("FIRMWARE", |it| cell(it.firmware.as_ref())),
    ("PCI", |it| cell(it.pci.as_ref())),
    ("NUMA", |it| cell(it.numa)),
    ("LINK", |it| list(it.ports.iter().map(|port| cell(port.link.as_ref())))),
    ("RATE", |it| {
        list(it.ports.iter().map(|port| cell(port.rate.map(|rate| format!("{rate} Gb/s")))))
    }),
    ("STATE", |it| list(it.ports.iter().map(|port| cell(port.state.as_ref())))),
    ("USABLE", |it| yes(it.usable)),
];

const GPU: [Column<Gpu>; 10] = [
    ("GPU", |it| it.index.to_string()),
    ("NAME", |it| cell(it.name.as_ref())),
    ("PCI", |it| cell(it.pci.as_ref())),
    ("NUMA", |it| cell(it.numa)),
    ("MEMORY", |it| match (it.memory_used, it.memory_total) {
        (Some(used), Some(total)) => format!("{} of {}", size(used), size(total)),
        (_, total) => cell(total.map(size)),
    }),
    ("MIG", |it| match it.mig {
        Some(true) => format!("{} instances", it.instances.len()),
        Some(false) => "off".to_owned(),
        None => cell(None::<u32>),
    }),
    ("LOAD", |it| cell(it.utilisation.map(|percent| format!("{percent}%")))),
    ("TEMP", |it| cell(it.temperature.map(|degrees| format!("{degrees} C")))),
    ("NEAREST", nearest),
    ("USABLE", |it| yes(it.usable)),
];

/// The devices of one kind; a column in which nothing is known is left out.
fn section<T>(things: &[T], none: &str, all: &[Column<T>]) -> String {
    if things.is_empty() {
        return format!("{none}\n");
    }
    let cells = all.iter().map(|(title, cell)| {
        let cells: Vec<String> = things.iter().map(cell).collect();
        (title, cells)
    });
    let told = cells.filter(|(_, cells)| cells.iter().any(|cell| cell != "-"));
    let with_title = |(title, cells): (&&str, Vec<String>)| {
        std::iter::once((*title).to_owned()).chain(cells).collect()
    };
    columns(&told.map(with_title).collect::<Vec<Vec<String>>>())
}

/// Names and values of what there is one of.
fn host(report: &Report) -> [Vec<String>; 2] {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| value != "-") {
            names.push(name.to_owned());
            values.push(value);
        }
    };
    let kernel = report.kernel.as_ref().map(|kernel| format!(", Linux {kernel}"));
    let hostname = report.hostname.as_deref().unwrap_or("unknown");
    fact("host", Some(format!("{hostname}{}", kernel.unwrap_or_default())));
    fact("own name", report.own_name.as_ref().map(own_name));
    fact("clock", report.clock.map(|clock| clock.to_string()));
    fact(
        "CPUs",
        report.cpus.as_ref().map(|cpus| {
            let online = cpus.online.map(|online| format!(" of {online}")).unwrap_or_default();
            format!("{}{online} ({})", cpus.usable, cpus.because)
        }),
    );
    for node in &report.numa {
        let memory = node.memory.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
        let cpus = node.cpus.as_deref().unwrap_or("none");
        fact(&format!("NUMA node {}", node.node), Some(format!("CPUs {cpus}{memory}")));
    }
    fact("memory", memory(report));
    fact("cgroup", report.cgroup.map(|version| format!("version {version}")));
    fact(
        "/dev/shm",
        report.shm.map(|shm| {
            let free = shm.free.map(|free| format!(", {} free", size(free))).unwrap_or_default();
            format!("{}{free}", size(shm.total))
        }),
    );
    fact("limits", Some(limits(report.limits, report.rdma.ipc_lock)));
    let pool = |pool: &HugePages| format!("{} x {}", pool.total, size(pool.size));
    fact("huge pages", Some(list(report.huge_pages.iter().map(pool))));
    fact("rdma_cm", (!report.rdma.devices.is_empty()).then(|| access(report.rdma.cm)));
    fact("GPUDirect", gpudirect(report));
    fact("NVIDIA", nvidia(report));
    let mpi = report.mpi.as_ref();
    fact("MPI", mpi.map(|mpi| format!("{} {} ({})", mpi.family, mpi.version, mpi.path)));
    let set = report.gpus.variables.iter().map(|(name, value)| format!("{name}={value}"));
    fact("set", Some(list(set)));
    [names, values]
}

fn own_name(name: &OwnName) -> String {
    match name {
        OwnName::Addresses(found) => list(found),
        OwnName::Failed(why) => format!("does not resolve: {why}"),
    }
}

fn memory(report: &Report) -> Option<String> {
    let memory = &report.memory;
    let limit = memory.limit.zip(memory.limited_by.as_ref());
    let parts = [
        memory.total.map(size),
        limit.map(|(limit, by)| format!("limit {} ({})", size(limit), by.display())),
        memory.used.map(|used| format!("{} used", size(used))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn limits(limits: Limits, ipc_lock: Option<bool>) -> String {
    let bytes = |value: u64| size(value);
    let named = [
        ("files", bound(limits.nofile, |value| value.to_string())),
        ("processes", bound(limits.nproc, |value| value.to_string())),
        ("locked memory", bound(limits.memlock, bytes)),
        ("stack", bound(limits.stack, bytes)),
    ];
    let known = named.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    let lock = ipc_lock.map(|effective| {
        format!("IPC_LOCK {}", if effective { "effective" } else { "not effective" })
    });
    list(known.chain(lock))
}

fn bound(bound: Option<Bound>, shown: impl Fn(u64) -> String) -> Option<String> {
    Some(match bound? {
        Bound::Unlimited => "unlimited".to_owned(),
        Bound::At(value) => shown(value),
    })
}

/// How NICs reach GPU memory, where there are both.
fn gpudirect(report: &Report) -> Option<String> {
    if report.rdma.devices.is_empty() || report.gpus.devices.is_empty() {
        return None;
    }
    let ways = [
        report.rdma.peermem.then_some("nvidia_peermem"),
        (report.rdma.dma_buf == Some(true)).then_some("dma-buf"),
    ];
    let ways: Vec<&str> = ways.into_iter().flatten().collect();
    Some(if ways.is_empty() { "none".to_owned() } else { ways.join(", ") })
}

fn nvidia(report: &Report) -> Option<String> {
    let driver = report.gpus.driver.as_ref()?;
    let cuda = report.gpus.cuda.as_ref().map(|cuda| format!(", CUDA {cuda}"));
    let by = if report.gpus.nvml { "NVML" } else { "/proc and sysfs" };
    Some(format!("driver {driver}{}, read by {by}", cuda.unwrap_or_default()))
}

/// The RDMA devices that are as near as any.
fn nearest(gpu: &Gpu) -> String {
    let least = gpu.nics.values().min();
    let near = gpu.nics.iter().filter(|(_, level)| Some(*level) == least);
    let names = list(near.map(|(name, _)| name));
    least.map_or(names.clone(), |level| format!("{names} ({})", level.name()))
}

const fn kind(kind: InterfaceKind) -> &'static str {
    match kind {
        InterfaceKind::Loopback => "loopback",
        InterfaceKind::Bridge => "bridge",
        InterfaceKind::Bond => "bond",
        InterfaceKind::Tunnel => "tunnel",
        InterfaceKind::Physical => "physical",
        InterfaceKind::Virtual => "virtual",
    }
}

fn access(access: Access) -> String {
    match access {
        Access::Unknown => "-",
        Access::Absent => "absent",
        Access::Refused => "does not open for this user",
        Access::Open => "opens",
    }
    .to_owned()
}

fn yes(usable: bool) -> String {
    if usable { "yes" } else { "NO" }.to_owned()
}

/// A value, or a dash where it is not known.
fn cell<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}
