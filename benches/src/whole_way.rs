//! Claim: lines of a rank reach the launcher's stdout tagged and encrypted ten times as fast as MPI's own tags.
//!
//! Must not measure the wrapper alone; rank-output does.

use std::fmt::Write as _;

use lab::{FileSpec, Install};

use crate::measure::{Turn, ratio, rounds, typical};
use crate::rivals::Ssh;
use crate::site::Site;
use crate::{Common, Result};

/// Flags of `bench whole-way`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Lines of 64 bytes that all ranks together print; where they pass untouched or by muster, six times as many
    #[arg(long)]
    pub(crate) lines: Option<u64>,
    /// Only contenders in whose name this is, `muster` among them: for a profiler
    #[arg(long, default_value = "")]
    pub(crate) only: String,
}

const LENGTH: u64 = 64;
const HOSTS: usize = 4;
const SLOTS: usize = 2;

/// How many times as many lines they get that are so fast that a turn would be too short.
const FAST: u64 = 6;

/// One for each slot.
pub(crate) const RANKS: u64 = (HOSTS * SLOTS) as u64;

/// MPICH's own tags.
pub(crate) const PREPEND_RANK: Way = Way::Mpirun { flag: "-prepend-rank", wrapper: "" };

const TAGGER: &str = "python3 /etc/bench/tagger.py";

/// How lines come to the launcher.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// `muster launch`, which tags them.
    Muster,
    /// mpirun over OpenSSH with this flag, and this program before each rank.
    Mpirun { flag: &'static str, wrapper: &'static str },
}

/// Who brings the lines.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) site: &'a Site,
    pub(crate) way: Way,
}

/// Measures and gives the table.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let lines = args.lines.unwrap_or(if args.common.quick { 80_000 } else { 5_000_000 });
    let up = |install| up(&args.common, install);
    let (o4, m4, m5) = (up(Install::OpenMpi4)?, up(Install::Mpich4)?, up(Install::Mpich5)?);
    let flag = |flag| Way::Mpirun { flag, wrapper: "" };
    let contender = |name, site, way| Contender { name, site, way };
    let mut contenders = vec![
        contender("`muster launch`, Open MPI 4", &o4, Way::Muster),
        contender("Open MPI 4 `--tag-output`", &o4, flag("--tag-output")),
        contender("`muster launch`, MPICH 4", &m4, Way::Muster),
        contender("MPICH 4 `-prepend-rank`", &m4, PREPEND_RANK),
        contender("`muster launch`, MPICH 5", &m5, Way::Muster),
        contender("MPICH 5 `-prepend-rank`", &m5, PREPEND_RANK),
        contender("MPICH 5, 20 lines of Python", &m5, Way::Mpirun { flag: "", wrapper: TAGGER }),
        contender("MPICH 5, untagged", &m5, flag("")),
    ];
    contenders.retain(|contender| contender.name.contains(&args.only));
    let mut text = String::new();
    for ranks in [1, RANKS] {
        let mut starts = vec![Vec::new(); contenders.len()];
        let places: Vec<_> = (0..contenders.len()).collect();
        let turns = rounds(&places, args.common.rounds(5), |&place| {
            let contender = &contenders[place];
            let each = lines * contender.times() / ranks;
            let one = contender.turn(ranks, 1)?;
            let all = contender.turn(ranks, each)?;
            starts[place].push(one);
            Ok(beyond(&all, &one, each * ranks))
        })?;
        for (starts, turns) in starts.iter_mut().zip(&turns) {
            // Without the one that warmed up.
            starts.drain(..starts.len() - turns.len());
        }
        let more = lines * FAST;
        writeln!(
            text,
            "{ranks} ranks, {lines} lines of {LENGTH} bytes, {more} by muster and untagged:\n"
        )?;
        table(&mut text, &contenders, (&starts, &turns))?;
    }
    Ok(text)
}

/// Hosts with what [`Contender::turn`] runs on them.
pub(crate) fn up(common: &Common, install: Install) -> Result<Site> {
    let tagger = FileSpec::new("/etc/bench/tagger.py", include_str!("tagger.py"));
    Site::up(common, install, HOSTS, SLOTS, &[tagger])
}

/// What a million lines cost beyond the start and the end of a job that prints one.
fn beyond(all: &Turn, one: &Turn, lines: u64) -> Turn {
    // A short run on a busy machine may take no longer than that.
    let less = |all: f64, one: f64| (all - one).max(1e-3) / lines as f64 * 1e6;
    Turn { wall: less(all.wall, one.wall), cpu: less(all.cpu, one.cpu) }
}

fn table(
    text: &mut String,
    contenders: &[Contender<'_>],
    (starts, turns): (&[Vec<Turn>], &[Vec<Turn>]),
) -> Result<()> {
    let head = "| contender | start and end, s | lines/s beyond that | muster, times as many |";
    writeln!(text, "{head} CPU s / million lines | times muster's |\n|---|---|---|---|---|---|")?;
    for ((contender, own), start) in contenders.iter().zip(turns).zip(starts) {
        // Against muster with the same mpirun, in the same round.
        let same = |other: &&(&Contender<'_>, &Vec<Turn>)| {
            matches!(other.0.way, Way::Muster) && other.0.site.install == contender.site.install
        };
        let pairs: Vec<_> = contenders.iter().zip(turns).collect();
        let muster = pairs.iter().find(same).ok_or("no muster to compare with")?.1;
        writeln!(
            text,
            "| {} | {:.2} | {:.2} M | {:.1} | {:.2} | {:.1} |",
            contender.name,
            typical(start, |turn| turn.wall),
            1.0 / typical(own, |turn| turn.wall),
            ratio(own, muster, |turn| turn.wall),
            typical(own, |turn| turn.cpu),
            ratio(own, muster, |turn| turn.cpu),
        )?;
    }
    writeln!(text)?;
    Ok(())
}

impl Contender<'_> {
    /// How many times as many lines it gets.
    fn times(&self) -> u64 {
        match self.way {
            Way::Muster | Way::Mpirun { flag: "", wrapper: "" } => FAST,
            Way::Mpirun { .. } => 1,
        }
    }

    /// Each rank prints so many lines; the launcher counts what arrives.
    pub(crate) fn turn(&self, ranks: u64, lines: u64) -> Result<Turn> {
        let program = format!("$BENCH generate {lines} {LENGTH}");
        let cmd = match self.way {
            Way::Muster => {
                self.site.line(&format!("$MUSTER launch -n {ranks} -- {program} | $BENCH count"))
            }
            Way::Mpirun { flag, wrapper } => self.site.mpirun(
                "/usr/bin/ssh",
                Ssh::Fast.options(),
                &format!("$MPIRUN {flag} -n {ranks} {wrapper} {program} | $BENCH count"),
            ),
        };
        let (turn, output) = self.site.turn(&cmd)?;
        let mut counts = output.stdout.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(came)), Some(Ok(bytes))) = (counts.next(), counts.next()) else {
            return Err(format!("{}: {output:?}", self.name).into());
        };
        let untagged = ranks * lines * LENGTH;
        let tagged = !matches!(self.way, Way::Mpirun { flag: "", wrapper: "" });
        // MPICH and Open MPI put tags inside of lines, but they lose none.
        if came != ranks * lines || (bytes > untagged) != tagged {
            return Err(format!("{}: {came} lines, {bytes} bytes", self.name).into());
        }
        eprintln!("{}: {ranks} ranks: {:.2} s, {:.2} s CPU", self.name, turn.wall, turn.cpu);
        Ok(turn)
    }
}
