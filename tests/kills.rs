//! Promise: whatever is killed, nothing of the job is left anywhere 10 s later, and the launcher never
//! ends with 0. What else befalls a job, and what is said of it, is in `verdicts`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use lab::{Host, Install, MpiJob, Proc, ProcessInfo, Signal, each};
use muster_tests::{Cluster, LONG, nothing_of_a_job, run_muster};

/// Within this nothing of the job may be left.
const SOON: Duration = Duration::from_secs(10);

/// A job of two ranks on each of three workers that runs until it is ended.
struct Running {
    cluster: Cluster,
    launch: Proc,
}

impl Running {
    fn start(install: Install) -> Self {
        let job = MpiJob::new("pi", install, 3).unwrap().slots(2);
        let cluster = Cluster::start(&job);
        let program = install.program("ranks").display().to_string();
        let command = run_muster(["launch", "--", &program, "sleep", "600"]);
        let launch = cluster.launcher.spawn(command).unwrap();
        for rank in 0..6 {
            launch.wait_for_line(&format!("hello rank {rank} of 6"), LONG).unwrap();
        }
        Self { cluster, launch }
    }

    /// The launcher's process that works, and the guard above it.
    fn launcher(&self) -> (ProcessInfo, ProcessInfo) {
        let all = self.cluster.launcher.processes();
        let is_launch = |info: &&ProcessInfo| info.cmdline.contains("muster launch");
        let guard = all.iter().find(|info| info.outer == self.launch.pid()).unwrap();
        let worker = all.iter().filter(is_launch).find(|info| info.ppid == guard.pid).unwrap();
        (worker.clone(), guard.clone())
    }

    /// Ends with one of these codes, and leaves nothing on any host that is up.
    fn ends(self, codes: &[i32], limit: Duration) -> Self {
        let since = Instant::now();
        let status = self.launch.wait(limit).unwrap();
        let code = lab::code(status);
        assert!(codes.contains(&code), "{code}, not {codes:?}: {}", self.launch.tail());
        let left = (limit + SOON).saturating_sub(since.elapsed());
        each(&self.cluster.workers, |host| nothing_left(host, left)).unwrap();
        nothing_left(&self.cluster.launcher, left).unwrap();
        self
    }
}

fn nothing_left(host: &Host, limit: Duration) -> lab::Result<()> {
    host.wait_for_processes("nothing of the job", limit, nothing_of_a_job).map(drop)
}

fn kill(info: &ProcessInfo) {
    info.signal(Signal::SIGKILL);
}

/// What happens to a running job.
type Blow = fn(Install);

fn mpirun_killed(install: Install) {
    let job = Running::start(install);
    let (working, _) = job.launcher();
    let all = job.cluster.launcher.processes();
    // Open MPI 5's mpirun becomes prterun.
    kill(all.iter().find(|info| info.ppid == working.pid).unwrap());
    job.ends(&[143], SOON);
}

fn working_launcher_killed(install: Install) {
    let job = Running::start(install);
    kill(&job.launcher().0);
    job.ends(&[137], SOON);
}

fn launchers_guard_killed(install: Install) {
    let job = Running::start(install);
    kill(&job.launcher().1);
    job.ends(&[137], SOON);
}

fn both_launchers_killed(install: Install) {
    let job = Running::start(install);
    let (working, guard) = job.launcher();
    kill(&guard);
    kill(&working);
    job.ends(&[137], SOON);
}

fn working_worker_killed(install: Install) {
    let job = Running::start(install);
    let victim = &job.cluster.workers[1];
    let all = victim.processes();
    kill(all.iter().find(|info| info.ppid == 1 && info.cmdline.contains("muster worker")).unwrap());
    let job = job.ends(&[172], SOON);
    // PID 1 ends with the process that works.
    job.cluster.servers[1].wait(SOON).unwrap();
    names_the_lost(&job);
}

fn names_the_lost(job: &Running) {
    let stderr = job.launch.output(LONG).unwrap().stderr;
    assert!(stderr.contains("The worker on pi-worker-1 was lost"), "{stderr}");
}

macro_rules! blows {
    ($($module:ident: $install:expr),* $(,)?) => {$(
        mod $module {
            use super::*;
            const RUN: fn(Blow) = |blow| blow($install);

            #[test]
            fn mpirun() {
                RUN(mpirun_killed);
            }
            #[test]
            fn working_launcher() {
                RUN(working_launcher_killed);
            }
            #[test]
            fn launchers_guard() {
                RUN(launchers_guard_killed);
            }
            #[test]
            fn both_launchers() {
                RUN(both_launchers_killed);
            }
            #[test]
            fn working_worker() {
                RUN(working_worker_killed);
            }
        }
    )*};
}

blows! {
    open_mpi_4: Install::OpenMpi4,
    open_mpi_5: Install::OpenMpi5,
    mpich: Install::Mpich5,
    intel: Install::IntelMpi,
}
