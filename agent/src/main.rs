//! The `muster` binary.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// musl's own unmaps each packet when it is freed, whose pages the kernel then clears again (docs/adr/0010).
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    muster::command::run()
}
