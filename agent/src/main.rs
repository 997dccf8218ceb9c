//! The `muster` binary.

use std::process::ExitCode;

#[global_allocator]
static BLOCKS: muster::blocks::Blocks = muster::blocks::Blocks::new();

fn main() -> ExitCode {
    muster::command::run()
}
