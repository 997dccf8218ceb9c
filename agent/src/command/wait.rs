//! `muster wait`.

use std::sync::Arc;

use super::block_on;
use crate::cli::WaitArgs;
use crate::config::env::Environment;
use crate::devices::own::own_host;
use crate::exit::{Class, Failure};
use crate::launch::stage::gather;
use crate::text::say;

/// Waits until every worker is ready.
pub(super) fn run(args: &WaitArgs) -> Result<Class, Failure> {
    let (env, own) = (Environment::from_process(), own_host());
    let (hosts, reach) = crate::config::launch::wait(&args.hosts, &args.reach, &env, &own)?;
    block_on(async {
        let ready = gather(&hosts, &reach, &Arc::new(own)).await?;
        say(&format!("all {} hosts are ready", ready.len()));
        Ok(Class::Ok)
    })
}
