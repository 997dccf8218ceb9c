//! What somebody has set already in places that the launcher's environment does not show: on the
//! user's own mpirun line, and in the workers' environment.
//!
//! Must not follow files that options name (`--tune`, `-am`, mca-params.conf).

use std::collections::BTreeMap;

use super::NAMES;
use crate::config::env::Environment;
use crate::ids::HostName;
use crate::plan::{Elsewhere, Work};

/// Variables by their names, with their values and who set them.
pub type Given = BTreeMap<String, Elsewhere>;

/// Open MPI's parameters on the command line, and the prefixes of the variables that are the same.
const MCA: [(&str, &[&str]); 5] = [
    // Open MPI 5 sorts them by name into its own and PRRTE's.
    ("mca", &["OMPI_MCA_", "PRTE_MCA_"]),
    ("gmca", &["OMPI_MCA_", "PRTE_MCA_"]),
    ("omca", &["OMPI_MCA_"]),
    ("prtemca", &["PRTE_MCA_"]),
    ("pmixmca", &["PMIX_MCA_"]),
];

/// What the mpirun line and the workers' environments set of all that a fabric may need.
#[must_use]
pub fn given<'a>(
    work: &Work,
    env: &Environment,
    workers: impl Iterator<Item = (&'a HostName, &'a BTreeMap<String, String>)>,
) -> Given {
    let mut found = Given::new();
    for (host, variables) in workers {
        for (name, value) in variables {
            found.entry(name.clone()).or_insert_with(|| Elsewhere {
                value: value.clone(),
                place: format!("in the environment of {}", host.short()),
            });
        }
    }
    if let Work::MpirunLine(line) = work {
        let words: Vec<&str> = line.iter().skip(1).filter_map(|word| word.to_str()).collect();
        for (name, value) in on_line(&words, env) {
            found.insert(name, Elsewhere { value, place: "on the mpirun line".into() });
        }
    }
    found.retain(|name, _| NAMES.contains(&name.as_str()));
    found
}

fn on_line(words: &[&str], env: &Environment) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some(option) = word.strip_prefix('-') else { continue };
        let option = option.strip_prefix('-').unwrap_or(option);
        let values = (words.get(at + 1).copied(), words.get(at + 2).copied());
        let mca = MCA.iter().find(|(name, _)| *name == option);
        match (option, values) {
            (_, (Some(name), Some(value))) if mca.is_some() => {
                let prefixes = mca.map(|(_, prefixes)| *prefixes).unwrap_or_default();
                for prefix in prefixes {
                    found.push((format!("{prefix}{name}"), value.to_owned()));
                }
            }
            ("x", (Some(variable), _)) => {
                let (name, value) = variable
                    .split_once('=')
                    .unwrap_or_else(|| (variable, env.get(variable).unwrap_or_default()));
                found.push((name.to_owned(), value.to_owned()));
            }
            ("genv" | "env", (Some(name), Some(value))) => {
                found.push((name.to_owned(), value.to_owned()));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_workers_are_read() {
        let line = "mpirun -n 4 --mca btl_tcp_if_exclude docker0 -x UCX_NET_DEVICES=ib0 -x NCCL_IB_HCA \
                    -x LD_LIBRARY_PATH -genv FI_PROVIDER tcp ./app";
        let work = Work::MpirunLine(line.split_whitespace().map(Into::into).collect());
        let env: Environment = [("NCCL_IB_HCA", "mlx5")].into_iter().collect();
        let set = BTreeMap::from([
            ("NCCL_SOCKET_IFNAME".to_owned(), "eth7".to_owned()),
            ("FI_PROVIDER".to_owned(), "efa".to_owned()),
        ]);
        let host = HostName::from("w-1.pi.ns.svc");
        let given = given(&work, &env, [(&host, &set)].into_iter());
        let seen: Vec<String> =
            given.iter().map(|(name, it)| format!("{name}={} {}", it.value, it.place)).collect();
        assert_eq!(
            seen,
            [
                "FI_PROVIDER=tcp on the mpirun line",
                "NCCL_IB_HCA=mlx5 on the mpirun line",
                "NCCL_SOCKET_IFNAME=eth7 in the environment of w-1",
                "OMPI_MCA_btl_tcp_if_exclude=docker0 on the mpirun line",
                "UCX_NET_DEVICES=ib0 on the mpirun line",
            ]
        );
    }
}
