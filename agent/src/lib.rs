//! muster: bootstraps, supervises and explains MPI jobs from inside their containers.
//!
//! One direction; each stage takes the previous one's type and nothing reaches back:
//!
//! ```text
//! cli       words                     -> arguments     clap types, nothing else
//! config    arguments + environment   -> settings      every problem at once
//! discovery names, DNS, hostfile      -> hosts
//! readiness dial, authenticate, hello -> ready hosts   or each missing host with its reason
//! fabric    what all hosts have       -> network       variables of each MPI; pure
//! plan      ready hosts + settings    -> plan          hostfile, argv, env; pure
//! launch    plan, then events         -> responses     a pure state machine, one loop around it
//! outcome   facts + lines             -> verdict       pure; rules are data
//! exit      class                     -> exit code     the one table
//! ```
//!
//! Beside the flow: `worker` is the other end of a launch, `rsh` what mpirun calls to reach a host,
//! `rank` wraps one rank, whose lines are tagged as `output` says and take the way of `relay`; `ssh` is
//! the wire, `process` and `devices` are what they find on their machine, `command` the glue from a
//! subcommand to its stages, `image` the links and files that an image needs.

pub mod cli;
pub mod command;
pub mod config;
pub mod devices;
pub mod discovery;
pub mod exit;
pub mod fabric;
pub mod ids;
pub mod image;
pub mod launch;
pub mod outcome;
pub mod output;
pub mod plan;
pub mod process;
pub mod rank;
pub mod readiness;
pub mod relay;
pub mod rsh;
pub mod ssh;
pub mod text;
pub mod worker;

/// Version and commit.
pub const VERSION: &str = env!("MUSTER_VERSION");
