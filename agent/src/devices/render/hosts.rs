//! The hosts of a job side by side: a line a host, what is odd marked, then said.
//!
//! Pure. Must not compare; `compare` has done that.

use serde_json::{Value, json};

use crate::devices::compare::{FACTS, Odd, Row, values};
use crate::text::{columns, listed};

/// The form in JSON; fields are added to it, never changed. `agent/docs/devices-hosts.schema.json` tells
/// them.
pub const SCHEMA: &str = "muster-devices-hosts/1";

/// Stands behind what differs from most.
const MARK: &str = " *";

/// Hosts that a line names before it counts the others.
const NAMED: usize = 4;

/// For people. A fact that nobody knows is left out.
#[must_use]
pub fn table(rows: &[Row], odd: &[Odd]) -> String {
    let named = std::iter::once("HOST".to_owned());
    let mut all: Vec<Vec<String>> =
        vec![named.chain(rows.iter().map(|row| row.host.short().to_owned())).collect()];
    for fact in &FACTS {
        let values = values(fact, rows);
        if values.iter().flatten().all(Option::is_none) {
            continue;
        }
        let cell = |(at, value): (usize, &Option<Option<String>>)| {
            let is_odd = odd.iter().any(|odd| (odd.at, odd.fact) == (at, fact.0));
            let words = value.as_ref().map_or("", |value| value.as_deref().unwrap_or("-"));
            format!("{words}{}", if is_odd { MARK } else { "" })
        };
        let cells = values.iter().enumerate().map(cell);
        all.push(std::iter::once(fact.0.to_uppercase()).chain(cells).collect());
    }
    let mut text = columns(&all);
    let silent: Vec<&str> =
        rows.iter().filter(|row| row.report.is_none()).map(|row| row.host.short()).collect();
    if !silent.is_empty() {
        text += &format!(
            "\n{}: no muster worker serves there that tells its devices\n",
            listed(&silent, NAMED)
        );
    }
    if !odd.is_empty() {
        text.push('\n');
    }
    for line in lines(rows, odd) {
        text += &format!("* {line}\n");
    }
    text
}

/// What is odd: a line for each fact and value.
fn lines(rows: &[Row], odd: &[Odd]) -> Vec<String> {
    let mut groups: Vec<(&Odd, Vec<&str>)> = Vec::new();
    for one in odd {
        let host = rows.get(one.at).map_or("", |row| row.host.short());
        let same = |(of, _): &&mut (&Odd, _)| (of.fact, &of.value) == (one.fact, &one.value);
        match groups.iter_mut().find(same) {
            Some((_, hosts)) => hosts.push(host),
            None => groups.push((one, vec![host])),
        }
    }
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let line = |(of, hosts): &(&Odd, Vec<&str>)| {
        let (fact, value) = (of.fact, word(&of.value));
        let others = match &of.most {
            Some((most, count)) => format!("; {count} others: {}", word(most)),
            None => String::new(),
        };
        format!("{fact} of {}: {value}{others}", listed(hosts, NAMED))
    };
    groups.iter().map(line).collect()
}

/// For programs: one object.
#[must_use]
pub fn json(rows: &[Row], odd: &[Odd]) -> Value {
    let host = |row: &Row| {
        let Row { host, address, muster, report } = row;
        json!({ "host": host, "address": address, "muster": muster, "devices": report })
    };
    let odd_one = |of: &Odd| {
        let most = of.most.as_ref().and_then(|(most, _)| most.as_deref());
        let host = rows.get(of.at).map(|row| &row.host);
        json!({ "host": host, "fact": of.fact, "value": of.value, "most": most })
    };
    json!({
        "schema": SCHEMA,
        "hosts": rows.iter().map(host).collect::<Vec<Value>>(),
        "odd": odd.iter().map(odd_one).collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::compare::odd;
    use crate::devices::report::Report;

    fn row(host: &str, driver: Option<&str>) -> Row {
        let mut report = Report::default();
        report.gpus.driver = driver.map(Into::into);
        let muster = Some("1".into());
        Row { host: format!("{host}.job.svc").into(), address: None, muster, report: Some(report) }
    }

    #[test]
    fn a_line_a_host_and_what_is_odd() {
        let silent = Row { muster: None, report: None, ..row("d", None) };
        let rows = [row("a", Some("9")), row("b", Some("8")), row("c", Some("9")), silent];
        assert_eq!(
            table(&rows, &odd(&rows)),
            "\
HOST  DRIVER  MUSTER
a     9       1
b     8 *     1
c     9       1
d

d: no muster worker serves there that tells its devices

* driver of b: 8; 2 others: 9
"
        );
        let json = json(&rows, &odd(&rows));
        assert_eq!(json["hosts"][3]["devices"], Value::Null);
        assert_eq!(
            json["odd"],
            json!([{ "host": "b.job.svc", "fact": "driver", "value": "8", "most": "9" }])
        );
        let same = [row("a", None), row("b", None)];
        assert_eq!(table(&same, &odd(&same)), "HOST  MUSTER\na     1\nb     1\n");
        let two = [row("a", Some("9")), row("b", None)];
        assert!(table(&two, &odd(&two)).ends_with("* driver of a: 9\n* driver of b: none\n"));
    }
}
