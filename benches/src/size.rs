//! Claim: the binary is small and starts at once.
//!
//! Must not measure what it does after its start.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::{Turn, children_cpu, ratio, rounds, typical};
use crate::{Common, Result};

mod client;

/// Flags of `bench size`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
}

/// A program, and a flag with which it says who it is and ends.
struct Contender {
    name: &'static str,
    path: String,
    flag: &'static str,
}

/// Measures and gives the table.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let contender = |name, path: &str, flag| Contender { name, path: path.to_owned(), flag };
    let contenders = [
        contender("`muster --version`", &args.common.muster()?, "--version"),
        contender("`ssh -V`", "/usr/bin/ssh", "-V"),
        contender("`sshd -V`", "/usr/sbin/sshd", "-V"),
        contender("`dbclient -V`", "/usr/bin/dbclient", "-V"),
    ];
    let turns = rounds(&contenders, args.common.rounds(300), Contender::turn)?;
    let mut text = String::new();
    writeln!(text, "| program | MB | ms | times muster's | CPU ms |\n|---|---|---|---|---|")?;
    for (contender, own) in contenders.iter().zip(&turns) {
        writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.1} | {:.2} |",
            contender.name,
            fs::metadata(&contender.path)?.len() as f64 / 1e6,
            typical(own, |turn| turn.wall) * 1e3,
            ratio(own, &turns[0], |turn| turn.wall),
            typical(own, |turn| turn.cpu) * 1e3,
        )?;
    }
    writeln!(text)?;
    client::measure(&args.common, &mut text)?;
    Ok(text)
}

impl Contender {
    fn turn(&self) -> Result<Turn> {
        let mut command = Command::new(&self.path);
        command.arg(self.flag).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (before, begun) = (children_cpu()?, Instant::now());
        // sshd has no such flag and fails with its usage, which says its version as well.
        command.status()?;
        let wall = begun.elapsed().as_secs_f64();
        Ok(Turn { wall, cpu: (children_cpu()? - before).as_secs_f64() })
    }
}
