//! `muster explain`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::{ExplainArgs, Format};
use crate::exit::{Class, Explain, Failure};
use crate::outcome::scan::log::{self, Log, Read};
use crate::outcome::{Facts, Scanner, advice, classify, render, report};
use crate::text::give;

/// Explains a code, or a log.
pub(super) fn run(args: &ExplainArgs) -> Result<Class, Failure> {
    let text = match (&args.log, &args.word) {
        (Some(path), _) => explain_log(path, args)?,
        (None, Some(word)) => advice::about(word).ok_or(ExplainError::Word(word.clone()))?,
        (None, None) if args.format == Format::Markdown => advice::markdown(),
        (None, None) => advice::table(),
    };
    give(&text)?;
    Ok(Class::Ok)
}

fn explain_log(path: &Path, args: &ExplainArgs) -> Result<String, Failure> {
    let rules = Arc::new(crate::config::launch::rules(&args.rules)?);
    let read = read_log(path, Scanner::new(Arc::clone(&rules)))
        .map_err(|error| ExplainError::Read { path: path.to_owned(), error })?;
    let facts = Facts {
        mpirun: args.status.map(log::status).or(read.exit),
        findings: read.findings,
        ..Facts::default()
    };
    let verdict = classify(&facts, &rules, args.exit_code);
    match args.format {
        Format::Json => Ok(report::json(&verdict).map_err(ExplainError::Json)?),
        Format::Text | Format::Markdown => Ok(render::block(&verdict, io::stdout().is_terminal())),
    }
}

fn read_log(path: &Path, scanner: Scanner) -> io::Result<Read> {
    let mut log = Log::new(scanner);
    let mut from: Box<dyn io::Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(path)?),
    };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(log.finish()),
            read => log.feed(&buffer[..read]),
        }
    }
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("explain '{0}': it is no exit code and no class")]
    Word(String),
    #[error("read {}: {error}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("write the verdict: {0}")]
    Json(#[source] serde_json::Error),
}

impl Explain for ExplainError {
    fn class(&self) -> Class {
        match self {
            Self::Word(_) | Self::Read { .. } => Class::Config,
            Self::Json(_) => Class::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Word(_) => "`muster explain` lists them all".into(),
            Self::Read { .. } => "check the path; - reads standard input".into(),
            Self::Json(_) => "report this, with the log".into(),
        })
    }
}
