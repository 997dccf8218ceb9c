//! `muster devices`.

use std::io::IsTerminal as _;

use super::block_on;
use crate::cli::DevicesArgs;
use crate::config::env::Environment;
use crate::devices::collect::{Resolve, report};
use crate::devices::host::Roots;
use crate::devices::render::{Format, render};
use crate::exit::{Class, Failure};
use crate::process::reaper::Reaper;
use crate::text::{give, give_more};

/// Clears a terminal, and puts the cursor at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Reports once, or until nobody reads it any more.
pub(super) fn run(args: &DevicesArgs) -> Result<Class, Failure> {
    let env = Environment::from_process();
    let recorded = args.root.as_deref().map(Roots::recorded).transpose()?;
    let roots = recorded.unwrap_or_default();
    let live = args.format == Format::Table && std::io::stdout().is_terminal();
    block_on(async {
        let reaper = Reaper::start()?;
        loop {
            let found = report(&roots, &env, &reaper, Resolve::OwnName).await?;
            let text = render(args.format, &found);
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
