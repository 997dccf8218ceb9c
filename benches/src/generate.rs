//! A rank that prints as fast as the pipe takes it, and a reader that counts what arrives as fast as it comes.
//!
//! Must not spend time on making lines, or it would measure itself.

use std::io::{self, Read as _, Write as _};

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

/// Bytes given to one read(2): what a pipe can be made to hold.
const LARGE: usize = 1024 * 1024;

/// Prints how many lines and how many bytes stdin has, as `wc -lc` does, which reads 16 KiB at a time.
pub(crate) fn count() -> io::Result<()> {
    let mut buffer = vec![0; LARGE];
    let (mut lines, mut bytes) = (0, 0);
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut buffer)? {
            0 => break,
            read => {
                lines += memchr::memchr_iter(b'\n', &buffer[..read]).count();
                bytes += read;
            }
        }
    }
    println!("{lines} {bytes}");
    Ok(())
}
