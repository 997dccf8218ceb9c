//! The variables of a launch as they are gathered: what was set stays, what is missing is added.
//!
//! Must not know any variable's meaning; the files of the families do.

use super::Setting;
use crate::config::env::Environment;

/// Why a variable keeps its value.
const ALREADY: &str = "already set";

/// What the variables of a family make of the launch, theirs and ours together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    /// The ranks will fill the hosts slot by slot.
    pub(super) by_slot: bool,
    /// mpirun will call muster to reach each host, and nothing else.
    pub(super) agent_is_ours: bool,
}

/// Settings in the order of printing, and remarks for the reader.
pub(super) struct Settings<'a> {
    env: &'a Environment,
    list: Vec<Setting>,
    notes: Vec<String>,
}

impl<'a> Settings<'a> {
    pub(super) const fn new(env: &'a Environment) -> Self {
        Self { env, list: Vec::new(), notes: Vec::new() }
    }

    /// What is set in the environment of the launch.
    pub(super) const fn env(&self) -> &'a Environment {
        self.env
    }

    /// Sets a variable that nobody set; true where the value is ours.
    pub(super) fn want(&mut self, name: &str, value: impl Into<String>, reason: &str) -> bool {
        self.want_unless(&[name], value, reason, "")
    }

    /// Sets `names[0]` unless it or one of its other spellings is set; true where the value is ours.
    ///
    /// `otherwise` follows "already set" where it is not empty: what the user's choice means.
    pub(super) fn want_unless(
        &mut self,
        names: &[&str],
        value: impl Into<String>,
        reason: &str,
        otherwise: &str,
    ) -> bool {
        let kept: Vec<&str> =
            names.iter().copied().filter(|name| self.env.get(name).is_some()).collect();
        for name in &kept {
            self.keep(name, otherwise);
        }
        if let (true, Some(name)) = (kept.is_empty(), names.first()) {
            self.put(name, value, reason);
        }
        kept.is_empty()
    }

    /// Sets a variable whatever it was.
    pub(super) fn put(&mut self, name: &str, value: impl Into<String>, reason: &str) {
        self.push(name, value.into(), false, reason.to_owned());
    }

    /// Lists a variable that stays as it is, if it is set; `meaning` follows "already set".
    pub(super) fn keep(&mut self, name: &str, meaning: &str) {
        let listed = self.list.iter().any(|setting| setting.name == name && setting.kept);
        if let (Some(value), false) = (self.env.get(name), listed) {
            let reason = match meaning {
                "" => ALREADY.to_owned(),
                meaning => format!("{ALREADY}; {meaning}"),
            };
            self.push(name, value.to_owned(), true, reason);
        }
    }

    /// Lists a variable that was set where this environment does not show it, once.
    pub(super) fn keep_as(&mut self, name: &str, value: &str, reason: &str) {
        if self.list.iter().all(|setting| setting.name != name) {
            self.push(name, value.to_owned(), true, reason.to_owned());
        }
    }

    /// A remark about the whole launch.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The settings and the remarks.
    pub(super) fn finish(self) -> (Vec<Setting>, Vec<String>) {
        (self.list, self.notes)
    }

    fn push(&mut self, name: &str, value: String, kept: bool, reason: String) {
        debug_assert!(self.list.iter().all(|setting| setting.name != name), "{name} decided twice");
        self.list.push(Setting { name: name.to_owned(), value, kept, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;
    use crate::config::env::Environment;

    #[test]
    fn what_is_set_stays() {
        let env: Environment =
            [("B", "theirs"), ("E", ""), ("OLD", "theirs")].into_iter().collect();
        let mut settings = Settings::new(&env);
        assert!(settings.want("A", "ours", "why"));
        assert!(!settings.want("B", "ours", "why"));
        assert!(!settings.want_unless(&["NEW", "OLD"], "ours", "why", "so"));
        assert!(!settings.want("E", "ours", "why"));
        settings.keep("ABSENT", "");
        let (list, _) = settings.finish();
        let seen: Vec<_> = list
            .iter()
            .map(|s| (s.name.as_str(), s.value.as_str(), s.kept, s.reason.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("A", "ours", false, "why"),
                ("B", "theirs", true, "already set"),
                ("OLD", "theirs", true, "already set; so"),
                ("E", "", true, "already set"),
            ]
        );
    }
}
