//! A launch, from ready hosts to the end: events, the policy, and the one loop around it.
//!
//! The policy is `dispatch`, which is pure; nothing else here may decide.

pub mod announce;
pub mod dispatch;
pub mod engine;
pub mod event;
pub mod fleet;
pub mod job;
pub mod journal;
pub mod lines;
pub mod mpirun;
pub mod network;
pub mod run;
pub mod slots;
pub mod socket;
pub mod stage;
pub mod terminal;
pub mod witness;
