//! What `muster hosts` prints.
//!
//! Pure. Must not look anything up. The hostfile formats can be read back by
//! [`hostfile::parse`](super::hostfile::parse).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;

use super::HostSpec;
use super::locate::Located;
use super::source::Source;

/// The schema of [`Format::Json`]; fields are added to it, never changed.
pub const SCHEMA: &str = "muster-hosts/1";

/// What the table says of hosts without a number of slots: only they themselves can tell.
const UNCOUNTED: &str = "slots not listed: `muster launch` takes --slots, else the host's GPUs or MIG \
    instances, else its CPU limit, and says which\n";

/// A way to print hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs (schema muster-hosts/1)
    Json,
    /// Open MPI's hostfile; hosts not found are in it, each after a comment that says why
    #[value(name = "openmpi")]
    OpenMpi,
    /// Hydra's hostfile, which knows names and slots only; hosts not found likewise
    Hydra,
    /// What Horovod's discovery script prints: host:slots, only hosts that are there now
    Horovod,
}

/// The text, ending with a newline unless it is empty.
#[must_use]
pub fn render(format: Format, source: &Source, hosts: &[Located]) -> String {
    match format {
        Format::Table => table(source, hosts),
        Format::Json => json(source, hosts),
        Format::OpenMpi => lines(hosts, open_mpi),
        Format::Hydra => lines(hosts, hydra),
        Format::Horovod => {
            let there = hosts.iter().filter(|found| found.addresses.is_ok());
            there.map(|found| hydra(&found.host) + "\n").collect()
        }
    }
}

fn lines(hosts: &[Located], line: fn(&HostSpec) -> String) -> String {
    let mut text = String::new();
    for found in hosts {
        if let Some(reason) = reason(found) {
            let _ = writeln!(text, "# {reason}");
        }
        text.push_str(&line(&found.host));
        text.push('\n');
    }
    text
}

/// On one line, whatever a path in it holds.
fn reason(found: &Located) -> Option<String> {
    let error = found.addresses.as_ref().err()?;
    Some(format!("not found: {error}").replace(char::is_control, " "))
}

fn open_mpi(host: &HostSpec) -> String {
    let mut line = host.name.to_string();
    let mut attribute = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(line, " {key}={value}");
        }
    };
    attribute("slots", host.slots.map(|slots| slots.to_string()));
    attribute("max_slots", host.max_slots.map(|slots| slots.to_string()));
    attribute("port", host.port.map(|port| port.to_string()));
    attribute("user_name", host.user.clone());
    line
}

fn hydra(host: &HostSpec) -> String {
    let name = host.name.as_str();
    match host.slots {
        Some(slots) if name.parse::<Ipv6Addr>().is_ok() => format!("[{name}]:{slots}"),
        Some(slots) => format!("{name}:{slots}"),
        None => name.to_owned(),
    }
}

fn table(source: &Source, hosts: &[Located]) -> String {
    fn cell<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let column = |title: &str, cell: &dyn Fn(&Located) -> String| -> Vec<String> {
        std::iter::once(title.to_owned()).chain(hosts.iter().map(cell)).collect()
    };
    let where_it_is = |found: &Located| match (&found.addresses, reason(found)) {
        (Ok(addresses), _) => joined(addresses),
        (Err(_), reason) => cell(reason),
    };
    let optional = [
        column("MAX", &|found| cell(found.host.max_slots)),
        column("PORT", &|found| cell(found.host.port)),
        column("USER", &|found| cell(found.host.user.clone())),
    ];
    let mut columns = vec![
        column("HOST", &|found| found.host.name.to_string()),
        column("SLOTS", &|found| cell(found.host.slots)),
    ];
    let says_something = |column: &Vec<String>| column.iter().skip(1).any(|cell| cell != "-");
    columns.extend(optional.into_iter().filter(says_something));
    columns.push(column("ADDRESSES", &where_it_is));

    let uncounted = hosts.iter().any(|found| found.host.slots.is_none());
    let note = if uncounted { UNCOUNTED } else { "" };
    format!("hosts from {source}\n{}{note}", crate::text::columns(&columns))
}

fn joined(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Serialize)]
struct Page<'h> {
    schema: &'static str,
    source: String,
    hosts: Vec<Row<'h>>,
}

#[derive(Serialize)]
struct Row<'h> {
    name: &'h str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_slots: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'h str>,
    addresses: &'h [IpAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn json(source: &Source, hosts: &[Located]) -> String {
    let hosts = hosts.iter().map(row).collect();
    let page = Page { schema: SCHEMA, source: source.to_string(), hosts };
    // Numbers, strings and lists of them: there is nothing in it that JSON cannot say.
    serde_json::to_string_pretty(&page).map(|text| text + "\n").unwrap_or_default()
}

fn row(found: &Located) -> Row<'_> {
    let Located { host, addresses } = found;
    Row {
        name: host.name.as_str(),
        slots: host.slots.map(u32::from),
        max_slots: host.max_slots.map(u32::from),
        port: host.port,
        user: host.user.as_deref(),
        addresses: addresses.as_deref().unwrap_or_default(),
        error: addresses.as_ref().err().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests;
