//! What a job's network asks of its environment.
//!
//! Must not know why; it is chosen before the plan, from what the hosts have.

use std::collections::BTreeMap;

use super::settings::Settings;

/// A choice of network, as far as a plan has to know it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fabric {
    /// What was chosen and why, for people; none: nothing was.
    pub line: Option<String>,
    /// What it costs, or what is not known: a sentence each.
    pub warnings: Vec<String>,
    /// What to set.
    pub wishes: Vec<Wish>,
    /// What is set outside of the launcher's environment.
    pub elsewhere: BTreeMap<String, Elsewhere>,
}

/// A variable to set where nobody has set it, nor any of its rivals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The variable.
    pub name: &'static str,
    /// Those that say the same in other words, or the contrary.
    pub rivals: &'static [&'static str],
    /// Its value.
    pub value: String,
    /// One phrase.
    pub reason: String,
}

/// A variable that is set where the launcher's environment does not show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its value.
    pub value: String,
    /// `on the mpirun line`, `in the environment of w-1`.
    pub place: String,
}

impl Fabric {
    /// Adds the variables.
    pub(super) fn apply(&self, settings: &mut Settings<'_>) {
        for Wish { name, rivals, value, reason } in &self.wishes {
            let names: Vec<&str> = [*name].into_iter().chain(rivals.iter().copied()).collect();
            let there = names.iter().find_map(|name| Some((*name, self.elsewhere.get(*name)?)));
            match there {
                Some((name, Elsewhere { value, place })) => {
                    settings.keep_as(name, value, &format!("set {place}"));
                }
                None => drop(settings.want_unless(&names, value.as_str(), reason, "")),
            }
        }
    }
}
