//! `muster devices`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use super::block_on;
use crate::cli::DevicesArgs;
use crate::config::env::Environment;
use crate::config::launch::Reach;
use crate::devices::collect::{Resolve, report};
use crate::devices::compare::odd;
use crate::devices::host::Roots;
use crate::devices::mpirun;
use crate::devices::own::{OwnHost, own_host};
use crate::devices::render::{Format, hosts, render};
use crate::devices::report::{Mpi, Report};
use crate::discovery::Hosts;
use crate::exit::{Class, Failure};
use crate::launch::slots::{own_devices, rows};
use crate::launch::stage::gather;
use crate::process::reaper::Reaper;
use crate::text::{give, give_more};

/// Clears a terminal, and puts the cursor at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Reports once, or until nobody reads it any more.
pub(super) fn run(args: &DevicesArgs) -> Result<Class, Failure> {
    let (env, own) = (Environment::from_process(), own_host());
    let all = crate::config::devices::all_hosts(args, &env, &own)?;
    let recorded = args.root.as_deref().map(Roots::recorded).transpose()?;
    let mpi = recorded.is_none().then(|| mpirun::found(env.get("PATH").map(AsRef::as_ref)));
    let (roots, mpi) = (recorded.unwrap_or_default(), mpi.flatten());
    match all {
        Some((hosts, reach)) => side_by_side(args.format, (&hosts, &reach), &env, own, mpi),
        None => this_host(args, &roots, &env, mpi),
    }
}

fn this_host(
    args: &DevicesArgs,
    roots: &Roots,
    env: &Environment,
    mpi: Option<Mpi>,
) -> Result<Class, Failure> {
    let live = args.format == Format::Table && std::io::stdout().is_terminal();
    block_on(async {
        let reaper = Reaper::start()?;
        loop {
            let found = report(roots, env, &reaper, Resolve::OwnName).await?;
            let text = render(args.format, &Report { mpi: mpi.clone(), ..found });
            let Some(pause) = args.watch else {
                give(&text)?;
                return Ok(Class::Ok);
            };
            let text = match args.format {
                Format::Table if live => format!("{CLEAR}{text}"),
                Format::Table | Format::Prometheus => text + "\n",
                Format::Json => text,
            };
            if !give_more(&text)? {
                return Ok(Class::Ok);
            }
            tokio::time::sleep(pause).await;
        }
    })
}

fn side_by_side(
    format: Format,
    (all, reach): (&Hosts, &Reach),
    env: &Environment,
    own: OwnHost,
    mpi: Option<Mpi>,
) -> Result<Class, Failure> {
    let own = Arc::new(own);
    let (ready, devices) = block_on(async {
        let reaper = Reaper::start()?;
        let devices = async { Ok(own_devices(env, &reaper).await) };
        tokio::try_join!(gather(all, reach, &own), devices)
    })?;
    let own = devices.map(|report| Report { mpi, ..report });
    let rows = rows(&ready, own.as_ref());
    let odd = odd(&rows);
    give(&match format {
        Format::Table | Format::Prometheus => hosts::table(&rows, &odd),
        Format::Json => format!("{}\n", hosts::json(&rows, &odd)),
    })?;
    Ok(Class::Ok)
}
