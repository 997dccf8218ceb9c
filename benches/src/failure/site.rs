//! Eight hosts and a launcher on which one contender plays the stories.
//!
//! Must not help a contender: what it leaves is counted first and cleared up afterwards.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use lab::openssh::{Sshd, agent, mpirun};
use lab::{Cmd, Host, HostSpec, Install, Lab, MpiJob, Proc, ProcessInfo, Signal, each};
use nix::unistd::Pid;

use super::watch::Watched;
use super::{Result, Story};

const HOSTS: usize = 8;
/// The host with the rank that fails, by its number; it has a memory limit, and is the one cut off.
pub(super) const VICTIM: usize = 5;
/// The victim's memory, in bytes.
const MEMORY: u64 = 600 << 20;
/// How long a contender may take to end.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// How long a job may take to start, or a host to be cleared up.
const START: Duration = Duration::from_secs(60);
/// After this nothing of the job may be left.
const GONE: Duration = Duration::from_secs(2);
/// How often to look whether something is left, and how long to let the killed ones die.
const LOOK: Duration = Duration::from_millis(20);

/// How the job is launched.
#[derive(Debug)]
pub(super) enum Way {
    /// By this binary, on both sides.
    Muster {
        /// An absolute path.
        binary: String,
        /// Whether to show what it logs where it is late.
        log: bool,
    },
    /// By mpirun, over the real OpenSSH.
    OpenSsh,
}

/// What one turn came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From the failure to the launcher's exit; none where that did not come within [`LIMIT`].
    pub(super) seconds: Option<f64>,
    /// Processes that are still there [`GONE`] after the launcher.
    pub(super) left: usize,
    /// The same on the host that was cut off, if one was.
    pub(super) left_behind_cut: usize,
}

/// A lab with one contender's hosts up.
pub(super) struct Site {
    install: Install,
    way: Way,
    workers: Vec<Host>,
    launcher: Host,
    /// Held, as the hosts end with it.
    _lab: Lab,
}

impl Site {
    pub(super) fn start(install: Install, way: Way) -> Result<Self> {
        install.check()?;
        let job = MpiJob::new("pi", install, HOSTS)?;
        let lab = Lab::new()?;
        let dress = |spec: HostSpec| match way {
            Way::Muster { .. } => spec,
            Way::OpenSsh => spec.openssh().file(agent(22)),
        };
        let limited = |(index, spec)| if index == VICTIM { limit(spec) } else { spec };
        let specs: Vec<_> = job.all_workers().into_iter().enumerate().map(limited).collect();
        let workers = lab.add_all(specs.into_iter().map(dress))?;
        each(&workers, |host| {
            match &way {
                Way::Muster { binary, .. } => {
                    host.boot(Cmd::new(binary).arg("worker"))?.wait_for_line("READY", START)?;
                }
                Way::OpenSsh => {
                    host.boot_idle()?;
                    Sshd::new().start(host)?;
                }
            }
            host.publish()
        })?;
        let launcher = lab.add(dress(job.launcher()))?;
        launcher.boot_idle()?;
        launcher.publish()?;
        Ok(Self { install, way, workers, launcher, _lab: lab })
    }

    /// One job from its start to a clean lab.
    pub(super) fn play(&self, story: Story) -> Result<Outcome> {
        let before = self.pids();
        let job = self.launcher.spawn(self.command(story))?;
        let outcome = self.outcome(story, &job, &before);
        let outcome =
            outcome.map_err(|error| format!("{}: {error}\n{}", story.title(), job.tail()));
        self.clear_up(&before)?;
        let outcome = outcome?;
        let late = outcome.seconds.is_none_or(|seconds| seconds > story.target().as_secs_f64());
        if late && matches!(self.way, Way::Muster { log: true, .. }) {
            eprintln!("{}: {outcome:?}\n{}", story.title(), job.stderr_so_far());
        }
        Ok(outcome)
    }

    fn outcome(&self, story: Story, job: &Proc, before: &BTreeSet<Pid>) -> Result<Outcome> {
        let launcher = Watched::new(job.pid())?;
        let failed = match story {
            Story::Cut => {
                for rank in 0..HOSTS {
                    job.wait_for_line(&format!("hello rank {rank} of {HOSTS}"), START)?;
                }
                self.workers[VICTIM].cut()?;
                Instant::now()
            }
            Story::Exit | Story::Crash | Story::Oom => {
                self.rank()?.end(START)?.ok_or("the rank did not fail")?
            }
        };
        let Some(ended) = launcher.end(LIMIT)? else {
            return Ok(Outcome { seconds: None, left: 0, left_behind_cut: 0 });
        };
        if job.wait(START)?.success() {
            return Err("the job failed, and the launcher said 0".into());
        }
        let seconds = Some(ended.duration_since(failed).as_secs_f64());
        loop {
            let (cut, others): (Vec<_>, Vec<_>) = self
                .strangers(before)
                .into_iter()
                .partition(|(host, _)| story == Story::Cut && *host == VICTIM);
            if cut.len() + others.len() == 0 || ended.elapsed() >= GONE {
                return Ok(Outcome { seconds, left: others.len(), left_behind_cut: cut.len() });
            }
            thread::sleep(LOOK);
        }
    }

    /// The rank that is about to fail. It is seen long before: MPI_Init takes longer than the look.
    fn rank(&self) -> Result<Watched> {
        let program = self.program();
        let is_rank = |info: &ProcessInfo| info.cmdline.starts_with(&program);
        let host = &self.workers[VICTIM];
        let seen = host.wait_for_processes("the rank", START, |all| all.iter().any(is_rank))?;
        let rank = seen.iter().find(|info| is_rank(info)).ok_or("no rank")?;
        Ok(Watched::new(rank.outer)?)
    }

    fn program(&self) -> String {
        self.install.program("ranks").display().to_string()
    }

    fn command(&self, story: Story) -> Cmd {
        let command = match &self.way {
            Way::Muster { binary, log } => {
                let command = Cmd::new(binary).args(["launch", "--"]);
                if *log { command.env("MUSTER_LOG", "debug") } else { command }
            }
            Way::OpenSsh => mpirun(self.install).args(["-n", &HOSTS.to_string()]),
        };
        command.arg(self.program()).args(story.words().iter().copied())
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.workers.iter().chain([&self.launcher])
    }

    fn pids(&self) -> BTreeSet<Pid> {
        self.hosts().flat_map(Host::processes).map(|info| info.outer).collect()
    }

    /// Processes that were not there before, with the number of their host.
    fn strangers(&self, before: &BTreeSet<Pid>) -> Vec<(usize, ProcessInfo)> {
        let all = self
            .hosts()
            .enumerate()
            .flat_map(|(index, host)| host.processes().into_iter().map(move |info| (index, info)));
        all.filter(|(_, info)| !before.contains(&info.outer)).collect()
    }

    fn clear_up(&self, before: &BTreeSet<Pid>) -> Result<()> {
        self.workers[VICTIM].heal()?;
        let until = Instant::now() + START;
        loop {
            let left = self.strangers(before);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(format!("these do not die: {left:?}").into());
            }
            left.iter().for_each(|(_, info)| info.signal(Signal::SIGKILL));
            thread::sleep(LOOK);
        }
    }
}

fn limit(spec: HostSpec) -> HostSpec {
    spec.memory(MEMORY)
}
