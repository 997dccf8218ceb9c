//! Claim: to connect to N hosts at once and run a command on each costs a fraction of what OpenSSH takes.
//!
//! Must not count what the command itself does: it is `true`.

use std::fmt::Write as _;
use std::time::Duration;

use lab::{FileSpec, Install};

use crate::at_once::ELAPSED;
use crate::measure::{Turn, ended, ratio, rounds, typical};
use crate::rivals::{DBCLIENT, Ssh};
use crate::site::{SECOND_WORKER, Site};
use crate::{Common, Result, floor};

/// Flags of `bench connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Numbers of hosts [default: 1,16,64,256]
    #[arg(long, value_delimiter = ',')]
    pub(crate) hosts: Vec<usize>,
}

/// Several times what the slowest turn takes with 256 hosts.
const LIMIT: Duration = Duration::from_secs(120);

/// Turns of which each may hang before a row says so.
const ATTEMPTS: usize = 2;

/// Stands in for an Open MPI that has nothing to do but to reach its hosts.
const MPIRUN: &str = "#!/bin/sh
case $1 in --version) echo 'mpirun (Open MPI) 4.1.4'; exit;; esac
exec $BENCH at-once --hosts $HOSTS -- $MUSTER rsh -n {} true
";

/// Its name in the table: what the others are compared with.
pub(crate) const MUSTER: &str = "`muster rsh`, the operator's key";

/// How a host is reached.
pub(crate) struct Contender {
    pub(crate) name: String,
    way: Way,
}

enum Way {
    /// A client a host, with these words before the host's name.
    Client(String),
    /// All connections from one process, which waits for a word on each and runs nothing.
    Wait,
    /// A launch whose mpirun calls `muster rsh` for each host: all of it, or mpirun's part only.
    Launch { whole: bool },
}

/// Measures and gives the table.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let mut counts = args.hosts.clone();
    if counts.is_empty() {
        counts = if args.common.quick { vec![1, 4] } else { vec![1, 16, 64, 256] };
    }
    let most = counts.iter().copied().max().unwrap_or(1);
    let site = up(&args.common, most)?;
    let contenders = contenders();
    let mut text = String::new();
    writeln!(text, "| hosts | contender | ms | times muster's | CPU ms | times muster's |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for hosts in counts {
        let turns = rounds(&contenders, args.common.rounds(7), |one| one.turn(&site, hosts))?;
        for (contender, own) in contenders.iter().zip(&turns) {
            let [wall, cpu] = [|turn: &Turn| turn.wall, |turn: &Turn| turn.cpu];
            let row = |of| (typical(own, of) * 1e3, ratio(own, &turns[0], of));
            let ((wall, walls), (cpu, cpus)) = (row(wall), row(cpu));
            let name = match own.len() - ended(own) {
                0 => contender.name.clone(),
                hung => format!("{} ({hung} of {} never ended)", contender.name, own.len()),
            };
            write!(text, "| {hosts} | {name} | {wall:.1} | {walls:.1} ")?;
            match contender.way {
                // Its share of the launch's CPU time is not known.
                Way::Launch { whole: false } => writeln!(text, "| | |")?,
                _ => writeln!(text, "| {cpu:.0} | {cpus:.1} |")?,
            }
        }
    }
    Ok(text)
}

/// Hosts with every contender's server.
pub(crate) fn up(common: &Common, hosts: usize) -> Result<Site> {
    let mpirun = FileSpec::new("/etc/bench/mpirun", MPIRUN).mode(0o755);
    let site = Site::up(common, Install::OpenMpi4, hosts, 1, &[mpirun])?;
    site.start_dropbear()?;
    site.start_second_worker()?;
    site.start_floor()?;
    Ok(site)
}

/// Who is compared.
pub(crate) fn contenders() -> Vec<Contender> {
    let client = |name: &str, words: &str| Contender {
        name: name.to_owned(),
        way: Way::Client(words.to_owned()),
    };
    let openssh = |ssh: Ssh| client(ssh.name(), &format!("/usr/bin/ssh {}", ssh.options()));
    vec![
        client(MUSTER, "$MUSTER rsh -n"),
        client("`muster rsh`, Ed25519", &format!("$MUSTER rsh -n {}", SECOND_WORKER)),
        openssh(Ssh::Fast),
        openssh(Ssh::Stock),
        client("dropbear", DBCLIENT),
        client("an agent that costs nothing", &format!("/etc/bench/{}", floor::AGENT)),
        Contender {
            name: "`muster wait`: all from one process, no command".to_owned(),
            way: Way::Wait,
        },
        Contender {
            name: "`muster launch` with one `rsh` a host".to_owned(),
            way: Way::Launch { whole: true },
        },
        Contender {
            name: "the `rsh` in it alone, on kept connections".to_owned(),
            way: Way::Launch { whole: false },
        },
    ]
}

impl Contender {
    pub(crate) fn turn(&self, site: &Site, hosts: usize) -> Result<Turn> {
        let line = match &self.way {
            Way::Client(words) => {
                format!("exec $BENCH at-once --hosts {hosts} -- {words} {{}} true")
            }
            Way::Wait => {
                format!("exec $MUSTER wait --hostfile /etc/bench/hostfile-{hosts}")
            }
            // The launch fails in the end, because no rank ran anywhere.
            Way::Launch { .. } => format!(
                "HOSTS={hosts} $MUSTER launch --hostfile /etc/bench/hostfile-{hosts} -- \
                 /etc/bench/mpirun x || :"
            ),
        };
        let Some((mut turn, output)) = site.try_turn(&site.line(&line), LIMIT, ATTEMPTS)? else {
            eprintln!("{}: {hosts} hosts: never within {} s", self.name, LIMIT.as_secs());
            return Ok(Turn::NEVER);
        };
        let inner = output.stderr.lines().find_map(|line| line.strip_prefix(ELAPSED));
        if let Way::Client(_) | Way::Launch { whole: false } = self.way {
            turn.wall = inner.ok_or("no time was told")?.parse()?;
        }
        let (wall, cpu) = (turn.wall * 1e3, turn.cpu * 1e3);
        eprintln!("{}: {hosts} hosts: {wall:.1} ms, {cpu:.0} ms CPU", self.name);
        Ok(turn)
    }
}
