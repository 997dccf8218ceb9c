//! Claim: `mpirun -n N hostname` under `muster launch` takes little more than with an agent that costs nothing.
//!
//! Must not measure a job: the ranks end at once.

use std::fmt::Write as _;
use std::time::Duration;

use lab::{FileSpec, Install};

use crate::at_once::ELAPSED;
use crate::measure::{Turn, ratio, rounds, typical};
use crate::plot::{Curve, Panel, draw};
use crate::rivals::Ssh;
use crate::site::Site;
use crate::{Common, Result};

/// Flags of `bench launch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Numbers of hosts [default: 4,16,32,64]
    #[arg(long, value_delimiter = ',')]
    pub(crate) hosts: Vec<usize>,
    /// Only these MPIs, by the names of their installs (openmpi4, openmpi5, mpich5, intelmpi)
    #[arg(long, value_delimiter = ',')]
    pub(crate) mpi: Vec<String>,
    /// Only contenders in whose name this is, the floor's among them: for a profiler
    #[arg(long, default_value = "")]
    pub(crate) only: String,
}

const INSTALLS: [Install; 4] =
    [Install::OpenMpi4, Install::OpenMpi5, Install::Mpich5, Install::IntelMpi];

/// An mpirun that says how long it has taken. It has to name the real one: muster puts the directory of the
/// mpirun that it is given first on PATH.
fn timed(install: Install) -> FileSpec {
    let mpirun = install.mpirun().display().to_string();
    let script = format!(
        "#!/bin/sh\ncase $1 in *ersion) exec {mpirun} \"$@\";; esac\n\
         exec $BENCH at-once -- {mpirun} \"$@\"\n"
    );
    FileSpec::new("/etc/bench/mpirun", script).mode(0o755)
}

/// Who starts the daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Floor,
    /// mpirun's own time within a launch, whose connections are there already.
    Kept,
    /// From `muster launch` to its end.
    Launch,
    Openssh(Ssh),
}

/// Several times what the slowest turn takes with 64 hosts.
const LIMIT: Duration = Duration::from_secs(25);

/// Turns of which each may hang before a row says so.
const ATTEMPTS: usize = 2;

/// A turn that hung each time, as Open MPI 5 does with a program as short as `hostname`, whatever starts it.
const NEVER: Turn = Turn { wall: f64::INFINITY, cpu: f64::NAN };

impl Way {
    const ALL: [Self; 5] = [
        Self::Floor,
        Self::Kept,
        Self::Launch,
        Self::Openssh(Ssh::Fast),
        Self::Openssh(Ssh::Stock),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Floor => "an agent that costs nothing",
            Self::Kept => "mpirun within `muster launch`",
            Self::Launch => "all of `muster launch`",
            Self::Openssh(ssh) => ssh.name(),
        }
    }

    fn turn(self, site: &Site, hosts: usize) -> Result<Turn> {
        let run = format!("exec $MPIRUN -n {hosts} hostname");
        let cmd = match self {
            Self::Floor => site.mpirun_on_floor(&run),
            Self::Kept | Self::Launch => {
                site.line(&format!("$MUSTER launch -- /etc/bench/mpirun -n {hosts} hostname"))
            }
            Self::Openssh(ssh) => site.mpirun("/usr/bin/ssh", ssh.options(), &run),
        };
        let cmd = site.on_first(hosts, cmd);
        let Some((mut turn, output)) = site.try_turn(&cmd, LIMIT, ATTEMPTS)? else {
            return Ok(NEVER);
        };
        let ran = output.stdout.matches("pi-worker-").count();
        // A tagged line has the name twice.
        if ran != hosts && ran != 2 * hosts {
            return Err(format!("{}: {} of {hosts} ran: {output:?}", self.name(), ran).into());
        }
        if self == Self::Kept {
            let inner = output.stderr.lines().find_map(|line| line.strip_prefix(ELAPSED));
            turn.wall = inner.ok_or("no time was told")?.parse()?;
        }
        let (name, install) = (self.name(), site.install.name());
        eprintln!("{install}: {hosts} hosts: {name}: {:.3} s, {:.2} s CPU", turn.wall, turn.cpu);
        Ok(turn)
    }
}

/// Measures and gives the table.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let mut counts = args.hosts.clone();
    if counts.is_empty() {
        counts = if args.common.quick { vec![2] } else { vec![4, 16, 32, 64] };
    }
    let most = counts.iter().copied().max().unwrap_or(1);
    let mut text = String::new();
    writeln!(
        text,
        "| MPI | hosts | started by | s | of the floor | times `muster launch` | CPU s |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    let mut panels = Vec::new();
    let wanted =
        |install: &Install| args.mpi.is_empty() || args.mpi.iter().any(|mpi| mpi == install.name());
    let ways: Vec<_> = Way::ALL.into_iter().filter(|way| way.name().contains(&args.only)).collect();
    for install in INSTALLS.into_iter().filter(wanted) {
        let curve = |way: &Way| Curve { name: way.name().replace('`', ""), points: Vec::new() };
        let mut curves: Vec<_> = ways.iter().map(curve).collect();
        let site = Site::up(&args.common, install, most, 1, &[timed(install)])?;
        site.start_floor()?;
        for &hosts in &counts {
            let turns = rounds(&ways, args.common.rounds(5), |way| way.turn(&site, hosts))?;
            let wall = |turn: &Turn| turn.wall;
            let against = |other: Way, own: &[Turn]| {
                let at = ways.iter().position(|way| *way == other)?;
                Some(ratio(own, &turns[at], wall))
            };
            for ((way, own), curve) in ways.iter().zip(&turns).zip(&mut curves) {
                if typical(own, wall).is_infinite() {
                    let limit = LIMIT.as_secs();
                    let never = format!("never within {limit} s, {ATTEMPTS} times");
                    writeln!(
                        text,
                        "| {} | {hosts} | {} | {never} | | | |",
                        install.name(),
                        way.name()
                    )?;
                    continue;
                }
                curve.points.push((hosts as f64, typical(own, wall)));
                let of_floor = match against(Way::Floor, own) {
                    // Zero: of a floor that never ended.
                    None | Some(0.0) => String::new(),
                    Some(times) => format!("{:.0} %", times * 100.0),
                };
                let of_launch = against(Way::Launch, own);
                writeln!(
                    text,
                    "| {} | {hosts} | {} | {:.3} | {of_floor} | {} | {:.2} |",
                    install.name(),
                    way.name(),
                    typical(own, wall),
                    of_launch.map_or_else(String::new, |times| format!("{times:.1}")),
                    typical(own, |turn| turn.cpu),
                )?;
            }
        }
        if site.hung.get() > 0 {
            eprintln!("{}: {} turns hung and were repeated", install.name(), site.hung.get());
        }
        panels.push(Panel { title: format!("{}: mpirun hostname", install.name()), curves });
    }
    if let Some(file) = args.common.beside("launch.svg") {
        draw(&file, ("hosts", "seconds"), &panels)?;
    }
    Ok(text)
}
