//! `muster launch`.

use std::sync::Arc;

use super::block_on;
use crate::cli::LaunchArgs;
use crate::config::env::Environment;
use crate::config::launch::LaunchConfig;
use crate::devices::own::own_host;
use crate::exit::{Class, Failure};
use crate::launch::dispatch::told_outcome;
use crate::launch::engine;
use crate::launch::event::Outcome;
use crate::launch::fleet::Fleet;
use crate::launch::run::{Events, Launch};
use crate::launch::stage::{self, RunDir};
use crate::plan::{build, render};
use crate::process::guard::{self, Guarded};
use crate::process::reaper::Reaper;
use crate::rank::protocol::Output;
use crate::text::{give, say, verdict_line};

/// Runs the job and returns its exit code.
pub(super) fn run(args: LaunchArgs) -> Result<u8, Failure> {
    // The guard must split the process before a thread exists, and asking mpirun who it is must be
    // over before the reaper, the only waiter, exists.
    let guarded = guard::enter()?;
    let env = Environment::from_process();
    let config = crate::config::launch::launch(args, env, own_host())?;
    let outcome = block_on(launch(config, guarded))?;
    for line in &outcome.lines {
        say(line);
    }
    match outcome.class {
        Some(Class::Ok) | None => {}
        Some(class) => verdict_line(class),
    }
    Ok(outcome.code)
}

async fn launch(config: LaunchConfig, guarded: Guarded) -> Result<Outcome, Failure> {
    let mut events = Events::watch(guarded)?;
    let reaper = Reaper::start()?;
    let own = Arc::new(config.own.clone());
    let gathering = async {
        match &config.reach {
            Some(reach) => stage::gather(&config.hosts, reach, &own).await,
            None => Ok(Vec::new()),
        }
    };
    let ready = tokio::select! {
        ready = gathering => ready?,
        stop = events.stopped() => return Ok(told_outcome(stop)),
    };
    let run_dir = RunDir::create(&config.env)?;
    let request = stage::request(&config, &ready, run_dir.path());
    let plan = build(&request)?;
    if config.dry_run {
        match config.json {
            true => give(&format!("{:#}\n", render::json(&plan)))?,
            false => give(&render::text(&plan))?,
        }
        return Ok(Outcome { code: 0, class: Some(Class::Ok), lines: Vec::new() });
    }
    run_dir.write(&plan)?;
    plan.notes.iter().for_each(|note| say(note));
    let fleet = Arc::new(Fleet::new(ready, own, &events.sender));
    let expected = stage::expected(&config, &plan, &request.hosts, &fleet);
    let listener = engine::listen(&request.socket)?;
    let launch = Launch {
        plan,
        expected,
        fleet,
        listener,
        rank_socket: request.rank_socket.unwrap_or_default(),
        pod_logs: matches!(config.output.output, Output::Pod | Output::Both),
        reaper,
    };
    crate::launch::run::run(launch, events).await
}
