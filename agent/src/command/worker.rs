//! `muster worker`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::block_on;
use crate::cli::WorkerArgs;
use crate::config::env::Environment;
use crate::exit::{Class, Failure};
use crate::process::guard;
use crate::ssh::keys;
use crate::worker::Settings;
use crate::worker::hello::hello;
use crate::worker::run::{Config, run as serve};

/// Serves until told to stop.
pub(super) fn run(args: WorkerArgs) -> Result<Class, Failure> {
    let guarded = guard::enter()?;
    let env = Environment::from_process();
    let key = keys::find(&keys::directories(args.key_dir.as_deref(), &env))?;
    let addresses = match &args.listen[..] {
        [] => everywhere(),
        some => some.to_vec(),
    };
    let config = Config {
        addresses: addresses.into_iter().map(|ip| SocketAddr::new(ip, args.port)).collect(),
        key,
        hello: hello(&env),
        settings: Settings {
            accept_env: args.accept_env,
            orphan_grace: args.orphan_grace,
            grace: args.grace,
            heartbeat: args.heartbeat.into(),
        },
    };
    block_on(serve(config, guarded))
}

/// One socket for both families where the kernel has IPv6, as Linux has it by default.
fn everywhere() -> Vec<IpAddr> {
    let six = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    vec![if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }]
}
