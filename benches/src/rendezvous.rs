//! Claim: a launcher brings thousands of workers to ready with little CPU time and memory, both linear in
//! their number.
//!
//! One `muster worker` answers for all of them: every address of a network leads to it. Must not count what
//! it costs, only what the launcher does.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use lab::{Cmd, FileSpec, Host, Install, Lab, MpiJob};

use crate::at_once::{Used, used};
use crate::measure::median;
use crate::plot::{Curve, Panel, draw};
use crate::{Common, Result, own_path};

/// Flags of `bench rendezvous`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Numbers of workers [default: 1,250,1000,2000,4000]
    #[arg(long, value_delimiter = ',')]
    pub(crate) workers: Vec<usize>,
}

/// No turn takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// The network that leads to the worker.
const NETWORK: &str = "10.99.0.0/16";

/// An Open MPI that has nothing to do.
const MPIRUN: &str = "#!/bin/sh
case $1 in --version) echo 'mpirun (Open MPI) 4.1.4';; esac
";

/// The name of the hostfile with so many addresses of [`NETWORK`].
fn hostfile(workers: usize) -> String {
    format!("/etc/bench/crowd-{workers}")
}

fn crowd(workers: usize) -> FileSpec {
    let line = |index: usize| format!("10.99.{}.{} slots=1\n", index / 250, index % 250 + 1);
    FileSpec::new(hostfile(workers), (0..workers).map(line).collect::<String>())
}

fn route(host: &Host, words: &[&str]) -> Result<()> {
    let run = || Command::new("ip").args(["route", "add"]).args(words).output();
    let output = host.in_network(run)??;
    if output.status.success() { Ok(()) } else { Err(format!("{words:?}: {output:?}").into()) }
}

/// A launcher, and a worker at all the addresses of [`NETWORK`].
pub(crate) struct Crowd {
    launcher: Host,
    muster: String,
    // Last: the hosts end with it.
    _lab: Lab,
}

impl Crowd {
    /// Brings both up, with a hostfile for each of these numbers of workers.
    pub(crate) fn up(common: &Common, counts: &[usize]) -> Result<Self> {
        let muster = common.muster()?;
        let job = MpiJob::new("pi", Install::OpenMpi4, 1)?;
        let lab = Lab::new()?;
        let worker = lab.add(job.worker(0))?;
        let server = worker.boot(Cmd::new(muster.as_str()).arg("worker"))?;
        server.wait_for_line("READY", LIMIT)?;
        let files = counts.iter().map(|count| crowd(*count));
        let mpirun = FileSpec::new("/etc/bench/mpirun", MPIRUN).mode(0o755);
        let launcher = lab.boot_idle([job.launcher().file(mpirun).files(files)])?.remove(0);
        route(&worker, &["local", NETWORK, "dev", "lo"])?;
        route(&launcher, &[NETWORK, "via", &worker.address().to_string()])?;
        Ok(Self { launcher, muster, _lab: lab })
    }

    /// A launch with so many workers, to its end.
    pub(crate) fn turn(&self, workers: usize) -> Result<Used> {
        let hostfile = hostfile(workers);
        let line = format!("exec $MUSTER launch --hostfile {hostfile} -- /etc/bench/mpirun");
        let cmd = Cmd::new(own_path()).args(["at-once", "--", "sh", "-c", &line]);
        let output = self.launcher.run(cmd.env("MUSTER", self.muster.as_str()), LIMIT)?;
        let ready = format!("{workers}/{workers} workers ready");
        if !output.stderr.contains(&ready) {
            return Err(format!("not {ready}: {output:?}").into());
        }
        let used = used(&output.stderr).ok_or("nothing was told of its costs")?;
        eprintln!("{workers} workers: {used:?}");
        Ok(used)
    }
}

/// Measures and gives the table; draws the curve where the table is recorded.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let mut counts = args.workers.clone();
    if counts.is_empty() {
        counts = if args.common.quick { vec![1, 50] } else { vec![1, 250, 1000, 2000, 4000] };
    }
    let crowd = Crowd::up(&args.common, &counts)?;

    let mut text = String::new();
    writeln!(text, "| workers | s | launcher's CPU s | CPU ms a worker | launcher's memory, MB |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    let (mut cpus, mut memories) = (Vec::new(), Vec::new());
    for count in counts {
        let turns = 0..args.common.rounds(3).count;
        let turns = turns.map(|_| crowd.turn(count)).collect::<Result<Vec<_>>>()?;
        let wall = median(turns.iter().map(|used| used.wall).collect());
        let cpu = median(turns.iter().map(|used| used.cpu).collect());
        let memory = median(turns.iter().map(|used| used.memory).collect()) / 1e6;
        let each = cpu * 1e3 / count as f64;
        writeln!(text, "| {count} | {wall:.2} | {cpu:.2} | {each:.2} | {memory:.0} |")?;
        cpus.push((count as f64, cpu));
        memories.push((count as f64, memory));
    }
    if let Some(file) = args.common.beside("rendezvous.svg") {
        let curve = |name: &str, points| Curve { name: name.to_owned(), points };
        let panel = |title: &str, curve| Panel { title: title.to_owned(), curves: vec![curve] };
        let panels = [
            panel("CPU time of the launcher", curve("seconds", cpus)),
            panel("Memory of the launcher", curve("MB", memories)),
        ];
        draw(&file, ("workers", "seconds, MB"), &panels)?;
    }
    Ok(text)
}
