//! muster: bootstraps, supervises and explains MPI jobs from inside their containers.
//!
//! One direction; each stage takes the previous one's type and nothing reaches back:
//!
//! ```text
//! config    args + environment        -> settings      every problem at once
//! discovery names, DNS, hostfile      -> hosts
//! readiness dial, authenticate, hello -> ready hosts   or each missing host with its reason
//! plan      ready hosts + settings    -> plan          hostfile, argv, env; pure
//! process   plan                      -> child
//! rank      bytes                     -> tagged lines  of one program, as `output` makes them
//! launch    events                    -> responses     a pure state machine, one loop around it
//! exit      class                     -> exit code     the one table
//! ```

pub mod cli;
pub mod command;
pub mod config;
pub mod devices;
pub mod discovery;
pub mod exit;
pub mod ids;
pub mod launch;
pub mod output;
pub mod plan;
pub mod process;
pub mod rank;
pub mod readiness;
pub mod rsh;
pub mod ssh;
pub mod text;
pub mod worker;
