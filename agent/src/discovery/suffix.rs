//! Which full names to ask for a short one, and what the answers teach.
//!
//! Pure. Must not ask: [`dns`](super::dns) does, and reports back.
//!
//! Under Kubernetes a name such as `pi-worker-3.pi.default.svc` has fewer dots than `ndots` (5), so a
//! resolver walks four to eight suffixes, two queries each, before it finds it, and all of them again
//! for every worker and every attempt. The workers of a job share one suffix. So the first host that
//! is found teaches it, and every later host is asked under it alone: one query for each address
//! family. A pod that is not there yet costs no more.
//!
//! What was learnt can be wrong: a host may need another suffix, or a wildcard in the company's domain
//! answered for a pod that was not there yet. A host that is asked for again and again is not ready
//! under what we know, so each [`WALK_EVERY`]th of its attempts walks the whole list, and what that
//! finds counts for the host, and for all hosts where it shows that the teacher was misled.

use std::collections::HashMap;
use std::sync::Arc;

use super::resolv_conf::ResolvConf;
use crate::ids::HostName;

/// At which of a host's attempts the whole list is walked.
pub const WALK_EVERY: u32 = 4;

/// A search suffix without dots at its ends; empty for the name as it stands.
pub type Suffix = Arc<str>;

/// A full name to ask for and the suffix that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Absolute: with a dot at its end.
    pub name: String,
    /// What was appended.
    pub suffix: Suffix,
}

impl Candidate {
    fn new(name: &str, suffix: &Suffix) -> Self {
        let dot = if suffix.is_empty() { "" } else { "." };
        Self { name: format!("{name}{dot}{suffix}."), suffix: Arc::clone(suffix) }
    }
}

/// What to ask for one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// The full name is known or learnt.
    Direct(Candidate),
    /// In this order, until one answers.
    Walk(Vec<Candidate>),
}

#[derive(Debug, Default)]
struct Host {
    /// Under which it was found last.
    suffix: Option<Suffix>,
    /// How often it was asked for since a suffix is learnt.
    attempts: u32,
}

/// The search list and what has been learnt of it.
#[derive(Debug)]
pub struct Suffixes {
    search: Vec<Suffix>,
    ndots: usize,
    learnt: Option<Suffix>,
    hosts: HashMap<HostName, Host>,
}

impl Suffixes {
    /// Nothing learnt yet.
    #[must_use]
    pub fn new(conf: &ResolvConf) -> Self {
        let search = conf.search.iter().map(|suffix| Suffix::from(suffix.as_str())).collect();
        Self { search, ndots: conf.ndots, learnt: None, hosts: HashMap::new() }
    }

    /// Whether the next host will be asked directly.
    #[must_use]
    pub fn has_learnt(&self) -> bool {
        self.learnt.is_some()
    }

    /// What to ask for this host now; counts as an attempt.
    pub fn course(&mut self, host: &HostName) -> Course {
        let text = host.as_str();
        if let Some(absolute) = text.strip_suffix('.') {
            return Course::Direct(Candidate::new(absolute, &Suffix::default()));
        }
        let Some(learnt) = &self.learnt else { return Course::Walk(self.walk(text)) };
        let known = self.hosts.entry(host.clone()).or_default();
        known.attempts = known.attempts.wrapping_add(1);
        if known.attempts.is_multiple_of(WALK_EVERY) {
            return Course::Walk(self.walk(text));
        }
        Course::Direct(Candidate::new(text, known.suffix.as_ref().unwrap_or(learnt)))
    }

    /// The host was found under this suffix.
    pub fn found(&mut self, host: &HostName, suffix: &Suffix) {
        if host.as_str().ends_with('.') {
            return;
        }
        let known = self.hosts.entry(host.clone()).or_default();
        let before = known.suffix.replace(Arc::clone(suffix));
        // A host that has changed from the learnt suffix to another was never at home under it.
        if self.learnt.is_none() || (before.is_some() && before == self.learnt) {
            self.learnt = Some(Arc::clone(suffix));
        }
    }

    /// resolv.conf(5): a name with fewer dots than `ndots` comes last as it stands, others first.
    fn walk(&self, name: &str) -> Vec<Candidate> {
        let bare = Suffix::default();
        let as_it_stands = std::iter::once(&bare);
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let order: Vec<&Suffix> = if dots >= self.ndots {
            as_it_stands.chain(&self.search).collect()
        } else {
            self.search.iter().chain(as_it_stands).collect()
        };
        order.into_iter().map(|suffix| Candidate::new(name, suffix)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Course, Suffixes, WALK_EVERY};
    use crate::discovery::resolv_conf;
    use crate::ids::HostName;

    fn suffixes(search: &str, ndots: usize) -> Suffixes {
        let text = format!("nameserver 10.0.0.1\nsearch {search}\noptions ndots:{ndots}\n");
        Suffixes::new(&resolv_conf::parse(&text, Path::new("r")).unwrap())
    }

    fn asked(suffixes: &mut Suffixes, host: &str) -> Vec<String> {
        match suffixes.course(&HostName::from(host)) {
            Course::Direct(one) => vec![one.name],
            Course::Walk(several) => several.into_iter().map(|one| one.name).collect(),
        }
    }

    #[test]
    fn the_list_is_walked_as_resolvers_walk_it() {
        for (search, ndots, host, expected) in [
            ("a b", 5, "w.j.n.svc", &["w.j.n.svc.a.", "w.j.n.svc.b.", "w.j.n.svc."][..]),
            ("a b", 1, "w", &["w.a.", "w.b.", "w."]),
            ("a b", 1, "w.j", &["w.j.", "w.j.a.", "w.j.b."]),
            ("a b", 0, "w", &["w.", "w.a.", "w.b."]),
            ("a b", 5, "w.j.", &["w.j."]),
            ("", 5, "w", &["w."]),
        ] {
            assert_eq!(asked(&mut suffixes(search, ndots), host), expected, "{host} {ndots}");
        }
    }

    #[test]
    fn the_first_host_found_teaches_the_suffix() {
        let mut suffixes = suffixes("a b c", 5);
        for _ in 0..2 * WALK_EVERY {
            assert_eq!(asked(&mut suffixes, "w-0").len(), 4, "nothing learnt: the whole list");
        }
        suffixes.found(&"w-1".into(), &"b".into());
        for host in ["w-0", "w-1", "w-2"] {
            assert_eq!(asked(&mut suffixes, host), [format!("{host}.b.")]);
        }
        suffixes.found(&"other.".into(), &"".into());
        assert_eq!(asked(&mut suffixes, "w-3"), ["w-3.b."], "absolute names teach nothing");
    }

    #[test]
    fn a_host_asked_for_again_has_the_list_walked_now_and_then() {
        let mut suffixes = suffixes("a b c", 5);
        suffixes.found(&"w-1".into(), &"b".into());
        let host = HostName::from("w-0");
        let counts: Vec<usize> =
            (0..2 * WALK_EVERY).map(|_| asked(&mut suffixes, "w-0").len()).collect();
        assert_eq!(counts, [1, 1, 1, 4, 1, 1, 1, 4]);
        suffixes.found(&host, &"c".into());
        assert_eq!(asked(&mut suffixes, "w-0"), ["w-0.c."], "it keeps its own");
        assert_eq!(asked(&mut suffixes, "w-2"), ["w-2.b."], "the others keep theirs");
    }

    #[test]
    fn a_misled_teacher_is_unlearnt() {
        let mut suffixes = suffixes("svc.cluster.local corp.example", 5);
        // The pod was not there yet, but *.corp.example answers for everything.
        let host = HostName::from("w-0");
        suffixes.found(&host, &"corp.example".into());
        assert_eq!(asked(&mut suffixes, "w-1"), ["w-1.corp.example."]);
        suffixes.found(&host, &"svc.cluster.local".into());
        assert_eq!(asked(&mut suffixes, "w-1"), ["w-1.svc.cluster.local."]);
    }
}
