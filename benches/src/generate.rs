//! A rank that prints as fast as the pipe takes it.
//!
//! Must not spend time on making lines, or it would measure itself.

use std::io::{self, Write as _};

/// Flags of `bench generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many lines
    pub(crate) lines: u64,
    /// Bytes of each, its newline included
    pub(crate) length: usize,
    /// Bytes given to one write(2)
    #[arg(long, default_value_t = 64 * 1024)]
    pub(crate) block: usize,
}

/// Writes them.
pub(crate) fn run(args: &Args) -> io::Result<()> {
    let mut line = vec![b'x'; args.length.max(1)];
    line[args.length.max(1) - 1] = b'\n';
    let lines_a_block = (args.block / line.len()).max(1);
    let block = line.repeat(lines_a_block);
    let mut stdout = io::stdout().lock();
    let mut left = args.lines;
    while left > 0 {
        let lines = left.min(lines_a_block as u64);
        #[expect(clippy::cast_possible_truncation, reason = "at most lines_a_block")]
        stdout.write_all(&block[..lines as usize * line.len()])?;
        left -= lines;
    }
    stdout.flush()
}
