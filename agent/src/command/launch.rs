//! `muster launch`.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::block_on;
use crate::cli::LaunchArgs;
use crate::config::env::Environment;
use crate::config::launch::LaunchConfig;
use crate::devices::own::own_host;
use crate::exit::{Class, Failure};
use crate::launch::announce::{Files, tell};
use crate::launch::engine;
use crate::launch::fleet::Fleet;
use crate::launch::journal::{Journal, State};
use crate::launch::network;
use crate::launch::run::{Events, Launch};
use crate::launch::slots;
use crate::launch::stage::{self, RunDir};
use crate::launch::witness::{Witness, verdict};
use crate::outcome::facts::{Facts, StageFailure, Told};
use crate::outcome::{Rules, Verdict};
use crate::output::clock::Micros;
use crate::plan::{self, Request, Work, build, render};
use crate::process::guard::{self, Guarded};
use crate::process::reaper::Reaper;
use crate::rank::gpus::Allotment;
use crate::rank::protocol::Output;
use crate::text::{give, say};

/// Runs the job and returns its exit code.
pub(super) fn run(args: LaunchArgs) -> Result<u8, Failure> {
    let begun = Instant::now();
    // The guard must split the process before a thread exists, and asking mpirun who it is must be
    // over before the reaper, the only waiter, exists.
    let guarded = guard::enter()?;
    let said = args.verdict.clone();
    let files = Files { termination_log: said.termination_log, report: said.report };
    let mut journal = Journal::open(said.events.as_deref(), begun)?;
    journal.state(State::Queued, Value::Null);
    let judge = |facts: &Facts, rules: &Arc<Rules>| verdict(facts, rules, said.exit_code);
    let env = Environment::from_process();
    let result = crate::config::launch::launch(args, env, own_host())
        .map_err(Failure::from)
        .and_then(|config| {
            let rules = Arc::clone(&config.rules);
            let facts = block_on(launch(config, guarded, &mut journal))?;
            Ok(facts.map(|facts| judge(&facts, &rules)))
        });
    match result {
        Ok(None) => Ok(Class::Ok.code()),
        Ok(Some(verdict)) => {
            let code = close(&verdict, &files, &mut journal);
            tell(&verdict);
            Ok(code)
        }
        Err(failure) => {
            let stage = Some(StageFailure::from(failure.error() as &dyn crate::exit::Explain));
            let facts = Facts { stage, ..Facts::default() };
            let rules = Arc::new(Rules::built_in()?);
            close(&judge(&facts, &rules), &files, &mut journal);
            Err(failure)
        }
    }
}

/// Says how many ranks the hosts take, and why.
fn say_slots(request: &Request) {
    if !request.hosts.is_empty() {
        say(&plan::slots::words(&request.hosts));
    } else if request.ranks.is_none() && matches!(request.work, Work::Program(_)) {
        let (slots, why) = &request.local_slots;
        say(&format!("{slots} slots: this machine ({why})"));
    }
}

fn close(verdict: &Verdict, files: &Files, journal: &mut Journal) -> u8 {
    files.write(verdict);
    journal.ended(verdict);
    verdict.code
}

/// What is known of the job when it is over; none: nothing was to be started.
async fn launch(
    config: LaunchConfig,
    guarded: Guarded,
    journal: &mut Journal,
) -> Result<Option<Facts>, Failure> {
    let mut events = Events::watch(guarded)?;
    let reaper = Reaper::start()?;
    let own = Arc::new(config.own.clone());
    let gathering = async {
        let ready = async {
            match &config.reach {
                Some(reach) => stage::gather(&config.hosts, reach, &own).await,
                None => Ok(Vec::new()),
            }
        };
        let devices = async { Ok(slots::own_devices(&config.env, &reaper).await) };
        tokio::try_join!(ready, devices)
    };
    journal.state(State::Waiting, json!({ "hosts_from": config.hosts.source.to_string() }));
    let (ready, devices) = tokio::select! {
        gathered = gathering => gathered?,
        stop = events.stopped() => {
            let at = Micros::from(SystemTime::now());
            let told = Some(Told { signal: stop.number(), at });
            return Ok(Some(Facts { told, ..Facts::default() }));
        }
    };
    stage::timings(&ready, journal);
    let run_dir = RunDir::create(&config.env)?;
    let here = network::own_report(&ready, devices.as_ref());
    network::require(&config, &ready, &here)?;
    let fabric = network::fabric_of(&config, &ready, &here)?;
    let request = stage::request(&config, &ready, devices.as_ref(), fabric, run_dir.path());
    let mut plan = build(&request)?;
    say_slots(&request);
    let sharing = slots::sharing(&config, (&request, &plan), &ready, devices.as_ref());
    plan.notes.extend(sharing);
    if config.dry_run {
        match config.json {
            true => give(&format!("{:#}\n", render::json(&plan)))?,
            false => give(&render::text(&plan))?,
        }
        return Ok(None);
    }
    run_dir.write(&plan)?;
    plan.fabric.iter().for_each(|line| say(&format!("fabric: {line}")));
    plan.notes.iter().for_each(|note| say(note));
    let pods = stage::pods(&ready, &config.env);
    let fleet = Arc::new(Fleet::new(ready, own, config.heartbeat, &events.sender));
    let launch = Launch {
        family: config.mpirun.family,
        expected: stage::expected(&config, &plan, &request.hosts, &fleet),
        listener: engine::listen(&request.socket)?,
        plan,
        fleet,
        rank_socket: request.rank_socket.unwrap_or_default(),
        gpus: devices.as_ref().and_then(Allotment::of),
        pod_logs: matches!(config.output.output, Output::Pod | Output::Both),
        heartbeat: stage::heartbeat(&config),
        reaper,
    };
    let mut witness = Witness::new(config.mpirun.family);
    let over = crate::launch::run::run(launch, events, &mut witness, journal).await?;
    let mut facts = witness.facts(&over.ending, &over.said, &over.last_words, &config.rules);
    facts.name_pods(&pods);
    Ok(Some(facts))
}
