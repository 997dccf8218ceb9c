//! The wrapper's end of it: whether to ask, whom, and what to say.
//!
//! Must not start NVML: a rank has no time for it. The worker of the host has asked it long ago; where
//! there is none, the kernel's files tell what they can.

use std::io;
use std::path::Path;

use super::{Allotment, Answer, Ask, GpuBind, chosen};
use crate::config::env::Environment;
use crate::config::variables::{MUSTER_RANK_SOCKET, UCX_NET_DEVICES};
use crate::devices::gpu;
use crate::devices::host::Roots;
use crate::devices::report::Report;
use crate::output::Identity;
use crate::rank::link;
use crate::text::say;

/// The variables that bind this rank to its GPUs. What there is to say is said by rank 0 alone.
pub(in crate::rank) fn bind(
    wish: Option<GpuBind>,
    identity: Option<&Identity>,
    env: &Environment,
) -> Vec<(String, String)> {
    let (set, word) = wanted(wish, identity, env);
    if let (Some(word), true) = (word, identity.is_none_or(|identity| identity.rank == 0)) {
        say(&word);
    }
    set
}

/// The variables, and what there is to say.
fn wanted(
    wish: Option<GpuBind>,
    identity: Option<&Identity>,
    env: &Environment,
) -> (Vec<(String, String)>, Option<String>) {
    let nothing = |why: Option<String>| {
        // Nobody misses what nobody asked for.
        let why = why.filter(|_| wish.is_some());
        (Vec::new(), why.as_deref().map(unbound))
    };
    let bind = wish.unwrap_or_default();
    if bind == GpuBind::None {
        return nothing(None);
    }
    if let Some(name) = chosen(env) {
        return nothing(Some(format!("{name} is set already")));
    }
    let Some((local_rank, identity)) = identity.and_then(|of| Some((of.local_rank?, of))) else {
        return nothing(Some("the environment tells no rank among those of this host".into()));
    };
    let local_size = identity.local_size;
    let ask = Ask { bind, local_rank, local_size, cpus: cpus() };
    let desk = env.non_empty(MUSTER_RANK_SOCKET).map(|socket| link::ask(socket, &ask));
    let (answer, word) = match desk {
        Some(Ok(answer)) => (answer, None),
        Some(Err(error)) if is_silence(&error) => {
            return (Vec::new(), Some(unbound("the worker of this host did not answer in time")));
        }
        // Nobody is there, or a worker of another version that knows of no such question.
        Some(Err(_)) | None => by_hand(&ask, env),
    };
    let set = answer.set.into_iter();
    let set = set.filter(|(name, _)| name != UCX_NET_DEVICES || env.get(name).is_none()).collect();
    (set, answer.refused.as_deref().map(unbound).or(word))
}

fn unbound(why: &str) -> String {
    format!("warning: ranks are not bound to GPUs: {why}")
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What the kernel's files tell, where no worker does: GPUs in the order of their numbers. Which are
/// near cannot be said, because nobody knows what the other ranks have got.
fn by_hand(ask: &Ask, env: &Environment) -> (Answer, Option<String>) {
    let report = Report { gpus: gpu::at_a_glance(&Roots::default(), env), ..Report::default() };
    let cut = report.usable_gpus().any(|gpu| gpu.mig == Some(true) && gpu.instances.is_empty());
    let Some(mut allotment) = Allotment::of(&report).filter(|_| !cut) else {
        let why = "only a worker knows the MIG instances of its host";
        return (Answer { refused: cut.then(|| why.into()), ..Answer::default() }, None);
    };
    let units = allotment.count();
    let word = if ask.bind == GpuBind::Numa {
        Some(
            "--gpu-bind=numa needs a worker, which knows what others have got; GPUs go in turn"
                .into(),
        )
    } else {
        let ranks = ask.local_size.filter(|ranks| *ranks as usize > units);
        ranks.map(|ranks| format!("{ranks} ranks of a host share {units} GPUs in turn"))
    };
    (allotment.give(ask), word)
}

/// The CPUs to which this process is bound, in the kernel's list form.
fn cpus() -> Option<String> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}
