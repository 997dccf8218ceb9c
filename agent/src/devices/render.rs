//! What `muster devices` prints.
//!
//! Pure. Must not read anything.

use super::report::Report;

pub mod hosts;
mod prometheus;
mod table;

/// A way to print a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs: one object a line (schema muster-devices/1)
    Json,
    /// For node-exporter's text files and the like
    Prometheus,
}

/// The text, ending with a newline.
#[must_use]
pub fn render(format: Format, report: &Report) -> String {
    match format {
        Format::Table => table::render(report),
        // A report is made of strings, numbers, lists and maps with string keys.
        Format::Json => serde_json::to_string(report).unwrap_or_default() + "\n",
        Format::Prometheus => prometheus::render(report),
    }
}
