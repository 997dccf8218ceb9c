//! Promise: whatever is killed, nothing of the job is left anywhere 10 s later, and the launcher never
//! ends with 0.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use lab::{Host, Install, MpiJob, Proc, ProcessInfo, Signal, each};
use muster_tests::{Cluster, LONG, run_muster};

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
    let ours = |info: &ProcessInfo| info.pid != 1 && !info.cmdline.ends_with("muster worker");
    let gone = |found: &[ProcessInfo]| !found.iter().any(ours);
    host.wait_for_processes("nothing of the job", limit, gone).map(drop)
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
    job.ends(&[137], SOON);
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
    assert!(!job.cluster.workers[1].is_up(), "PID 1 ends with the process that works");
    names_the_lost(&job);
}

fn worker_killed(install: Install) {
    let job = Running::start(install);
    job.cluster.workers[1].kill().unwrap();
    let job = job.ends(&[172], SOON);
    names_the_lost(&job);
}

fn names_the_lost(job: &Running) {
    let stderr = job.launch.output(LONG).unwrap().stderr;
    assert!(stderr.contains("worker pi-worker-1.pi.default.svc was lost"), "{stderr}");
}

fn launcher_told_to_stop(install: Install) {
    let job = Running::start(install);
    job.launch.signal(Signal::SIGTERM);
    job.ends(&[143], Duration::from_secs(15));
}

fn worker_told_to_stop(install: Install) {
    let job = Running::start(install);
    job.cluster.servers[1].signal(Signal::SIGTERM);
    let job = job.ends(&[173], Duration::from_secs(15));
    let stderr = job.launch.stderr_so_far();
    assert!(stderr.contains("pi-worker-1.pi.default.svc was told to stop"), "{stderr}");
}

/// Nobody is told anything: each side has to find out by itself.
fn worker_cut_off(install: Install) {
    let job = Running::start(install);
    let since = Instant::now();
    job.cluster.workers[1].cut().unwrap();
    let status = job.launch.wait(Duration::from_secs(25)).unwrap();
    assert_eq!(lab::code(status), 172, "{}", job.launch.tail());
    names_the_lost(&job);
    nothing_left(&job.cluster.launcher, SOON).unwrap();
    for host in [0, 2] {
        nothing_left(&job.cluster.workers[host], SOON).unwrap();
    }
    let left = Duration::from_secs(30).saturating_sub(since.elapsed());
    nothing_left(&job.cluster.workers[1], left).unwrap();
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
            #[test]
            fn worker() {
                RUN(worker_killed);
            }
            #[test]
            fn launcher_terminated() {
                RUN(launcher_told_to_stop);
            }
            #[test]
            fn worker_terminated() {
                RUN(worker_told_to_stop);
            }
            #[test]
            fn worker_silent() {
                RUN(worker_cut_off);
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
