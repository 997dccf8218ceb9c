//! What the tests of containers share: the images, built once, and a job whose hosts are containers.

#![expect(clippy::panic, reason = "a fixture fails its test by panicking")]

use std::io::Write as _;
use std::process::Command;
use std::sync::OnceLock;

use lab::{HostSpec, Install, Lab, LabError, MpiJob, Pod, PodCommand, Pods};
use muster_tests::{LONG, muster, nothing_of_a_job};

/// A job of four workers and its launcher, all to run as containers; the workers do so already.
pub(crate) struct Site {
    pub(crate) pods: Pods,
    pub(crate) workers: Vec<Pod>,
    launcher: HostSpec,
    image: &'static str,
    // Last: the network has to outlive the containers.
    pub(crate) lab: Lab,
}

/// The memory limit of each container, in bytes.
const MEMORY: u64 = 600 << 20;

/// The name of the image for an MPI.
pub(crate) fn image_of(install: Install) -> &'static str {
    match install {
        Install::OpenMpi4 => "openmpi",
        Install::OpenMpi5 => "openmpi5",
        Install::Mpich4 | Install::Mpich5 => "mpich",
        Install::IntelMpi => "intel",
    }
}

/// Builds the images, once for all tests. Where podman cannot run this says so and answers false, but in CI it fails.
pub(crate) fn ready() -> bool {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    match READY.get_or_init(prepare) {
        Ok(()) => true,
        Err(why) if std::env::var_os("CI").is_some() => panic!("podman has to run in CI: {why}"),
        Err(why) => {
            // Past the test harness, which keeps what passing tests print to itself.
            let _ =
                writeln!(std::io::stderr(), "\nSKIPPED: no containers, podman cannot run: {why}");
            false
        }
    }
}

fn prepare() -> Result<(), String> {
    let tests = env!("CARGO_MANIFEST_DIR");
    let works = Command::new(format!("{tests}/podman")).arg("info").output();
    match works {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let build = format!("{tests}/images/build");
    let built =
        Command::new("timeout").arg("1500").arg(&build).env("MUSTER_BIN", muster()).status();
    // Podman runs, so that this is a failure of ours.
    assert!(built.is_ok_and(|status| status.success()), "{build} failed, see above");
    Ok(())
}

/// The shape of a job's pods in these tests: what nobody may need.
pub(crate) fn strict(spec: HostSpec) -> HostSpec {
    spec.read_only_root().memory(MEMORY)
}

/// The programs compiled for an MPI, as an image made for the job would have them.
pub(crate) fn with_programs(spec: HostSpec, install: Install) -> HostSpec {
    let programs = install.program("ranks");
    let dir = programs.parent().unwrap_or(&programs);
    // All containers share the machine's two cores, which each rank would otherwise keep busy while it waits.
    spec.bind(dir, "/opt/job").env("OMPI_MCA_mpi_yield_when_idle", "1")
}

/// Starts containers of one image with one command, waits for the line by which each says that it serves, and
/// publishes their names.
pub(crate) fn serve(
    pods: &Pods,
    specs: Vec<HostSpec>,
    image: &str,
    command: &PodCommand,
    ready: &str,
) -> Result<Vec<Pod>, LabError> {
    let started: Result<Vec<_>, _> =
        specs.iter().map(|spec| pods.start(spec, image, command)).collect();
    let started = started?;
    for pod in &started {
        pod.process.wait_for_line(ready, LONG)?;
        pod.publish()?;
    }
    Ok(started)
}

impl Site {
    /// The workers of a job of mpi-operator, as uid 1000 and restricted.
    pub(crate) fn start(install: Install) -> Self {
        Self::of(
            install,
            &MpiJob::new("pi", install, 4)
                .unwrap_or_else(|error| panic!("{error}"))
                .slots(2)
                .non_root(1000),
            |spec| spec,
        )
    }

    /// The workers of this job, with each container changed by `change`.
    pub(crate) fn of(
        install: Install,
        job: &MpiJob,
        change: impl Fn(HostSpec) -> HostSpec,
    ) -> Self {
        Self::with(image_of(install), install, job, change)
    }

    /// The same in images of this name.
    pub(crate) fn with(
        image: &'static str,
        install: Install,
        job: &MpiJob,
        change: impl Fn(HostSpec) -> HostSpec,
    ) -> Self {
        let shape = |spec| change(with_programs(strict(spec), install));
        let up = || -> Result<Self, LabError> {
            let lab = Lab::new()?;
            let pods = Pods::new(&lab)?;
            let specs = job.all_workers().into_iter().map(&shape).collect();
            let worker = format!("{image}-worker");
            let workers = serve(&pods, specs, &worker, &PodCommand::default(), "READY")?;
            let launcher = shape(job.launcher());
            Ok(Self { pods, workers, launcher, image, lab })
        };
        up().unwrap_or_else(|error| panic!("the containers did not come up: {error}"))
    }

    /// Starts the launcher's container with these arguments.
    pub(crate) fn launch<const N: usize>(&self, words: [&str; N]) -> Pod {
        let image = format!("{}-launcher", self.image);
        let up = || -> Result<Pod, LabError> {
            let pod = self.pods.start(&self.launcher, &image, &PodCommand::args(words))?;
            self.lab.dns().change(&self.launcher.full_name(), pod.address())?;
            Ok(pod)
        };
        up().unwrap_or_else(|error| panic!("the launcher did not start: {error}"))
    }

    /// Nothing of the job is left on these workers.
    pub(crate) fn left_nothing(&self, workers: &[Pod]) {
        for worker in workers {
            let gone = worker.wait_for_processes("nothing of the job", LONG, nothing_of_a_job);
            gone.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
