//! Claim: who waits costs next to nothing: a worker without a job and within one, a launcher, an agent.
//!
//! Must not measure work: the ranks sleep.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use lab::{Cmd, Host, Install, ProcessInfo, Signal};

use crate::rivals::Ssh;
use crate::sample::{Cost, costs};
use crate::site::Site;
use crate::{Common, Result};

/// Flags of `bench idle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How long to look, seconds; in a job after as long again, since looks at new ranks begin fast
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Workers
    #[arg(long)]
    pub(crate) hosts: Option<usize>,
}

/// For all ranks to run, or to be gone.
const SOON: Duration = Duration::from_secs(60);

/// What the ranks do.
const RANK: [&str; 2] = ["sleep", "1000"];

/// Measures and gives the table.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let quick = args.common.quick;
    let over = Duration::from_secs(args.seconds.unwrap_or(if quick { 2 } else { 60 }));
    let hosts = args.hosts.unwrap_or(if quick { 2 } else { 64 });
    let site = Site::up(&args.common, Install::Mpich5, hosts, 1, &[])?;
    let muster = args.common.muster()?;
    let is = |word: &'static str| {
        let start = format!("{muster} {word}");
        move |info: &ProcessInfo| info.cmdline.starts_with(&start)
    };
    let (worker, launch) = (is("worker"), is("launch"));
    // The name that muster has as Hydra's agent.
    let rsh = |info: &ProcessInfo| {
        info.cmdline.split(' ').next().is_some_and(|program| program.ends_with("/rsh"))
    };
    let sshd = |info: &ProcessInfo| info.cmdline.starts_with("sshd: ");
    // Of the two that listen, the fastest.
    let listener = |info: &ProcessInfo| {
        info.cmdline.starts_with("sshd: ") && info.cmdline.contains("Port=22 ")
    };
    let ssh = |info: &ProcessInfo| info.cmdline.starts_with("/usr/bin/ssh ");

    let mut text = String::new();
    writeln!(
        text,
        "| who waits | resident KiB | of it files | its share | private | wake-ups / min | CPU ms / min | CPU s / day |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    let mut row = |name: &str, cost: Cost| {
        let count = cost.processes as u64;
        writeln!(
            text,
            "| {name} ({count}) | {} | {} | {} | {} | {:.1} | {:.2} | {:.1} |",
            cost.resident,
            cost.files,
            cost.share,
            cost.private,
            cost.wakeups,
            cost.cpu,
            cost.cpu * 1.44
        )
    };
    let first = [&site.workers[0]];
    let found = costs(&first, &[&worker, &listener], over)?;
    row("`muster worker`, no job", found[0])?;
    row("`sshd`, no job", found[1])?;

    let both = [&site.workers[0], &site.launcher];
    let ranks = hosts.to_string();
    let cmd = Cmd::new(&muster).args(["launch", "-n", &ranks, "--"]).args(RANK);
    let later = |kinds: &[&dyn Fn(&ProcessInfo) -> bool]| {
        thread::sleep(over);
        costs(&both, kinds, over)
    };
    let found = within(&site, cmd, || later(&[&worker, &launch, &rsh]))?;
    row("`muster worker` in a job", found[0])?;
    row(&format!("`muster launch`, {hosts} workers"), found[1])?;
    row("its `muster rsh`, together", found[2])?;

    let line = format!("exec $MPIRUN -n {hosts} {}", RANK.join(" "));
    let cmd = site.mpirun("/usr/bin/ssh", Ssh::Fast.options(), &line);
    let found = within(&site, cmd, || later(&[&sshd, &ssh]))?;
    row("`sshd` in a job, both listeners with it", found[0])?;
    row("mpirun's `ssh`, together", found[1])?;
    Ok(text)
}

/// Looks while the job runs on all hosts.
fn within<T>(site: &Site, job: Cmd, look: impl FnOnce() -> Result<T>) -> Result<T> {
    let rank = RANK.join(" ");
    let running = site.launcher.spawn(job)?;
    let up = |host: &Host| {
        host.wait_for_processes("a rank", SOON, |found| {
            found.iter().any(|info| info.cmdline == rank)
        })
    };
    lab::each(&site.workers, up)?;
    let seen = look();
    running.signal_group(Signal::SIGTERM);
    lab::each(&site.workers, |host| {
        host.kill_matching(&rank, Signal::SIGKILL);
        host.wait_until_gone(&rank, SOON)
    })?;
    running.wait(SOON)?;
    seen
}
