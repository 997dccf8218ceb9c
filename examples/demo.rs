//! The main job, as a user would see it: a lab of four hosts, Open MPI, the pi program, and muster.
//!
//! Run by examples/demo, which sets the machine up first. The arguments are the MPI to use (open-mpi-4 by
//! default) and the number of hosts.

use std::error::Error;
use std::time::Duration;

use lab::{Install, MpiJob};
use muster_tests::{Cluster, run_muster};

const LIMIT: Duration = Duration::from_secs(120);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "openmpi4".into());
    let hosts: usize = arguments.next().map_or(Ok(4), |count| count.parse())?;
    let known = || Install::ALL.map(Install::name).join(", ");
    let install = Install::ALL
        .into_iter()
        .find(|install| install.name() == name)
        .ok_or_else(|| format!("there is no MPI '{name}'\nhint: one of {}", known()))?;
    install.check()?;

    println!("lab: {hosts} hosts with 2 slots each, {name}, no ssh and no sshd in any of them");
    let job = MpiJob::new("pi", install, hosts)?.slots(2);
    let cluster = Cluster::start(&job);
    for (worker, server) in cluster.workers.iter().zip(&cluster.servers) {
        println!(
            "{:<12} {:<11} {}",
            worker.name(),
            worker.address(),
            server.stdout_so_far().trim()
        );
    }
    let program = install.program("pi").display().to_string();
    println!("\n{}$ muster launch -- {program} 400000000", cluster.launcher.name());
    let output =
        cluster.launcher.run(run_muster(["launch", "--", &program, "400000000"]), LIMIT)?;
    print!("{}", output.stderr);
    print!("{}", output.stdout);
    println!("\nexit code {} after {:.2} s", output.code(), output.elapsed.as_secs_f64());
    if output.success() { Ok(()) } else { Err("the job failed".into()) }
}
