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
    /// Hydra: MPICH and Intel MPI (`PMI_RANK`).
    Pmi,
    /// Slurm's own tasks (`SLURM_PROCID`).
    Slurm,
}

/// The variables of one source: its rank, size and local rank.
struct Names {
    source: Source,
    rank: &'static str,
    size: Option<&'static str>,
    local_rank: Option<&'static str>,
}

const fn names(
    source: Source,
    rank: &'static str,
    size: Option<&'static str>,
    local_rank: Option<&'static str>,
) -> Names {
    Names { source, rank, size, local_rank }
}

/// In this order; Slurm last, because its variables leak through mpirun.
const TABLE: [Names; 6] = [
    names(
        Source::OpenMpi,
        "OMPI_COMM_WORLD_RANK",
        Some("OMPI_COMM_WORLD_SIZE"),
        Some("OMPI_COMM_WORLD_LOCAL_RANK"),
    ),
    names(
        Source::Mvapich2,
        "MV2_COMM_WORLD_RANK",
        Some("MV2_COMM_WORLD_SIZE"),
        Some("MV2_COMM_WORLD_LOCAL_RANK"),
    ),
    names(Source::Pals, "PALS_RANKID", Some("PMI_SIZE"), Some("PALS_LOCAL_RANKID")),
    names(Source::Pmix, "PMIX_RANK", None, None),
    names(Source::Pmi, "PMI_RANK", Some("PMI_SIZE"), Some("MPI_LOCALRANKID")),
    names(Source::Slurm, "SLURM_PROCID", Some("SLURM_NTASKS"), Some("SLURM_LOCALID")),
];

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
}

impl Place {
    /// Reads it from variables that `lookup` finds.
    #[must_use]
    pub fn find<'a>(lookup: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let number = |name: &str| std::str::from_utf8(lookup(name)?).ok()?.parse::<u32>().ok();
        TABLE.iter().find_map(|names| {
            Some(Self {
                source: names.source,
                rank: number(names.rank)?,
                size: names.size.and_then(number),
                local_rank: names.local_rank.and_then(number),
            })
        })
    }
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
        use Source::{Mvapich2, OpenMpi, Pals, Pmi, Pmix, Slurm};
        for (environ, source, rank, size, local_rank) in [
            (
                "OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=6 OMPI_COMM_WORLD_LOCAL_RANK=1 PMIX_RANK=3 SLURM_PROCID=0",
                OpenMpi,
                3,
                Some(6),
                Some(1),
            ),
            ("PMI_RANK=5 PMI_SIZE=8 MPI_LOCALRANKID=2", Pmi, 5, Some(8), Some(2)),
            (
                "MV2_COMM_WORLD_RANK=1 MV2_COMM_WORLD_SIZE=2 MV2_COMM_WORLD_LOCAL_RANK=0 PMI_RANK=1",
                Mvapich2,
                1,
                Some(2),
                Some(0),
            ),
            ("PALS_RANKID=7 PMI_SIZE=9 PALS_LOCAL_RANKID=3 PMI_RANK=7", Pals, 7, Some(9), Some(3)),
            ("PMIX_RANK=2 SLURM_PROCID=9", Pmix, 2, None, None),
            ("SLURM_PROCID=4 SLURM_NTASKS=5 SLURM_LOCALID=1", Slurm, 4, Some(5), Some(1)),
            ("OMPI_COMM_WORLD_RANK= PMI_RANK=1 PMI_SIZE=x", Pmi, 1, None, None),
        ] {
            assert_eq!(place(environ), Some(Place { source, rank, size, local_rank }), "{environ}");
        }
        for environ in ["", "RANK=1", "PMI_RANK=-1", "PMI_SIZE=4"] {
            assert_eq!(place(environ), None, "{environ}");
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
