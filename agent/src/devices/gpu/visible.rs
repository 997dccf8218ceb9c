//! The variables that leave only some of the GPUs to a program.
//!
//! Pure: what they say is applied to what was found.

use std::collections::{BTreeMap, BTreeSet};

use muster_nvml::{Gpu, Vendor};

use crate::config::env::Environment;

/// Variables that choose among a vendor's GPUs, for programs of that vendor's runtime.
const CHOOSING: [(Vendor, &str); 4] = [
    (Vendor::Nvidia, "CUDA_VISIBLE_DEVICES"),
    (Vendor::Amd, "ROCR_VISIBLE_DEVICES"),
    (Vendor::Amd, "HIP_VISIBLE_DEVICES"),
    (Vendor::Intel, "ZE_AFFINITY_MASK"),
];

/// Variables by which container runtimes are told what to give.
const GIVING: [&str; 2] = ["NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"];

/// Characters of a value that are kept.
const MAX_VALUE: usize = 1024;

/// Those of these variables that are set.
pub(super) fn variables(env: &Environment) -> BTreeMap<String, String> {
    let names = CHOOSING.iter().map(|(_, name)| *name).chain(GIVING);
    let value =
        |name: &str| Some((name.to_owned(), env.get(name)?.chars().take(MAX_VALUE).collect()));
    names.filter_map(value).collect()
}

/// Marks the GPUs and takes away the instances that a variable leaves out.
pub(super) fn apply(gpus: &mut [Gpu], env: &Environment) {
    for (vendor, name) in CHOOSING {
        let Some(value) = env.get(name) else { continue };
        let own: Vec<&Gpu> = gpus.iter().filter(|gpu| gpu.vendor == vendor).collect();
        let (chosen, instances) = choose(value, &own);
        for gpu in gpus.iter_mut().filter(|gpu| gpu.vendor == vendor) {
            if !chosen.contains(&gpu.index) {
                gpu.usable = false;
                gpu.why_not.get_or_insert_with(|| format!("{name}={value} leaves it out"));
            }
            if !instances.is_empty() {
                gpu.instances.retain(|instance| {
                    instance.uuid.as_ref().is_some_and(|uuid| instances.contains(uuid))
                });
            }
        }
    }
}

/// The GPUs that a list names, and the MIG instances where it names those. As in CUDA, the first
/// entry that names nothing ends the list.
fn choose(list: &str, gpus: &[&Gpu]) -> (BTreeSet<u32>, BTreeSet<String>) {
    let (mut chosen, mut instances) = (BTreeSet::new(), BTreeSet::new());
    for entry in list.split(',').map(str::trim) {
        // Level Zero's names a tile after a dot.
        let number = entry.split('.').next().and_then(|number| number.parse::<usize>().ok());
        let by_number = number.and_then(|number| gpus.get(number));
        let named = |uuid: &Option<String>| {
            entry.len() >= 4 && uuid.as_ref().is_some_and(|uuid| uuid.starts_with(entry))
        };
        let gpu = by_number.or_else(|| gpus.iter().find(|gpu| named(&gpu.uuid)));
        if let Some(gpu) = gpu {
            chosen.insert(gpu.index);
            continue;
        }
        let instance = gpus.iter().find_map(|gpu| {
            let found = gpu.instances.iter().find(|instance| named(&instance.uuid))?;
            Some((gpu.index, found.uuid.clone()?))
        });
        let Some((index, uuid)) = instance else { break };
        chosen.insert(index);
        instances.insert(uuid);
    }
    (chosen, instances)
}

#[cfg(test)]
mod tests {
    use muster_nvml::Instance;

    use super::*;

    #[test]
    fn lists_as_cuda_reads_them() {
        let instance = |name: &str| Instance { uuid: Some(name.into()), ..Instance::default() };
        let gpu = |index, uuid: &str, instances: &[Instance]| Gpu {
            index,
            uuid: Some(uuid.to_owned()),
            instances: instances.to_vec(),
            usable: true,
            ..Gpu::default()
        };
        let gpus = [
            gpu(0, "GPU-aaaa-1", &[]),
            gpu(1, "GPU-bbbb-2", &[]),
            gpu(2, "GPU-cccc-3", &[instance("MIG-x1"), instance("MIG-x2")]),
        ];
        for (value, usable, left) in [
            ("0,1,2", &[0, 1, 2][..], 2),
            ("2", &[2], 2),
            ("1,7,0", &[1], 2),
            ("", &[], 2),
            ("-1", &[], 2),
            ("NoDevFiles", &[], 2),
            ("GPU-bbbb", &[1], 2),
            ("GPU-aaaa-1, 1", &[0, 1], 2),
            ("MIG-x2", &[2], 1),
        ] {
            let mut gpus = gpus.clone();
            apply(&mut gpus, &Environment::from_iter([("CUDA_VISIBLE_DEVICES", value)]));
            let found: Vec<u32> =
                gpus.iter().filter(|gpu| gpu.usable).map(|gpu| gpu.index).collect();
            assert_eq!(found, usable, "{value}");
            assert_eq!(gpus[2].instances.len(), left, "{value}");
            assert!(gpus.iter().all(|gpu| gpu.usable != gpu.why_not.is_some()), "{value}");
        }
        let mut untouched = gpus.clone();
        apply(&mut untouched, &Environment::from_iter([("ROCR_VISIBLE_DEVICES", "1")]));
        assert_eq!(untouched, gpus);
    }
}
