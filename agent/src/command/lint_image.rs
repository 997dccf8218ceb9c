//! `muster lint-image`.

use crate::cli::{LintFormat, LintImageArgs};
use crate::config::env::Environment;
use crate::exit::{Class, Failure};
use crate::image::install::own_file;
use crate::image::lint::{Image, report};
use crate::text::give;

/// Prints what was found; 0 where jobs would run.
pub(super) fn run(args: &LintImageArgs) -> Result<Class, Failure> {
    let image = Image { root: "/".into(), env: Environment::from_process(), muster: own_file()? };
    let report = report(&image);
    match args.format {
        LintFormat::Text => give(&report.text())?,
        LintFormat::Json => {
            let json = serde_json::to_string_pretty(&report).unwrap_or_default();
            give(&(json + "\n"))?;
        }
    }
    Ok(if report.fine { Class::Ok } else { Class::Config })
}
