//! Claim: `mpirun -n N hostname` under `muster launch` takes little more than with an agent that costs nothing.
//!
//! Must not measure a job: the ranks end at once.

use std::fmt::Write as _;
use std::time::Duration;

use lab::{FileSpec, Install};

use crate::at_once::ELAPSED;
use crate::measure::{CPU, Turn, WALL, ended, ratio, rounds, typical};
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

/// The path of what [`timed`] makes.
const MPIRUN: &str = "/etc/bench/mpirun";

/// What all ways call, so that all call mpirun by the same path (Open MPI 4 does more with an absolute one): it says
/// how long mpirun has taken. It has to name the real one: muster puts the directory of the mpirun that it is
/// given first on PATH.
fn timed(install: Install) -> FileSpec {
    let mpirun = install.mpirun().display().to_string();
    let script = format!(
        "#!/bin/sh\ncase $1 in *ersion) exec {mpirun} \"$@\";; esac\n\
         exec $BENCH at-once -- {mpirun} \"$@\"\n"
    );
    FileSpec::new(MPIRUN, script).mode(0o755)
}

/// What the ranks run, and for how many seconds they sleep in it, which are taken off the time.
struct Program {
    words: &'static str,
    asleep: f64,
}

/// Ends a little later than it began; a file, because quotes would have to pass two shells.
const LASTING: &str = "#!/bin/sh\nhostname\nexec sleep .5\n";

impl Program {
    /// Open MPI 5 often never ends with a program as short as `hostname` on many hosts, whatever starts it.
    fn of(install: Install) -> Self {
        match install {
            Install::OpenMpi5 => Self { words: "/etc/bench/rank", asleep: 0.5 },
            _ => Self { words: "hostname", asleep: 0.0 },
        }
    }

    /// The first column of a row.
    fn label(&self, install: Install) -> String {
        match self.asleep {
            0.0 => install.name().to_owned(),
            asleep => format!("{}, less the {asleep} s that its ranks sleep", install.name()),
        }
    }
}

/// Who starts the daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
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

    /// The last four columns of its row: times as the floor and as a launch, where those ended in the same rounds.
    fn cells(self, own: &[Turn], hung: usize, floor: Option<f64>, launch: Option<f64>) -> String {
        let cell = |times: Option<f64>, show: fn(f64) -> String| match times {
            // Zero: of one that never ended.
            None | Some(0.0) => String::new(),
            Some(times) => show(times),
        };
        let hung = if hung > 0 {
            format!(" ({hung} of {} never ended)", own.len())
        } else {
            String::new()
        };
        let cpu = match self {
            // Its share of the launch's is not known.
            Self::Kept => String::new(),
            _ => format!("{:.2}", typical(own, CPU)),
        };
        format!(
            "{:.3}{hung} | {} | {} | {cpu}",
            typical(own, WALL),
            cell(floor, |times| format!("{:.0} %", times * 100.0)),
            cell(launch, |times| format!("{times:.1}")),
        )
    }

    pub(crate) fn turn(self, site: &Site, hosts: usize) -> Result<Turn> {
        let program = Program::of(site.install);
        let run = format!("-n {hosts} {}", program.words);
        let cmd = match self {
            Self::Floor => site.mpirun_on_floor(&format!("exec $MPIRUN {run}")),
            Self::Kept | Self::Launch => site.line(&format!("$MUSTER launch -- {MPIRUN} {run}")),
            Self::Openssh(ssh) => {
                site.mpirun("/usr/bin/ssh", ssh.options(), &format!("exec $MPIRUN {run}"))
            }
        };
        let cmd = site.on_first(hosts, cmd);
        let Some((mut turn, output)) = site.try_turn(&cmd, LIMIT, ATTEMPTS)? else {
            return Ok(Turn::NEVER);
        };
        let ran = output.stdout.matches("pi-worker-").count();
        // A tagged line has the name twice.
        if ran != hosts && ran != 2 * hosts {
            return Err(format!("{}: {} of {hosts} ran: {output:?}", self.name(), ran).into());
        }
        if self != Self::Launch {
            let inner = output.stderr.lines().find_map(|line| line.strip_prefix(ELAPSED));
            turn.wall = inner.ok_or("no time was told")?.parse()?;
        }
        turn.wall -= program.asleep;
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
    let head = "| MPI | hosts | started by | s | of the floor | times `muster launch` | CPU s |";
    writeln!(text, "{head}\n|---|---|---|---|---|---|---|")?;
    let mut panels = Vec::new();
    let ways: Vec<_> = Way::ALL.into_iter().filter(|way| way.name().contains(&args.only)).collect();
    for install in wanted(&args.mpi) {
        let label = Program::of(install).label(install);
        let curve = |way: &Way| Curve { name: way.name().replace('`', ""), points: Vec::new() };
        let mut curves: Vec<_> = ways.iter().map(curve).collect();
        let site = up(&args.common, install, most)?;
        for &hosts in &counts {
            let turns = rounds(&ways, args.common.rounds(5), |way| way.turn(&site, hosts))?;
            for ((way, own), curve) in ways.iter().zip(&turns).zip(&mut curves) {
                let name = way.name();
                let cells = match ended(own) {
                    0 => format!("never within {} s, {} times | | | ", LIMIT.as_secs(), own.len()),
                    count => {
                        curve.points.push((hosts as f64, typical(own, WALL)));
                        let against = |other| ways.iter().position(|way| *way == other);
                        let times = |other| Some(ratio(own, &turns[against(other)?], WALL));
                        way.cells(own, own.len() - count, times(Way::Floor), times(Way::Launch))
                    }
                };
                writeln!(text, "| {label} | {hosts} | {name} | {cells} |")?;
            }
        }
        if site.hung.get() > 0 {
            eprintln!("{}: {} turns hung and were repeated", install.name(), site.hung.get());
        }
        panels.push(Panel { title: format!("{label}: mpirun hostname"), curves });
    }
    if let Some(file) = args.common.beside("launch.svg") {
        draw(&file, ("hosts", "seconds"), &panels)?;
    }
    Ok(text)
}

/// The installs of these names; all where none is named.
pub(crate) fn wanted(names: &[String]) -> impl Iterator<Item = Install> {
    let named =
        |install: &Install| names.is_empty() || names.iter().any(|name| name == install.name());
    INSTALLS.into_iter().filter(named)
}

/// Hosts with the floor's servers, and with what [`Way::turn`] runs on them.
pub(crate) fn up(common: &Common, install: Install, hosts: usize) -> Result<Site> {
    let rank = FileSpec::new("/etc/bench/rank", LASTING).mode(0o755);
    let site = Site::up(common, install, hosts, 1, &[timed(install), rank])?;
    site.start_floor()?;
    Ok(site.with_mpirun(MPIRUN))
}
