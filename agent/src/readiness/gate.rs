//! How far each host is, and what to say about it.
//!
//! Pure: must not look at a clock or a socket; times are handed in.

use std::time::Duration;

use crate::exit::{Class, Explain};
use crate::ids::HostName;

/// How far a host has come at the last attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostState {
    /// Nothing tried yet.
    Unknown,
    /// DNS says that there is no such name; which ones were asked for, in the resolver's words.
    Absent(String),
    /// DNS could not be asked; the words of the resolver.
    NoName(String),
    /// DNS says that some of the names that it may have are absent, and could not be asked for others.
    HalfKnown(String),
    /// No time can give it an address: there is no name server, or this is no name.
    Unresolvable(String),
    /// It has an address and is being dialled.
    Resolved,
    /// Nothing listens on the port.
    Refused,
    /// No answer; in which stage.
    TimedOut(String),
    /// The port answers with something else than SSH.
    NotSsh,
    /// The port takes a connection and closes it during the handshake.
    Closed,
    /// It showed a host key that is not the job's.
    WrongHostKey,
    /// It does not accept the job's key.
    KeyRefused,
    /// Anything else, in the words of the failure.
    Failed(String),
    /// Ready to run ranks.
    Ready,
}

impl HostState {
    /// A few words for the progress line.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Unknown => "not tried yet".into(),
            Self::Absent(_) => "no DNS record yet".into(),
            Self::NoName(why) | Self::HalfKnown(why) | Self::Unresolvable(why) => why.clone(),
            Self::Resolved => "no answer yet".into(),
            Self::Refused => "connection refused".into(),
            Self::TimedOut(stage) => format!("timed out while {stage}"),
            Self::NotSsh => "not an SSH server".into(),
            Self::Closed => "closed the connection during the SSH handshake".into(),
            Self::WrongHostKey => "wrong host key".into(),
            Self::KeyRefused => "key refused".into(),
            Self::Failed(why) => why.clone(),
            Self::Ready => "ready".into(),
        }
    }

    /// The words for the end of the wait, with what helps to find the cause.
    fn last_words(&self) -> String {
        match self {
            Self::Absent(why) => format!("no DNS record: {why}"),
            other => other.words(),
        }
    }

    fn hint(&self, port: u16) -> &'static str {
        match self {
            Self::Unknown | Self::Absent(_) => {
                "is the pod running, and its headless service there? A name appears only once its \
                 pod is Ready unless the service sets publishNotReadyAddresses"
            }
            Self::NoName(_) => {
                "check the cluster's DNS pods and that a NetworkPolicy lets this pod reach port \
                 53, UDP and TCP"
            }
            Self::HalfKnown(_) => {
                "is the pod running and Ready? If so, the cluster's DNS is overloaded or cut off; a \
                 domain in the search list of /etc/resolv.conf whose servers do not answer shows so too"
            }
            Self::Unresolvable(_) => {
                "give the pod a dnsPolicy with a name server, or list the hosts by name or address \
                 as they are"
            }
            Self::Refused if port == 22 => "no server listens on port 22 there; muster's is 2222",
            Self::Refused => "does `muster worker` run there, on this port?",
            Self::Resolved | Self::TimedOut(_) => {
                "does a NetworkPolicy or firewall drop the packets, or is the node gone?"
            }
            Self::NotSsh => "another service has this port; see --port on both sides",
            Self::Closed => {
                "another service or a proxy has this port (see --port on both sides), or a stock \
                 sshd there is at its MaxStartups"
            }
            Self::WrongHostKey => {
                "a stock sshd shows its own host key: set its HostKey to the job's key, or use \
                 --host-key=known-hosts; else another job's worker answers at this address"
            }
            Self::KeyRefused => "the pods hold different keys: do both mount this job's secret?",
            Self::Failed(_) | Self::Ready => "see the worker's log",
        }
    }

    fn is_key_trouble(&self) -> bool {
        matches!(self, Self::WrongHostKey | Self::KeyRefused)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    name: HostName,
    port: u16,
    state: HostState,
    since: Duration,
}

/// The states of all hosts. Times are since the wait began.
#[derive(Debug, Clone)]
pub struct Gate {
    entries: Vec<Entry>,
}

/// Key trouble that has lasted so long will not pass by waiting.
const KEY_PATIENCE: Duration = Duration::from_secs(30);

/// Hosts that a progress line names, at most.
const NAMED: usize = 3;

impl Gate {
    /// All hosts unknown.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = (HostName, u16)>) -> Self {
        let entry =
            |(name, port)| Entry { name, port, state: HostState::Unknown, since: Duration::ZERO };
        Self { entries: hosts.into_iter().map(entry).collect() }
    }

    /// Notes the state of the host at `index`; the time counts from when it last changed.
    ///
    /// Ready is the last state of an attempt: older news may arrive after it, by another way. Only
    /// [`lose`](Self::lose) ends it.
    pub fn set(&mut self, index: usize, state: HostState, now: Duration) {
        let entry = self.entries.get_mut(index);
        if let Some(entry) = entry.filter(|entry| entry.state != HostState::Ready) {
            let same_kind = std::mem::discriminant(&entry.state) == std::mem::discriminant(&state);
            // Between attempts a host is Resolved for a moment; the trouble before it is what lasts.
            if state == HostState::Resolved && entry.state != HostState::Unknown {
                return;
            }
            if !same_kind {
                entry.since = now;
            }
            entry.state = state;
        }
    }

    /// Notes that a host that was ready is no longer there; it can become ready again.
    pub fn lose(&mut self, index: usize, reason: &str, now: Duration) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = HostState::Failed(format!("was ready, then lost: {reason}"));
            entry.since = now;
        }
    }

    /// Hosts that are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state == HostState::Ready).count()
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ready() == self.entries.len()
    }

    /// Whether waiting longer is of no use: a name cannot be resolved here, or a host's key trouble
    /// has lasted.
    #[must_use]
    pub fn is_hopeless(&self, now: Duration) -> bool {
        let hopeless = |entry: &Entry| match &entry.state {
            HostState::Unresolvable(_) => true,
            state => state.is_key_trouble() && now.saturating_sub(entry.since) >= KEY_PATIENCE,
        };
        self.entries.iter().any(hopeless)
    }

    /// `12/16 workers ready; worker-3: no DNS record yet (14 s); worker-7: connection refused (2 s)`.
    #[must_use]
    pub fn progress(&self, now: Duration) -> String {
        self.line(|entry| format!(" ({} s)", now.saturating_sub(entry.since).as_secs()))
    }

    /// The same without times: what tells a change from the passing of time.
    #[must_use]
    pub fn picture(&self) -> String {
        self.line(|_| String::new())
    }

    fn line(&self, time: impl Fn(&Entry) -> String) -> String {
        let mut line = format!("{}/{} workers ready", self.ready(), self.entries.len());
        let missing: Vec<&Entry> = self.missing().collect();
        for entry in missing.iter().take(NAMED) {
            let (name, words) = (entry.name.short(), entry.state.words());
            line += &format!("; {name}: {words}{}", time(entry));
        }
        if missing.len() > NAMED {
            line += &format!("; and {} more", missing.len() - NAMED);
        }
        line
    }

    /// What the wait failed with, after `waited`.
    #[must_use]
    pub fn give_up(&self, waited: Duration) -> NotReady {
        let missing = self
            .missing()
            .map(|entry| Missing {
                host: entry.name.clone(),
                state: entry.state.clone(),
                hint: entry.state.hint(entry.port),
            })
            .collect();
        NotReady { missing, hosts: self.entries.len(), waited }
    }

    fn missing(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.state != HostState::Ready)
    }
}

/// A host that did not become ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Which one.
    pub host: HostName,
    /// How far it came.
    pub state: HostState,
    hint: &'static str,
}

/// Not every host became ready in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct NotReady {
    /// Each host that is missing.
    pub missing: Vec<Missing>,
    hosts: usize,
    waited: Duration,
}

/// Missing hosts that are listed one by one, at most.
const LISTED: usize = 32;

impl NotReady {
    fn text(&self) -> String {
        let ready = self.hosts - self.missing.len();
        let mut text = format!(
            "reach all workers: {ready}/{} ready after {} s",
            self.hosts,
            self.waited.as_secs()
        );
        for missing in self.missing.iter().take(LISTED) {
            text += &format!("\n  {}: {}", missing.host, missing.state.last_words());
        }
        if self.missing.len() > LISTED {
            text += &format!("\n  and {} more", self.missing.len() - LISTED);
        }
        text
    }
}

impl Explain for NotReady {
    fn class(&self) -> Class {
        let unresolvable = |missing: &Missing| matches!(missing.state, HostState::Unresolvable(_));
        if self.missing.iter().any(unresolvable) {
            return Class::Config;
        }
        if self.missing.iter().any(|missing| missing.state.is_key_trouble()) {
            return Class::AuthFailed;
        }
        let unnamed = |missing: &Missing| {
            use HostState::{Absent, HalfKnown, NoName, Unknown};
            matches!(missing.state, Absent(_) | NoName(_) | HalfKnown(_) | Unknown)
        };
        if self.missing.iter().all(unnamed) {
            return Class::NameResolution;
        }
        Class::WorkersNotReady
    }

    fn hint(&self) -> Option<String> {
        // One hint for each kind of trouble, in the order of the hosts.
        let mut hints: Vec<&str> = Vec::new();
        for missing in &self.missing {
            if !hints.contains(&missing.hint) {
                hints.push(missing.hint);
            }
        }
        Some(hints.join("\n      "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn gate(states: &[(&str, HostState, u64)]) -> Gate {
        let mut gate = Gate::new(states.iter().map(|(name, ..)| (HostName::from(*name), 2222)));
        for (index, (_, state, since)) in states.iter().enumerate() {
            gate.set(index, state.clone(), seconds(*since));
        }
        gate
    }

    #[test]
    fn the_progress_line_names_what_is_waited_for() {
        let no_name = HostState::Absent("no such name (asked for worker-1.job.)".into());
        let gate = gate(&[
            ("worker-0.job", HostState::Ready, 1),
            ("worker-1.job", no_name, 1),
            ("worker-2.job", HostState::Refused, 9),
        ]);
        assert_eq!(
            gate.progress(seconds(15)),
            "1/3 workers ready; worker-1: no DNS record yet (14 s); \
             worker-2: connection refused (6 s)"
        );
    }

    #[test]
    fn a_state_lasts_through_the_attempts_that_repeat_it() {
        let mut gate = gate(&[("w", HostState::Refused, 2)]);
        gate.set(0, HostState::Resolved, seconds(5));
        gate.set(0, HostState::Refused, seconds(6));
        assert_eq!(gate.progress(seconds(8)), "0/1 workers ready; w: connection refused (6 s)");
    }

    #[test]
    fn ready_lasts_until_the_host_is_lost() {
        let mut gate = gate(&[("w", HostState::Ready, 2)]);
        gate.set(0, HostState::Refused, seconds(3));
        assert!(gate.is_open());
        gate.lose(0, "no sign of life", seconds(4));
        let line = "0/1 workers ready; w: was ready, then lost: no sign of life (1 s)";
        assert_eq!(gate.progress(seconds(5)), line);
        gate.set(0, HostState::Ready, seconds(6));
        assert!(gate.is_open());
    }

    #[test]
    fn the_class_follows_from_what_is_missing() {
        let no_name = || HostState::Absent("no such name".into());
        for (states, class) in [
            (vec![("a", HostState::Ready, 0), ("b", no_name(), 0)], Class::NameResolution),
            (vec![("a", HostState::Refused, 0), ("b", no_name(), 0)], Class::WorkersNotReady),
            (vec![("a", HostState::KeyRefused, 0), ("b", no_name(), 0)], Class::AuthFailed),
            (vec![("a", HostState::NotSsh, 0)], Class::WorkersNotReady),
            (vec![("a", HostState::Unresolvable("no".into()), 0)], Class::Config),
        ] {
            let error = gate(&states).give_up(seconds(60));
            assert_eq!(error.class(), class, "{states:?}");
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
        }
    }

    #[test]
    fn only_lasting_key_trouble_is_hopeless() {
        let gate = gate(&[("a", HostState::KeyRefused, 10), ("b", HostState::Refused, 0)]);
        assert!(!gate.is_hopeless(seconds(39)));
        assert!(gate.is_hopeless(seconds(40)));
    }

    #[test]
    fn a_name_that_cannot_be_resolved_is_hopeless_at_once() {
        let unresolvable = HostState::Unresolvable("no name server".into());
        assert!(gate(&[("a", unresolvable, 1)]).is_hopeless(seconds(1)));
    }
}
