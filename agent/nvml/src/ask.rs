//! Every question that is put to NVML.
//!
//! A question that fails costs its own field and nothing else: old drivers lack functions, consumer
//! boards lack counters, containers lack permissions.

use std::mem;

use muster_nvml::{
    Answer, Ecc, Gpu, Instance, Level, MAX_ENTRIES, MAX_GPUS, Peer, Process, SCHEMA, Vendor,
    pci_address,
};
use nvml_wrapper::enum_wrappers::device::{
    ComputeMode, EccCounter, MemoryError, TemperatureSensor, TopologyLevel,
};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};
use nvml_wrapper_sys::bindings::nvmlMemory_t;

/// `NVML_NVLINK_MAX_LINKS` of the newest NVML.
const MAX_NVLINKS: u32 = 18;

/// All there is to know of the GPUs that NVML shows in this container.
pub(super) fn everything(nvml: &Nvml) -> Answer {
    let mut answer = Answer { schema: SCHEMA, ..Answer::default() };
    answer.driver = nvml.sys_driver_version().ok();
    answer.cuda = nvml.sys_cuda_driver_version().ok().map(|version| {
        format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version))
    });
    let count = match nvml.device_count() {
        Ok(count) => count,
        Err(error) => {
            answer.failed = Some(format!("NVML does not count GPUs: {error}"));
            return answer;
        }
    };
    let mut devices = Vec::new();
    for index in 0..count.min(u32::try_from(MAX_GPUS).unwrap_or(u32::MAX)) {
        match nvml.device_by_index(index) {
            Ok(device) => devices.push((index, device)),
            Err(error) => answer.problems.push(format!("GPU {index}: {error}")),
        }
    }
    answer.gpus = devices.iter().map(|(index, device)| Asked::of(*index, device).gpu).collect();
    let addresses: Vec<Option<String>> = answer.gpus.iter().map(|gpu| gpu.pci.clone()).collect();
    for (at, (_, device)) in devices.iter().enumerate() {
        let (links, switch_links) = nvlinks(device, &addresses);
        answer.gpus[at].switch_links = switch_links;
        answer.gpus[at].peers = devices
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(other, (index, peer))| Peer {
                index: *index,
                links: links[other],
                level: nvml.topology_common_ancestor(device, peer).ok().map(level),
            })
            .filter(|peer| peer.links > 0 || peer.level.is_some())
            .take(MAX_ENTRIES)
            .collect();
    }
    answer
}

/// One GPU while it is asked.
struct Asked {
    gpu: Gpu,
}

impl Asked {
    fn of(index: u32, device: &Device<'_>) -> Self {
        let mut asked =
            Self { gpu: Gpu { index, vendor: Vendor::Nvidia, usable: true, ..Gpu::default() } };
        asked.gpu.name = asked.noted("name", device.name());
        asked.gpu.uuid = asked.noted("uuid", device.uuid());
        let pci = asked.noted("pci", device.pci_info());
        asked.gpu.pci = pci.and_then(|pci| pci_address(&pci.bus_id));
        asked.gpu.minor = asked.noted("minor", device.minor_number());
        if let Some((total, used)) = asked.noted("memory", memory(device)) {
            (asked.gpu.memory_total, asked.gpu.memory_used) = (Some(total), Some(used));
        }
        asked.gpu.mig = asked.noted("mig", device.mig_mode()).map(|mode| mode.current == 1);
        if asked.gpu.mig == Some(true) {
            asked.gpu.instances = instances(device);
        }
        asked.gpu.compute_mode =
            asked.noted("compute_mode", device.compute_mode()).map(|mode| mode_name(mode).into());
        asked.gpu.ecc = asked.noted("ecc", device.is_ecc_enabled()).map(|ecc| {
            let errors = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
            Ecc {
                enabled: ecc.currently_enabled,
                corrected: errors(MemoryError::Corrected),
                uncorrected: errors(MemoryError::Uncorrected),
            }
        });
        asked.gpu.temperature =
            asked.noted("temperature", device.temperature(TemperatureSensor::Gpu));
        asked.gpu.utilisation =
            asked.noted("utilisation", device.utilization_rates()).map(|rates| rates.gpu);
        asked.gpu.processes = asked.noted("processes", processes(device)).unwrap_or_default();
        if asked.gpu.compute_mode.as_deref() == Some("prohibited") {
            asked.gpu.usable = false;
            asked.gpu.why_not = Some("its compute mode is prohibited (nvidia-smi -c 0)".into());
        }
        asked
    }

    /// The answer; or why there is none, unless the board is simply not of the kind that has one.
    fn noted<T>(&mut self, field: &str, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(NvmlError::NotSupported) => None,
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => {
                self.gpu.usable = false;
                self.gpu.why_not = Some(error.to_string());
                None
            }
            Err(NvmlError::FailedToLoadSymbol(_)) => {
                self.gpu.unknown.insert(field.into(), "this driver is too old to say".into());
                None
            }
            Err(error) => {
                self.gpu.unknown.insert(field.into(), error.to_string());
                None
            }
        }
    }
}

/// Total and used bytes; drivers before 510 know only the first form of the question.
fn memory(device: &Device<'_>) -> Result<(u64, u64), NvmlError> {
    match device.memory_info() {
        Ok(memory) => Ok((memory.total, memory.used)),
        Err(error) => {
            let Ok(ask) = device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref() else {
                return Err(error);
            };
            // SAFETY: all zeroes is a valid nvmlMemory_t, which is three integers.
            let mut memory: nvmlMemory_t = unsafe { mem::zeroed() };
            // SAFETY: NVML's own function, a handle that NVML gave, and a struct that it fills.
            let code = unsafe { ask(device.handle(), &raw mut memory) };
            if code == 0 { Ok((memory.total, memory.used)) } else { Err(error) }
        }
    }
}

fn instances(device: &Device<'_>) -> Vec<Instance> {
    // A slot without an instance says that it was not found.
    let slots = device.mig_device_count().unwrap_or(0);
    let found =
        (0..slots).filter_map(|index| Some((index, device.mig_device_by_index(index).ok()?)));
    let instance = |(index, instance): (u32, Device<'_>)| Instance {
        index,
        uuid: instance.uuid().ok(),
        name: instance.name().ok(),
        memory_total: memory(&instance).ok().map(|(total, _)| total),
    };
    found.map(instance).take(MAX_ENTRIES).collect()
}

fn processes(device: &Device<'_>) -> Result<Vec<Process>, NvmlError> {
    let listed = match device.running_compute_processes() {
        Err(NvmlError::FailedToLoadSymbol(_)) => device.running_compute_processes_v2(),
        other => other,
    }?;
    let process = |process: nvml_wrapper::struct_wrappers::device::ProcessInfo| Process {
        pid: process.pid,
        memory: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
    };
    Ok(listed.into_iter().map(process).take(MAX_ENTRIES).collect())
}

/// Active NVLinks to each of the other GPUs, by their PCI addresses, and those to anything else, which
/// is a switch.
fn nvlinks(device: &Device<'_>, addresses: &[Option<String>]) -> (Vec<u32>, Option<u32>) {
    let mut links = vec![0; addresses.len()];
    let mut elsewhere = 0;
    for link in (0..MAX_NVLINKS).map(|link| device.link_wrapper_for(link)) {
        match link.is_active() {
            Ok(true) => {}
            Ok(false) => continue,
            // Not such a link, nor any after it.
            Err(_) => break,
        }
        let remote = link.remote_pci_info().ok().and_then(|pci| pci_address(&pci.bus_id));
        let peer = remote.and_then(|remote| {
            addresses.iter().position(|address| address.as_deref() == Some(&remote))
        });
        match peer {
            Some(peer) => links[peer] += 1,
            None => elsewhere += 1,
        }
    }
    (links, Some(elsewhere).filter(|links| *links > 0))
}

const fn level(level: TopologyLevel) -> Level {
    match level {
        TopologyLevel::Internal => Level::Board,
        TopologyLevel::Single => Level::Pix,
        TopologyLevel::Multiple => Level::Pxb,
        TopologyLevel::HostBridge => Level::Phb,
        TopologyLevel::Node => Level::Node,
        TopologyLevel::System => Level::Sys,
    }
}

const fn mode_name(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "default",
        ComputeMode::ExclusiveThread => "exclusive-thread",
        ComputeMode::Prohibited => "prohibited",
        ComputeMode::ExclusiveProcess => "exclusive-process",
    }
}
