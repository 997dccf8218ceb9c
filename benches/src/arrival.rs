//! Claim: a job begins sooner after its last worker has come than with the loops that images wait with, and asks
//! DNS less.
//!
//! Workers serve from the start; what comes, one after the other, is their names, behind a cache that keeps
//! answers as CoreDNS's does: "no such name", and addresses too, the Service's among them. Must not look at what
//! came before the last of them.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lab::{FileSpec, Install};

use crate::measure::median;
use crate::rivals::Ssh;
use crate::site::Site;
use crate::{Common, Result};

/// Flags of `bench arrival`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Numbers of workers [default: 16,64]
    #[arg(long, value_delimiter = ',')]
    pub(crate) workers: Vec<usize>,
    /// Seconds for which the cache keeps addresses
    #[arg(long, default_value_t = POSITIVE)]
    pub(crate) positive: u64,
}

/// As CoreDNS's kubernetes plugin has it unless it is told otherwise, in seconds.
pub(crate) const POSITIVE: u64 = 5;

/// From the last name to the first rank, at most.
const LIMIT: Duration = Duration::from_secs(150);

/// From the first name to the last, and how long "no such name" is kept.
const SPREAD: Duration = Duration::from_secs(20);
const NEGATIVE: Duration = Duration::from_secs(30);

/// How a job's start is waited for.
#[derive(Debug, Clone, Copy)]
enum Way {
    Muster,
    /// A program that waits, and then mpirun over the fastest OpenSSH.
    Loop {
        name: &'static str,
        wait: &'static str,
    },
}

const WAYS: [Way; 3] = [
    Way::Muster,
    Way::Loop { name: "bash, `nslookup` and `ssh true`", wait: "bash /etc/bench/arrival.sh" },
    Way::Loop { name: "as sagemaker-training", wait: "python3 /etc/bench/arrival.py" },
];

/// What one turn came to.
struct Turn {
    /// Seconds from the last name to the first rank.
    wall: f64,
    /// DNS queries of the launcher until all workers were there.
    queries: f64,
    /// The same to the end of the job: mpirun resolves every host of its hostfile anew, whoever has waited.
    all: f64,
}

/// What a loop says when it has done waiting.
const WAITED: &str = "waited for all";

/// Measures and gives the table.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let quick = args.common.quick;
    let mut counts = args.workers.clone();
    if counts.is_empty() {
        counts = if quick { vec![2] } else { vec![16, 64] };
    }
    let (spread, negative) =
        if quick { (Duration::from_secs(1), Duration::from_secs(2)) } else { (SPREAD, NEGATIVE) };
    let files = [
        FileSpec::new("/etc/bench/arrival.sh", include_str!("arrival.sh")),
        FileSpec::new("/etc/bench/arrival.py", include_str!("arrival.py")),
    ];
    let positive = Duration::from_secs(args.positive);
    let mut text = String::new();
    writeln!(
        text,
        "| workers | who waits | s | worst | times muster's | DNS queries | times muster's | mpirun's too |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    for count in counts {
        let site = Site::up(&args.common, Install::OpenMpi4, count, 1, &files)?;
        let mut turns = WAYS.map(|_| Vec::new());
        let rounds = args.common.rounds(3).count;
        for round in 0..rounds {
            // The last name comes at moments spread over the time for which the cache keeps an answer.
            let spread = spread + positive.mul_f64(round as f64 / rounds as f64);
            for (way, turns) in WAYS.iter().zip(&mut turns) {
                site.dns().cache_positive(Some(positive));
                turns.push(way.turn(&site, spread, negative)?);
            }
        }
        for (way, own) in WAYS.iter().zip(&turns) {
            let typical = |of: fn(&Turn) -> f64| median(own.iter().map(of).collect());
            let times = |of: fn(&Turn) -> f64| {
                median(
                    own.iter().zip(&turns[0]).map(|(one, muster)| of(one) / of(muster)).collect(),
                )
            };
            let [wall, queries] = [|turn: &Turn| turn.wall, |turn: &Turn| turn.queries];
            writeln!(
                text,
                "| {count} | {} | {:.2} | {:.2} | {:.1} | {:.0} | {:.1} | {:.0} |",
                way.name(),
                typical(wall),
                own.iter().map(wall).fold(0.0, f64::max),
                times(wall),
                typical(queries),
                times(queries),
                typical(|turn| turn.all),
            )?;
        }
    }
    Ok(text)
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Muster => "`muster launch`",
            Self::Loop { name, .. } => name,
        }
    }

    fn turn(self, site: &Site, spread: Duration, negative: Duration) -> Result<Turn> {
        let dns = site.dns();
        for worker in &site.workers {
            worker.withdraw()?;
        }
        // Forgets what the last turn has asked.
        dns.cache_negative(Some(negative));
        dns.clear_queries();
        let hosts = site.workers.len();
        let cmd = match self {
            Self::Muster => site.line(&format!("exec $MUSTER launch -n {hosts} -- hostname")),
            Self::Loop { wait, .. } => site.mpirun(
                "/usr/bin/ssh",
                Ssh::Fast.options(),
                &format!("{wait} && echo {WAITED} >&2 && exec $MPIRUN -n {hosts} hostname"),
            ),
        };
        let job = site.launcher.spawn(cmd)?;
        let begun = Instant::now();
        for (turn, index) in order(hosts).enumerate() {
            let due = spread.mul_f64((turn + 1) as f64 / hosts as f64);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            site.workers[index].publish()?;
        }
        let last = Instant::now();
        let complete = match self {
            Self::Muster => format!("{hosts}/{hosts} workers ready"),
            Self::Loop { .. } => WAITED.to_owned(),
        };
        job.wait_for_line(&complete, LIMIT)?;
        let waited = Instant::now();
        job.wait_for("a rank's line", LIMIT, is_of_rank)?;
        let wall = last.elapsed().as_secs_f64();
        job.wait(LIMIT)?;
        let from = site.launcher.address();
        let queries = dns.queries();
        let own = || queries.iter().filter(|query| query.from == from);
        let all = own().count() as f64;
        let queries = own().filter(|query| query.when <= waited).count() as f64;
        eprintln!("{}: {hosts} workers: {wall:.2} s, {queries} of {all} queries", self.name());
        Ok(Turn { wall, queries, all })
    }
}

/// Whether this is what `hostname` prints on a worker, tagged or not.
fn is_of_rank(line: &str) -> bool {
    let bare = line.trim_end().rsplit("] ").next().unwrap_or_default();
    let number = bare.strip_prefix("pi-worker-").unwrap_or("-");
    number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Pods come in no order, but in the same in each turn.
fn order(hosts: usize) -> impl Iterator<Item = usize> {
    // Odd, so that it meets each of a power of two once.
    let step = (hosts * 5 / 8) | 1;
    (0..hosts).map(move |turn| (turn * step) % hosts)
}
