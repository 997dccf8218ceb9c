//! What a client's process costs, which mpirun starts for each host: time one after the other, memory while it waits.
//!
//! Must not count what the server does: CPU time and memory are those of the client alone.

use std::fmt::Write as _;
use std::time::Duration;

use lab::{Cmd, FileSpec, Install, ProcessInfo, Signal};

use crate::at_once::used;
use crate::measure::{CPU, Turn, WALL, median, ratio, rounds, typical};
use crate::rivals::{DBCLIENT, Ssh};
use crate::sample::costs;
use crate::site::Site;
use crate::{Common, Result, floor};

/// Stands in for an Open MPI that calls its agent.
const MPIRUN: &str = "#!/bin/sh
case $1 in --version) echo 'mpirun (Open MPI) 4.1.4'; exit;; esac
eval \"$WITHIN\"
";

/// No turn takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// What the host runs while the client's memory is looked at.
const WAITING: &str = "sleep 1000";

struct Client {
    name: &'static str,
    /// Before the host's name.
    words: String,
    /// Whether it runs within a launch, whose connections it uses.
    kept: bool,
}

/// Adds the table.
pub(super) fn measure(common: &Common, text: &mut String) -> Result<()> {
    let mpirun = FileSpec::new("/etc/bench/mpirun", MPIRUN).mode(0o755);
    let site = Site::up(common, Install::OpenMpi4, 1, 1, &[mpirun])?;
    site.start_floor()?;
    site.start_dropbear()?;
    let muster = common.muster()?;
    let client = |name, words: String, kept| Client { name, words, kept };
    let clients = [
        client("`muster rsh HOST true`, kept connection", format!("{muster} rsh -n"), true),
        client("`muster rsh HOST true`, its own", format!("{muster} rsh -n"), false),
        client("`ssh HOST true`", format!("/usr/bin/ssh {}", Ssh::Fast.options()), false),
        client("`dbclient HOST true`", DBCLIENT.to_owned(), false),
        client("an agent that costs nothing", format!("/etc/bench/{}", floor::AGENT), false),
    ];
    let times = if common.quick { 2 } else { 50 };
    let turns = rounds(&clients, common.rounds(7), |client| client.turn(&site, times))?;
    writeln!(text, "| client | ms | times muster's | CPU ms | private KiB, waiting |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    for (client, own) in clients.iter().zip(&turns) {
        let held = (0..3).map(|_| client.private(&site)).collect::<Result<Vec<_>>>()?;
        writeln!(
            text,
            "| {} | {:.2} | {:.1} | {:.2} | {:.0} |",
            client.name,
            typical(own, WALL) * 1e3,
            ratio(own, &turns[0], WALL),
            typical(own, CPU) * 1e3,
            median(held),
        )?;
    }
    Ok(())
}

impl Client {
    fn cmd(&self, site: &Site, line: &str) -> Cmd {
        if !self.kept {
            return site.bare(line);
        }
        // The launch fails in the end, because no rank ran anywhere.
        site.bare("$MUSTER launch -- /etc/bench/mpirun x || :").env("WITHIN", line)
    }

    /// One process, by the mean of several one after the other.
    fn turn(&self, site: &Site, times: usize) -> Result<Turn> {
        let host = site.workers[0].full_name();
        let line = format!("$BENCH at-once --times {times} -- {} {host} true", self.words);
        let output = site.launcher.run(self.cmd(site, &line), LIMIT)?;
        // Of the commands, not of the launch around them.
        let failed = output.stderr.lines().any(|line| line.starts_with("Error:"));
        let used = used(&output.stderr).filter(|_| !failed);
        let used = used.ok_or_else(|| format!("{}: {output:?}", self.name))?;
        Ok(Turn { wall: used.wall / times as f64, cpu: used.cpu / times as f64 })
    }

    /// KiB that would be free without it.
    fn private(&self, site: &Site) -> Result<f64> {
        let worker = &site.workers[0];
        let line = format!("{} {} {WAITING}", self.words, worker.full_name());
        let running = site.launcher.spawn(self.cmd(site, &line))?;
        let runs = |all: &[ProcessInfo]| all.iter().any(|one| one.cmdline == WAITING);
        worker
            .wait_for_processes(WAITING, LIMIT, runs)
            .map_err(|error| format!("{}: {error}; {:?}", self.name, running.tail()))?;
        let is = |info: &ProcessInfo| info.cmdline == line;
        let found = costs(&[&site.launcher], &[&is], Duration::from_millis(100));
        worker.kill_matching(WAITING, Signal::SIGKILL);
        running.wait(LIMIT)?;
        match found?[0] {
            cost if cost.processes == 1 => Ok(cost.private as f64),
            cost => Err(format!("{}: {} processes, not one", self.name, cost.processes).into()),
        }
    }
}
