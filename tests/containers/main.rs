//! Promise: with the images of `images/`, jobs run in real containers as they do in the lab: each with its own address
//! and image, no root, no capability, a read-only root and a memory limit, set up as the operators do it.
//!
//! Skipped only where podman cannot run, and then says so; never in CI.

mod dropin;
mod job;
mod kube;
mod site;
