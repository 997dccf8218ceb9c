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
use crate::text::give_more;

/// Clears a terminal, and puts the cursor at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Reports once, or until nobody reads it any more.
pub(super) fn run(args: &DevicesArgs) -> Result<Class, Failure> {
    let env = Environment::from_process();
    let roots = args.root.as_deref().map_or_else(Roots::default, Roots::below);
    let live = args.format == Format::Table && std::io::stdout().is_terminal();
    block_on(async {
        let reaper = Reaper::start()?;
        loop {
            let found = report(&roots, &env, &reaper, Resolve::OwnName).await?;
            let mut text = render(args.format, &found);
            if args.watch.is_some() {
                match args.format {
                    Format::Table if live => text.insert_str(0, CLEAR),
                    Format::Table | Format::Prometheus => text.push('\n'),
                    Format::Json => {}
                }
            }
            match args.watch {
                Some(pause) if give_more(&text)? => tokio::time::sleep(pause).await,
                Some(_) => return Ok(Class::Ok),
                None => return give_more(&text).map(|_| Class::Ok).map_err(Failure::from),
            }
        }
    })
}
