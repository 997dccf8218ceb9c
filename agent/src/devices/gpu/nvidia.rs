//! NVIDIA's GPUs as the kernel's files tell them, and whether NVML is worth asking.
//!
//! Must not load anything of the driver.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use muster_nvml::{Gpu, Vendor, pci_address};

use super::refused;
use crate::config::env::Environment;
use crate::devices::host::Roots;
use crate::devices::report::Access;
use crate::devices::{node, pci, read};

/// NVIDIA's number as a PCI vendor.
const VENDOR: u32 = 0x10de;

/// Where a library lies that the loader finds, or that the helper looks for beyond it.
const LIBRARIES: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/local/cuda/compat",
    "/usr/lib/wsl/lib",
];

/// Why NVML did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no sign of a driver: nobody to ask.
    Nobody,
    /// The container was made without GPUs on purpose.
    Blinded(String),
    /// It cannot be asked here, or says itself that it does not work; this is why.
    Unable(String),
    /// It should have answered and did not: it crashed or hung.
    Failed(String),
}

/// Whether to ask NVML. Costs a few look-ups of files.
///
/// # Errors
/// Where there is no point in it.
pub fn whether_to_ask(roots: &Roots, env: &Environment) -> Result<(), NoAnswer> {
    let node = roots.dev.join("nvidiactl").exists();
    if let Some(value @ ("" | "none")) = env.get("NVIDIA_VISIBLE_DEVICES")
        && !node
    {
        return Err(NoAnswer::Blinded(format!(
            "none, as expected: NVIDIA_VISIBLE_DEVICES is set to {value:?}, as mpi-operator does on \
             launchers"
        )));
    }
    if !roots.are_own() {
        return Err(NoAnswer::Unable("the files are those of another machine".into()));
    }
    let driver = node
        || roots.dev.join("dxg").exists()
        || roots.proc.join("driver/nvidia/version").exists()
        || library(env).is_some();
    if driver { Ok(()) } else { Err(NoAnswer::Nobody) }
}

fn library(env: &Environment) -> Option<PathBuf> {
    let first = std::env::split_paths(env.get("LD_LIBRARY_PATH").unwrap_or_default());
    let all = first.chain(LIBRARIES.iter().map(PathBuf::from));
    all.map(|directory| directory.join("libnvidia-ml.so.1")).find(|library| library.exists())
}

/// The driver's version, out of `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  …`.
pub(super) fn driver(roots: &Roots) -> Option<String> {
    let version = read::line(&roots.proc.join("driver/nvidia/version"))?;
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    version.split_ascii_whitespace().find(is_version).map(str::to_owned)
}

/// The GPUs that the bus or the driver shows.
pub(super) fn gpus(roots: &Roots, bus: &[pci::Device]) -> Vec<Gpu> {
    let told = roots.proc.join("driver/nvidia/gpus");
    let on_bus = bus.iter().filter(|device| device.vendor == VENDOR && device.computes());
    let addresses: BTreeSet<String> = on_bus
        .filter_map(|device| device.place.address.clone())
        .chain(read::names(&told).iter().filter_map(|name| pci_address(name)))
        .collect();
    let gpu = |(index, address): (u32, String)| gpu(roots, &told, index, address);
    (0..).zip(addresses).map(gpu).collect()
}

fn gpu(roots: &Roots, told: &Path, index: u32, address: String) -> Gpu {
    let text = read::text(&told.join(&address).join("information")).unwrap_or_default();
    let said = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        // A GPU whose firmware has not told it yet has `GPU-????????-…`.
        value.and_then(|(_, value)| read::tidy(value)).filter(|value| !value.contains('?'))
    };
    let minor: Option<u32> = said("Device Minor").and_then(|value| value.parse().ok());
    let why_not = match minor {
        Some(minor) => {
            let name = format!("nvidia{minor}");
            refused(&name, node::permits(roots, &roots.dev.join(&name)))
        }
        None => match node::permits(roots, &roots.dev.join("nvidiactl")) {
            Access::Absent => Some("its driver is not loaded, or not in this container".into()),
            access => refused("nvidiactl", access),
        },
    };
    Gpu {
        index,
        vendor: Vendor::Nvidia,
        name: said("Model"),
        uuid: said("GPU UUID"),
        pci: Some(address),
        minor,
        mig: minor.filter(|minor| is_cut(roots, *minor)).map(|_| true),
        usable: why_not.is_none(),
        why_not,
        ..Gpu::default()
    }
}

/// Whether it is cut into MIG instances, which have files of their own; what they are called is for
/// NVML to say.
fn is_cut(roots: &Roots, minor: u32) -> bool {
    let instances = roots.proc.join(format!("driver/nvidia/capabilities/gpu{minor}/mig"));
    read::names(&instances).iter().any(|name| name.starts_with("gi"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::planted::machine;

    #[test]
    fn versions() {
        for (text, version) in [
            (
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC",
                Some("535.104.05"),
            ),
            (
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release",
                Some("550.54.14"),
            ),
            ("nonsense", None),
        ] {
            let (_home, roots) = machine(&[("proc/driver/nvidia/version", text)]);
            assert_eq!(driver(&roots).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn only_a_driver_is_asked() {
        let env = |value: &str| Environment::from_iter([("NVIDIA_VISIBLE_DEVICES", value)]);
        let (_home, given) = machine(&[("dev/nvidiactl", "")]);
        let (_home, none) = machine(&[("dev/null", "")]);
        assert!(matches!(whether_to_ask(&none, &env("")), Err(NoAnswer::Blinded(_))));
        assert!(matches!(whether_to_ask(&none, &env("none")), Err(NoAnswer::Blinded(_))));
        assert!(
            matches!(whether_to_ask(&none, &env("void")), Err(NoAnswer::Unable(_))),
            "as CDI sets it"
        );
        assert!(
            matches!(whether_to_ask(&given, &env("")), Err(NoAnswer::Unable(_))),
            "given by other means"
        );
        let nowhere = Environment::from_iter([("LD_LIBRARY_PATH", "/nowhere")]);
        if library(&nowhere).is_none() && !Path::new("/dev/nvidiactl").exists() {
            assert_eq!(whether_to_ask(&Roots::default(), &nowhere), Err(NoAnswer::Nobody));
        }
    }

    #[test]
    fn without_a_bus_the_driver_tells() {
        let (_home, roots) = machine(&[
            (
                "proc/driver/nvidia/gpus/0000:07:00.0/information",
                "Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-????????-????\nDevice Minor: \t 3\n",
            ),
            (
                "proc/driver/nvidia/gpus/0000:0a:00.0/information",
                "Model: NVIDIA A100\nGPU UUID: GPU-1\nDevice Minor: 1",
            ),
            ("proc/driver/nvidia/capabilities/gpu1/mig/gi0/access", "DeviceFileMinor: 12\n"),
            ("proc/driver/nvidia/capabilities/gpu3/mig/config", "DeviceFileMinor: 1\n"),
            ("dev/nvidia1", ""),
        ]);
        let found = gpus(&roots, &[]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name.as_deref(), Some("NVIDIA A100"));
        assert_eq!((&found[0].uuid, found[0].usable), (&None, false));
        assert!(found[0].why_not.as_ref().unwrap().contains("/dev/nvidia3"));
        assert_eq!((found[1].uuid.as_deref(), found[1].usable), (Some("GPU-1"), true));
        assert_eq!([found[0].mig, found[1].mig], [None, Some(true)], "one of them is cut");
    }
}
