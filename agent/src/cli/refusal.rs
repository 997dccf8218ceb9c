//! What is wrong with a command line, in clap's words and our form.
//!
//! Must not print it. Looks at a variable of the environment only where clap has read it.

use clap::error::{ContextKind, ContextValue};

use super::definition;
use crate::exit::Explain;
use crate::output::tag::FormatError;
use crate::rank::RankSetError;

/// Its lines, and a hint.
#[must_use]
pub fn words(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more"));
    let words = lines.collect::<Vec<_>>().join("\n");
    let from_variable =
        variable(error).map(|name| format!("the value is that of {name} in the environment"));
    let hint = from_variable.or_else(|| own_hint(error));
    let hint = hint.as_deref().unwrap_or("--help shows what can be given, with examples");
    words + "\nhint: " + hint
}

/// What the error that refused a value knows of the right ones.
fn own_hint(error: &clap::Error) -> Option<String> {
    let source = std::error::Error::source(error)?;
    let by_format = source.downcast_ref::<FormatError>().map(Explain::hint);
    by_format.or_else(|| source.downcast_ref::<RankSetError>().map(Explain::hint)).flatten()
}

/// The variable that a bad value came from; clap's own words name the flag that was not given.
fn variable(error: &clap::Error) -> Option<String> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg)?.split(' ').next()?.strip_prefix("--")?;
    let value = context(ContextKind::InvalidValue)?;
    let cli = definition();
    let mut arguments = cli.get_subcommands().flat_map(clap::Command::get_arguments);
    let name = arguments.find(|argument| argument.get_long() == Some(flag))?.get_env()?;
    (std::env::var_os(name)? == *value).then(|| name.to_string_lossy().into_owned())
}
