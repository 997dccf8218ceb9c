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
//! Before that, this machine's own full name tells which suffix to try first: its peers' names differ
//! from it in the first label.
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

/// A name that a host may have, as one of the pods behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The host's full name, in lower case and without a dot at its end.
    pub name: String,
    /// The same without its first label: the Service's name.
    pub service: String,
    /// The suffix that makes it.
    pub suffix: Suffix,
}

impl Place {
    /// A Service in Kubernetes has at least a name and a namespace; a name of one label is at the
    /// root, or a domain's own.
    fn of(candidate: &Candidate) -> Option<Self> {
        let name = candidate.name.trim_end_matches('.').to_ascii_lowercase();
        let (_, service) = name.split_once('.').filter(|(_, domain)| domain.contains('.'))?;
        let (service, suffix) = (service.to_owned(), Arc::clone(&candidate.suffix));
        Some(Self { name, service, suffix })
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
    /// This machine's full name without its first label.
    home: Option<String>,
    learnt: Option<Suffix>,
    hosts: HashMap<HostName, Host>,
}

impl Suffixes {
    /// Nothing learnt yet. `home` is what follows the first label of this machine's full name.
    #[must_use]
    pub fn new(conf: &ResolvConf, home: Option<String>) -> Self {
        let search = conf.search.iter().map(|suffix| Suffix::from(suffix.as_str())).collect();
        Self { search, ndots: conf.ndots, home, learnt: None, hosts: HashMap::new() }
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
        let likely = self.next_to_us(text).unwrap_or_else(|| Arc::clone(learnt));
        let known = self.hosts.entry(host.clone()).or_default();
        known.attempts = known.attempts.wrapping_add(1);
        if known.attempts.is_multiple_of(WALK_EVERY) {
            return Course::Walk(self.walk(text));
        }
        Course::Direct(Candidate::new(text, known.suffix.as_ref().unwrap_or(&likely)))
    }

    /// The Services that the host may be behind, most likely first; one alone where it is known.
    #[must_use]
    pub fn places(&self, host: &HostName) -> Vec<Place> {
        let text = host.as_str();
        if let Some(absolute) = text.strip_suffix('.') {
            return Place::of(&Candidate::new(absolute, &Suffix::default())).into_iter().collect();
        }
        let own = self.hosts.get(host).and_then(|known| known.suffix.clone());
        match own.or_else(|| self.next_to_us(text)).or_else(|| self.learnt.clone()) {
            Some(suffix) => Place::of(&Candidate::new(text, &suffix)).into_iter().collect(),
            None => self.walk(text).iter().filter_map(Place::of).collect(),
        }
    }

    /// The suffix that makes a name with its Service in it that of a peer of this machine.
    fn next_to_us(&self, name: &str) -> Option<Suffix> {
        let first = self.walk(name).into_iter().next()?;
        let place = Place::of(&first).filter(|place| self.is_home(&place.service))?;
        name.contains('.').then_some(place.suffix)
    }

    /// Whether this machine has a name below this one.
    #[must_use]
    pub fn is_home(&self, service: &str) -> bool {
        self.home.as_deref() == Some(service)
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

    /// resolv.conf(5): a name with fewer dots than `ndots` comes last as it stands, others first; but
    /// before all of them the one that makes the host a peer of this machine.
    fn walk(&self, name: &str) -> Vec<Candidate> {
        let bare = Suffix::default();
        let as_it_stands = std::iter::once(&bare);
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let order: Vec<&Suffix> = if dots >= self.ndots {
            as_it_stands.chain(&self.search).collect()
        } else {
            self.search.iter().chain(as_it_stands).collect()
        };
        let mut walk: Vec<Candidate> =
            order.into_iter().map(|suffix| Candidate::new(name, suffix)).collect();
        let is_peer = |candidate: &Candidate| {
            Place::of(candidate).is_some_and(|place| self.is_home(&place.service))
        };
        if let Some(at) = walk.iter().position(is_peer) {
            walk[..=at].rotate_right(1);
        }
        walk
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
        Suffixes::new(&resolv_conf::parse(&text, Path::new("r")).unwrap(), None)
    }

    const SEARCH: &str = "n.svc.c.l svc.c.l c.l corp.example";

    fn at_home(home: &str) -> Suffixes {
        Suffixes { home: Some(home.to_owned()), ..suffixes(SEARCH, 5) }
    }

    fn services(suffixes: &Suffixes, host: &str) -> Vec<String> {
        let places = suffixes.places(&HostName::from(host));
        places.into_iter().map(|place| place.service).collect()
    }

    #[test]
    fn a_peer_is_first_asked_for_next_to_this_machine() {
        let mut suffixes = at_home("job.n.svc.c.l");
        for (host, first) in [
            ("w-0.job.n.svc", "w-0.job.n.svc.c.l."),
            ("w-0.job", "w-0.job.n.svc.c.l."),
            ("w-0", "w-0.n.svc.c.l."),
            ("gpu-box.corp.example", "gpu-box.corp.example.n.svc.c.l."),
        ] {
            let asked = asked(&mut suffixes, host);
            assert_eq!((asked[0].as_str(), asked.len()), (first, 5), "{host}");
        }
    }

    #[test]
    fn a_host_may_be_behind_the_services_that_its_names_say() {
        let all = ["job.n.svc.c.l", "job.svc.c.l", "job.c.l", "job.corp.example"];
        let mut suffixes = suffixes(SEARCH, 5);
        assert_eq!(services(&suffixes, "w-0.job"), all);
        assert_eq!(services(&suffixes, "W-0.Job.N.svc.c.l."), all[..1], "an absolute name");
        assert_eq!(services(&suffixes, "w-0"), &["n.svc.c.l", "svc.c.l", "c.l", "corp.example"]);
        assert_eq!(services(&at_home(all[0]), "w-0.job"), all[..1]);
        assert_eq!(services(&at_home(all[0]), "w-0.other").len(), 4, "not at home");
        assert_eq!(services(&at_home("corp.example"), "w-0").len(), 4, "its Service is not said");
        let mut learnt = at_home(all[0]);
        learnt.found(&"w-1.job".into(), &"n.svc.c.l".into());
        assert_eq!(services(&learnt, "w-0.job.n.svc"), all[..1], "the same, spelled otherwise");
        assert_eq!(asked(&mut learnt, "w-0.job.n.svc"), ["w-0.job.n.svc.c.l."]);
        suffixes.found(&"w-1.job".into(), &"c.l".into());
        assert_eq!(services(&suffixes, "w-0.job"), ["job.c.l"], "learnt");
        assert_eq!(services(&suffixes, "w-0."), [""; 0], "at the root");
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
