//! Ranks of the MPI libraries that this machine has; where it has none, the lab proves it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use muster::process::end::end;
use muster::process::ranks::running;
use muster::process::reaper::Reaper;
use muster::process::scope::Scope;
use muster::process::spawn::spawn;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::children::run;
use crate::harness::Case;

pub(crate) const CASES: &[Case] = &[
    ("ranks_of_open_mpi", || run(found("mpirun.openmpi"))),
    ("ranks_of_mpich", || run(found("mpiexec.mpich"))),
];

async fn found(mpirun: &str) {
    let reaper = Reaper::start().unwrap();
    let mut command = Command::new(mpirun);
    command.args(["-n", "2", "sh", "-c", "echo up; sleep 1000 & wait"]);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let Ok(mut child) = spawn(&reaper, command) else {
        return println!("{mpirun} is not installed here");
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("up"));
    }
    let us = i32::try_from(std::process::id()).unwrap();
    let ranks = running(Path::new("/proc"), us).unwrap();
    let seen: Vec<_> = ranks
        .iter()
        .map(|rank| {
            (rank.place.rank, rank.place.size, rank.place.local_rank, rank.program.as_str())
        })
        .collect();
    let expected = [(0, Some(2), Some(0), "sh"), (1, Some(2), Some(1), "sh")];
    assert_eq!(seen, expected, "{ranks:?}");
    end(Scope::all_descendants(), Duration::from_secs(5)).await.unwrap();
}
