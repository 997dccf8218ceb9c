//! `muster worker`.

use std::net::SocketAddr;

use super::block_on;
use crate::cli::WorkerArgs;
use crate::config::env::Environment;
use crate::exit::{Class, Failure};
use crate::process::guard;
use crate::ssh::access::Access;
use crate::ssh::keys;
use crate::worker::Settings;
use crate::worker::hello::hello;
use crate::worker::run::{Config, run as serve};
use crate::worker::server::{Needs, everywhere};

/// Serves until told to stop.
pub(super) fn run(args: WorkerArgs) -> Result<Class, Failure> {
    let guarded = guard::enter()?;
    let env = Environment::from_process();
    let key = keys::find(&keys::directories(args.key_dir.as_deref(), &env))?;
    let addresses = match &args.listen[..] {
        [] => vec![everywhere()],
        some => some.to_vec(),
    };
    let config = Config {
        addresses: addresses.into_iter().map(|ip| SocketAddr::new(ip, args.port)).collect(),
        needs: Needs::All,
        access: Access::of_job(key),
        pid_file: None,
        background: None,
        hello: hello(&env),
        settings: Settings {
            accept_env: args.accept_env,
            set_env: Vec::new(),
            orphan_grace: args.orphan_grace,
            grace: args.grace,
            heartbeat: args.heartbeat.into(),
        },
    };
    block_on(serve(config, guarded))
}
