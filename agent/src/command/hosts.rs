//! `muster hosts`.

use std::sync::Arc;

use super::block_on;
use crate::cli::HostsArgs;
use crate::config::env::Environment;
use crate::devices::own::own_host;
use crate::discovery::dns::Resolver;
use crate::discovery::enumerate::enumerate;
use crate::discovery::locate::locate;
use crate::discovery::lookup::Lookup;
use crate::discovery::render::render;
use crate::exit::{Class, Failure};
use crate::text::give;

/// Resolves once and prints.
pub(super) fn run(args: &HostsArgs) -> Result<Class, Failure> {
    let (env, own) = (Environment::from_process(), own_host());
    let hosts = crate::config::launch::hosts(&args.hosts, &env, &own.hostname)?;
    let located = block_on(async {
        let specs = enumerate(&hosts.list, &Resolver::from_system(), &own.addresses).await?;
        let lookup: Arc<dyn Lookup> = Arc::new(Resolver::of_job());
        Ok(locate(specs, &lookup).await)
    })?;
    give(&render(args.format, &hosts.source, &located))?;
    let all = located.iter().all(|host| host.addresses.is_ok());
    Ok(if all { Class::Ok } else { Class::NameResolution })
}
