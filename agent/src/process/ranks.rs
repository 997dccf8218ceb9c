//! Which MPI ranks run here: the proof of where a job's ranks really are.
//!
//! Must not start or signal anything, and must not believe a variable by itself: children of a rank
//! inherit it, and what started a daemon may have leaked it.

use std::collections::HashMap;
use std::path::Path;

use super::tree::{Process, Tree, environ, variable};

/// Whose variables named a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Open MPI (`OMPI_COMM_WORLD_RANK`).
    OpenMpi,
    /// MVAPICH2 (`MV2_COMM_WORLD_RANK`).
    Mvapich2,
    /// HPE PALS (`PALS_RANKID`).
    Pals,
    /// Any PMIx server (`PMIX_RANK`).
    Pmix,
    /// Hydra: MPICH and Intel MPI (`PMI_RANK`), and other launchers that speak PMI 1 or 2.
    Pmi,
    /// Flux's own tasks (`FLUX_TASK_RANK`).
    Flux,
    /// Slurm's own tasks (`SLURM_PROCID`).
    Slurm,
}

/// The variables of one source.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Whose they are.
    pub source: Source,
    /// The rank in the world; where this one is a number, the source is believed.
    pub rank: &'static str,
    /// How many ranks the world has.
    pub size: Option<&'static str>,
    /// The rank among those on its host.
    pub local_rank: Option<&'static str>,
    /// How many ranks its host has.
    pub local_size: Option<&'static str>,
    /// The names by which the launcher may know the host, the first that is set counts.
    pub host: &'static [&'static str],
    /// The launcher's number for the job.
    pub job: Option<&'static str>,
}

const fn names(source: Source, rank: &'static str, size: &'static str) -> Names {
    Names {
        source,
        rank,
        size: Some(size),
        local_rank: None,
        local_size: None,
        host: &[],
        job: None,
    }
}

/// THE table of rank variables, in order of precedence: the first source whose rank is set names the
/// place. `docs/rank-variables.md` shows it to users, and says how gaps are filled.
pub const TABLE: [Names; 7] = [
    Names {
        local_rank: Some("OMPI_COMM_WORLD_LOCAL_RANK"),
        local_size: Some("OMPI_COMM_WORLD_LOCAL_SIZE"),
        host: &["PMIX_HOSTNAME"],
        ..names(Source::OpenMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
    },
    Names {
        local_rank: Some("MV2_COMM_WORLD_LOCAL_RANK"),
        local_size: Some("MV2_COMM_WORLD_LOCAL_SIZE"),
        ..names(Source::Mvapich2, "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE")
    },
    Names {
        local_rank: Some("PALS_LOCAL_RANKID"),
        local_size: Some("PALS_LOCAL_SIZE"),
        job: Some("PALS_APID"),
        ..names(Source::Pals, "PALS_RANKID", "PMI_SIZE")
    },
    Names { size: None, host: &["PMIX_HOSTNAME"], ..names(Source::Pmix, "PMIX_RANK", "") },
    Names {
        local_rank: Some("MPI_LOCALRANKID"),
        local_size: Some("MPI_LOCALNRANKS"),
        host: &["PMI_HOSTNAME", "HYDRA_BSTRAP_LOCALHOST"],
        ..names(Source::Pmi, "PMI_RANK", "PMI_SIZE")
    },
    Names {
        local_rank: Some("FLUX_TASK_LOCAL_ID"),
        job: Some("FLUX_JOB_ID"),
        ..names(Source::Flux, "FLUX_TASK_RANK", "FLUX_JOB_SIZE")
    },
    Names {
        local_rank: Some("SLURM_LOCALID"),
        host: &["SLURMD_NODENAME"],
        job: Some("SLURM_JOB_ID"),
        ..names(Source::Slurm, "SLURM_PROCID", "SLURM_NTASKS")
    },
];

/// The name that a PMIx server has for its ranks together.
const PMIX_NAMESPACE: &str = "PMIX_NAMESPACE";

/// The batch systems' numbers for a job, whoever started its ranks.
pub const BATCH_JOBS: [&str; 3] = ["SLURM_JOB_ID", "FLUX_JOB_ID", "PALS_APID"];

/// What starts ranks and is never one, by the first 15 bytes of the name.
const STARTERS: [&str; 15] = [
    "orted",
    "prted",
    "prte",
    "prterun",
    "prun",
    "orterun",
    "hydra_pmi_proxy",
    "hydra_bstrap_pr",
    "pmi_proxy",
    "mpirun",
    "mpiexec",
    "mpispawn",
    "palsd",
    "srun",
    "slurmstepd",
];

/// Where a process stands in an MPI job, by its environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose variables said so.
    pub source: Source,
    /// The rank in the world.
    pub rank: u32,
    /// How many ranks the world has.
    pub size: Option<u32>,
    /// The rank among those on this host.
    pub local_rank: Option<u32>,
    /// How many ranks this host has.
    pub local_size: Option<u32>,
}

impl Place {
    /// Reads it from variables that `lookup` finds, as [`TABLE`] says.
    #[must_use]
    pub fn find<'a>(lookup: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        Self::with_sources(&lookup).map(|(place, _)| place)
    }

    /// The place, and what names it: the first source, and those that agree with it.
    fn with_sources<'a>(
        lookup: &impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Option<(Self, Vec<&'static Names>)> {
        let mut found = TABLE.iter().filter_map(|names| Some((names, Self::by(names, lookup)?)));
        let (first, mut place) = found.next()?;
        let mut sources = vec![first];
        for (names, other) in found {
            if place.agrees(&other, lookup) {
                sources.push(names);
                place.size = place.size.or(other.size);
                place.local_rank = place.local_rank.or(other.local_rank);
                place.local_size = place.local_size.or(other.local_size);
            }
        }
        Some((place, sources))
    }

    /// Whether another source means the same rank of the same world. PMIx has no variable for the world's
    /// size, but names the world: Slurm's begin with its name.
    fn agrees<'a>(&self, other: &Self, lookup: &impl Fn(&str) -> Option<&'a [u8]>) -> bool {
        let by_name = || match (self.source, other.source) {
            (Source::Pmix, Source::Slurm) => {
                lookup(PMIX_NAMESPACE).is_none_or(|name| name.starts_with(b"slurm."))
            }
            (Source::Pmix, _) => true,
            _ => false,
        };
        self.rank == other.rank && (self.size == other.size || (self.size.is_none() && by_name()))
    }

    fn by<'a>(names: &Names, lookup: &impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let text = |name: &str| std::str::from_utf8(lookup(name)?).ok();
        let number = |name: &str| text(name)?.parse::<u32>().ok();
        let by_node = || {
            let node = number("SLURM_NODEID")?;
            tasks_on(text("SLURM_STEP_TASKS_PER_NODE")?, node)
        };
        Some(Self {
            source: names.source,
            rank: number(names.rank)?,
            size: names.size.and_then(number),
            local_rank: names.local_rank.and_then(number),
            local_size: match names.source {
                Source::Slurm => by_node(),
                _ => names.local_size.and_then(number),
            },
        })
    }

    /// The name of its host, where a launcher gives one that others can use.
    #[must_use]
    pub fn host<'a>(lookup: impl Fn(&str) -> Option<&'a [u8]>) -> Option<&'a str> {
        let (_, sources) = Self::with_sources(&lookup)?;
        let mut names = sources.iter().flat_map(|names| names.host);
        let host = names.find_map(|name| std::str::from_utf8(lookup(name)?).ok())?;
        (!host.is_empty() && host != "localhost").then_some(host)
    }

    /// The number of its job: that of a launcher that names the rank; else that of the batch system, in whose
    /// job mpirun runs; else the name that PMIx gives the ranks.
    #[must_use]
    pub fn job<'a>(lookup: impl Fn(&str) -> Option<&'a [u8]>) -> Option<&'a str> {
        let (_, sources) = Self::with_sources(&lookup)?;
        let own = sources.iter().filter_map(|names| names.job);
        let mut names = own.chain(BATCH_JOBS).chain([PMIX_NAMESPACE]);
        names.find_map(|name| std::str::from_utf8(lookup(name)?).ok().filter(|job| !job.is_empty()))
    }
}

/// Slurm's `2(x3),1`: three nodes of two tasks each, then one of one.
fn tasks_on(counts: &str, mut node: u32) -> Option<u32> {
    for group in counts.split(',') {
        let (tasks, nodes) = match group.split_once("(x") {
            Some((tasks, nodes)) => (tasks, nodes.strip_suffix(')')?.parse().ok()?),
            None => (group, 1),
        };
        if node < nodes {
            return tasks.parse().ok();
        }
        node -= nodes;
    }
    None
}

/// One running rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank {
    /// Where it stands in the job.
    pub place: Place,
    /// Its process.
    pub pid: i32,
    /// The program's name, cut to 15 bytes; a wrapper's where there is one.
    pub program: String,
}

/// Finds the ranks below `root` in a snapshot, in the order of their numbers.
///
/// Of each line of descent, only the first process that carries a rank is it. A daemon starts the
/// line anew: what it inherited itself says nothing about its children.
pub fn find(tree: &Tree, root: i32, environ: impl Fn(i32) -> Option<Vec<u8>>) -> Vec<Rank> {
    let carried: HashMap<i32, (&Process, Place)> = tree
        .descendants(root)
        .into_iter()
        .filter(|process| !process.ended() && !starter(process))
        .filter_map(|process| {
            let environ = environ(process.id.pid)?;
            let place = Place::find(|name| variable(&environ, name))?;
            Some((process.id.pid, (process, place)))
        })
        .collect();
    // Under Slurm, everything below srun has its variables, mpirun's relatives included.
    let mpi = carried.values().any(|(_, place)| place.source != Source::Slurm);
    let same = |a: Place, b: Place| (a.source, a.rank) == (b.source, b.rank);
    let mut ranks: Vec<Rank> = carried
        .values()
        .filter(|(_, place)| !mpi || place.source != Source::Slurm)
        .filter(|(process, place)| {
            !tree
                .ancestors(process.id.pid)
                .take_while(|above| above.id.pid != root && !starter(above))
                .filter_map(|above| carried.get(&above.id.pid))
                .any(|(_, above)| same(*above, *place))
        })
        .map(|(process, place)| Rank {
            place: *place,
            pid: process.id.pid,
            program: process.comm.clone(),
        })
        .collect();
    ranks.sort_unstable_by_key(|rank| (rank.place.rank, rank.pid));
    ranks
}

/// [`find`] in the real `/proc`. Reads environments, so it may block: run it off the runtime's
/// threads and under a deadline.
///
/// # Errors
/// Where the processes cannot be listed.
pub fn running(proc: &Path, root: i32) -> std::io::Result<Vec<Rank>> {
    Ok(find(&Tree::read(proc)?, root, |pid| environ(proc, pid)))
}

fn starter(process: &Process) -> bool {
    // mpirun.openmpi, mpiexec.hydra and their like are one family.
    let name = process.comm.split('.').next().unwrap_or_default();
    STARTERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::process;
    use super::*;

    fn place(environ: &str) -> Option<Place> {
        let environ = environ.replace(' ', "\0");
        Place::find(|name| variable(environ.as_bytes(), name))
    }

    #[test]
    fn places() {
        use Source::{Flux, Mvapich2, OpenMpi, Pals, Pmi, Pmix, Slurm};
        for (environ, source, rank, size, local_rank, local_size) in [
            (
                "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=6 OMPI_COMM_WORLD_LOCAL_RANK=1 \
                 OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_RANK=3 SLURM_PROCID=0",
                OpenMpi,
                3,
                Some(6),
                Some(1),
                Some(2),
            ),
            (
                "PMI_RANK=5 PMI_SIZE=8 MPI_LOCALRANKID=2 MPI_LOCALNRANKS=4",
                Pmi,
                5,
                Some(8),
                Some(2),
                Some(4),
            ),
            (
                "MV2_COMM_WORLD_RANK=1 MV2_COMM_WORLD_SIZE=2 MV2_COMM_WORLD_LOCAL_RANK=0 PMI_RANK=1",
                Mvapich2,
                1,
                Some(2),
                Some(0),
                None,
            ),
            (
                "PALS_RANKID=7 PMI_SIZE=9 PALS_LOCAL_RANKID=3 PALS_LOCAL_SIZE=4 PMI_RANK=7",
                Pals,
                7,
                Some(9),
                Some(3),
                Some(4),
            ),
            ("PMIX_RANK=2 SLURM_PROCID=9", Pmix, 2, None, None, None),
            (
                "PMIX_RANK=7 PMIX_NAMESPACE=slurm.pmix.5.0 SLURM_PROCID=7 SLURM_NTASKS=8 \
                 SLURM_LOCALID=3 SLURM_NODEID=1 SLURM_STEP_TASKS_PER_NODE=4(x2)",
                Pmix,
                7,
                Some(8),
                Some(3),
                Some(4),
            ),
            ("PMIX_RANK=7 SLURM_PROCID=7 SLURM_NTASKS=8", Pmix, 7, Some(8), None, None),
            (
                "PMIX_RANK=0 PMIX_NAMESPACE=prterun-n0-1@1 SLURM_PROCID=0 SLURM_NTASKS=1",
                Pmix,
                0,
                None,
                None,
                None,
            ),
            (
                "SLURM_PROCID=4 SLURM_NTASKS=5 SLURM_LOCALID=1 SLURM_NODEID=3 \
                 SLURM_STEP_TASKS_PER_NODE=2(x3),1",
                Slurm,
                4,
                Some(5),
                Some(1),
                Some(1),
            ),
            (
                "PMI_RANK=4 PMI_SIZE=5 SLURM_PROCID=4 SLURM_NTASKS=5 SLURM_LOCALID=1",
                Pmi,
                4,
                Some(5),
                Some(1),
                None,
            ),
            ("PMI_RANK=0 PMI_SIZE=4 SLURM_PROCID=0 SLURM_NTASKS=1", Pmi, 0, Some(4), None, None),
            (
                "FLUX_TASK_RANK=1 FLUX_JOB_SIZE=2 FLUX_TASK_LOCAL_ID=1 PMI_RANK=1 PMI_SIZE=2",
                Pmi,
                1,
                Some(2),
                Some(1),
                None,
            ),
            ("FLUX_TASK_RANK=6 FLUX_JOB_SIZE=8 SLURM_PROCID=0", Flux, 6, Some(8), None, None),
            ("OMPI_COMM_WORLD_RANK= PMI_RANK=1 PMI_SIZE=x", Pmi, 1, None, None, None),
        ] {
            let expected = Place { source, rank, size, local_rank, local_size };
            assert_eq!(place(environ), Some(expected), "{environ}");
        }
        for environ in ["", "RANK=1", "PMI_RANK=-1", "PMI_SIZE=4"] {
            assert_eq!(place(environ), None, "{environ}");
        }
    }

    #[test]
    fn hosts_by_the_launchers_name() {
        for (environ, host) in [
            ("OMPI_COMM_WORLD_RANK=0 PMIX_HOSTNAME=w1.job", Some("w1.job")),
            ("PMI_RANK=0 PMI_HOSTNAME=w2", Some("w2")),
            ("PMI_RANK=0 HYDRA_BSTRAP_LOCALHOST=w3", Some("w3")),
            ("PMI_RANK=0 PMIX_HOSTNAME=leaked", None),
            ("PMI_RANK=0 PMI_HOSTNAME=localhost", None),
            ("SLURM_PROCID=0 SLURMD_NODENAME=n4", Some("n4")),
            ("PMIX_RANK=1 SLURM_PROCID=1 SLURMD_NODENAME=n5", Some("n5")),
            ("PMI_RANK=1 PMI_SIZE=2 SLURM_PROCID=1 SLURM_NTASKS=2 SLURMD_NODENAME=n6", Some("n6")),
            ("PMI_RANK=1 PMI_SIZE=2 SLURM_PROCID=0 SLURM_NTASKS=2 SLURMD_NODENAME=n7", None),
        ] {
            let environ = environ.replace(' ', "\0");
            let found = Place::host(|name| variable(environ.as_bytes(), name));
            assert_eq!(found, host, "{environ}");
        }
    }

    #[test]
    fn jobs_by_the_number_of_whoever_started_the_rank() {
        for (environ, job) in [
            ("FLUX_TASK_RANK=1 FLUX_JOB_ID=f2 SLURM_JOB_ID=9", Some("f2")),
            ("PALS_RANKID=1 PALS_APID=a SLURM_JOB_ID=9", Some("a")),
            (
                "PMI_RANK=1 PMI_SIZE=2 FLUX_TASK_RANK=1 FLUX_JOB_SIZE=2 FLUX_JOB_ID=f SLURM_JOB_ID=9",
                Some("f"),
            ),
            ("OMPI_COMM_WORLD_RANK=1 PMIX_NAMESPACE=prterun-1 SLURM_JOB_ID=9", Some("9")),
            ("OMPI_COMM_WORLD_RANK=1 PMIX_NAMESPACE=prterun-1 SLURM_JOB_ID=", Some("prterun-1")),
            ("PMI_RANK=1", None),
        ] {
            let environ = environ.replace(' ', "\0");
            let found = Place::job(|name| variable(environ.as_bytes(), name));
            assert_eq!(found, job, "{environ}");
        }
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = include_str!("../../docs/rank-variables.md");
        let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
        let cells = |row: &str| -> Vec<String> {
            row.trim_matches('|').split('|').skip(1).map(|cell| cell.trim().to_owned()).collect()
        };
        let code = |name: &str| format!("`{name}`");
        let optional = |name: Option<&str>| name.map(code).unwrap_or_default();
        let expected = TABLE.map(|names| {
            let local_size = match names.source {
                Source::Slurm => "by `SLURM_NODEID` in `SLURM_STEP_TASKS_PER_NODE`".to_owned(),
                _ => optional(names.local_size),
            };
            let hosts: Vec<String> = names.host.iter().map(|name| code(name)).collect();
            let host = hosts.join(", ");
            vec![
                code(names.rank),
                optional(names.size),
                optional(names.local_rank),
                local_size,
                host,
                optional(names.job),
            ]
        });
        assert_eq!(rows.map(cells).collect::<Vec<_>>(), expected);
        let jobs = BATCH_JOBS.map(code).join(", ");
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(&format!("{jobs} of the batch job")));
    }

    #[test]
    fn tasks_by_node() {
        for (counts, node, tasks) in [
            ("4", 0, Some(4)),
            ("2(x3),1", 2, Some(2)),
            ("2(x3),1", 3, Some(1)),
            ("2(x3),1", 4, None),
            ("2(3)", 0, None),
            ("2(x3", 0, None),
        ] {
            assert_eq!(tasks_on(counts, node), tasks, "{counts} {node}");
        }
    }

    fn ranks(processes: &[(i32, i32, &str, &str)]) -> Vec<(u32, i32)> {
        let tree =
            processes.iter().map(|(pid, parent, comm, _)| process(*pid, *parent, *pid, comm));
        let found = find(&tree.collect(), 10, |pid| {
            let (.., environ) = processes.iter().find(|(found, ..)| *found == pid)?;
            (*environ != "unreadable").then(|| environ.replace(' ', "\0").into_bytes())
        });
        found.into_iter().map(|rank| (rank.place.rank, rank.pid)).collect()
    }

    #[test]
    fn only_the_first_of_a_line_counts() {
        for (what, processes, found) in [
            (
                "children inherit",
                &[
                    (11, 10, "orted", ""),
                    (12, 11, "sh", "PMIX_RANK=1 OMPI_COMM_WORLD_RANK=1"),
                    (13, 12, "train", "OMPI_COMM_WORLD_RANK=1"),
                    (14, 11, "train", "OMPI_COMM_WORLD_RANK=0"),
                    (15, 14, "env -i", ""),
                    (16, 15, "loader", "OMPI_COMM_WORLD_RANK=0"),
                ][..],
                vec![(0, 14), (1, 12)],
            ),
            (
                "daemons never count, and start the line anew",
                &[
                    (11, 10, "sh", ""),
                    (12, 11, "hydra_bstrap_pr", "PMI_RANK=0"),
                    (13, 12, "hydra_pmi_proxy", "PMI_RANK=0"),
                    (14, 13, "train", "PMI_RANK=0"),
                ],
                vec![(0, 14)],
            ),
            (
                "Slurm's variables leak",
                &[
                    (11, 10, "sh", "SLURM_PROCID=0"),
                    (12, 11, "mpirun.openmpi", "SLURM_PROCID=0"),
                    (13, 12, "train", "SLURM_PROCID=0 PMIX_RANK=4"),
                ],
                vec![(4, 13)],
            ),
            (
                "Slurm alone",
                &[(11, 10, "slurmstepd", ""), (12, 11, "train", "SLURM_PROCID=2")],
                vec![(2, 12)],
            ),
            (
                "unreadable, and not below the root",
                &[
                    (11, 10, "a", "unreadable"),
                    (12, 11, "b", "PMI_RANK=1"),
                    (20, 1, "c", "PMI_RANK=2"),
                ],
                vec![(1, 12)],
            ),
        ] {
            assert_eq!(ranks(processes), found, "{what}");
        }
    }
}
