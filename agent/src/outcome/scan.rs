//! Lines to findings: which rule knows which line first. Memory stays bounded by the rules, not the log.
//!
//! Must not judge between findings; `classify` does. Lines without any of the rules' plain text cost
//! one pass over their bytes and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::short;
use crate::outcome::facts::Culprit;
use crate::outcome::line::{clean, strip};
use crate::outcome::rules::{Pattern, Rule, Rules, Strength};

pub mod log;

/// How many lines of one rule are kept: the first, and the next of other culprits.
const KEPT: usize = 4;
/// How far after a match a rule looks for the culprit, lines.
const FOLLOW: u32 = 12;
/// How far before a match a rule looks for the culprit, lines, and how much of each, bytes.
const BEFORE: usize = 8;
const BEFORE_LINE: usize = 256;
/// After how many matches a rule's lines are no longer looked at, only found.
const SATURATED: u64 = 256;
/// How far a note with `until` hides what follows, lines.
const HIDDEN: u32 = 30;
/// How many matches may be looking at once.
const FOLLOWING: usize = 32;
/// What is looked at of one line, bytes.
pub const MAX_LINE: usize = 8 * 1024;
/// What is shown of one line, bytes.
const SHOWN: usize = 400;
/// Lines of this length, bytes, may have been folded by who printed or archived them.
const FOLDED: std::ops::RangeInclusive<usize> = 55..=110;

/// Where a line was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A saved log; lines count from 1.
    Log {
        /// Which.
        line: u64,
    },
    /// What mpirun and its daemons said.
    Mpirun,
    /// A rank's output.
    Rank(u32),
    /// Counted or seen, not read.
    Fact,
}

/// A line that a rule knows.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule that fired.
    pub rule: Arc<Rule>,
    /// Where.
    pub source: Source,
    /// Its place among all lines, for the order in time.
    pub order: u64,
    /// The line, bounded, without its prefix.
    pub text: String,
    /// Whom it names, or who said it.
    pub culprit: Culprit,
    /// The application's exit code, where the line tells.
    pub code: Option<u8>,
    /// Lines of the log after the last of this rule.
    pub after: u64,
}

/// A match that still looks for its culprit in the lines that follow.
#[derive(Debug)]
struct Following {
    rule: usize,
    kept: usize,
    left: u32,
}

/// Reads lines and keeps what matters.
#[derive(Debug)]
pub struct Scanner {
    rules: Arc<Rules>,
    /// By rule.
    kept: Vec<Vec<Finding>>,
    counts: Vec<u64>,
    /// The last line of each rule.
    lasts: Vec<u64>,
    /// A note that hides what follows, and for how many lines more.
    hidden: Option<(usize, u32)>,
    following: VecDeque<Following>,
    candidates: Vec<(usize, usize)>,
    /// The line before, if it may have been folded, and whose it was.
    folded: Option<(Source, Vec<u8>)>,
    /// The last lines, the oldest first.
    before: VecDeque<Vec<u8>>,
    lines: u64,
}

impl Scanner {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        let known = rules.all().len();
        Self {
            rules,
            kept: (0..known).map(|_| Vec::new()).collect(),
            counts: vec![0; known],
            lasts: vec![0; known],
            hidden: None,
            following: VecDeque::new(),
            candidates: Vec::new(),
            folded: None,
            before: VecDeque::new(),
            lines: 0,
        }
    }

    /// Looks at a line, without its newline. `speaker` is who is known to have written it.
    pub fn line(&mut self, source: &Source, speaker: &Culprit, line: &[u8]) {
        let line = &line[..line.len().min(MAX_LINE)];
        self.lines += 1;
        if !self.following.is_empty() {
            self.follow(line);
        }
        if self.is_hidden(line) {
            return;
        }
        let rules = Arc::clone(&self.rules);
        let mut candidates = std::mem::take(&mut self.candidates);
        let plain = memchr::memchr2(0x1b, 0, line).is_some().then(|| clean(line).into_owned());
        let bytes = plain.as_ref().map_or(line, |text| text.as_bytes());
        rules.candidates(bytes, &mut candidates);
        self.drop_saturated(&mut candidates);
        let matched =
            !candidates.is_empty() && self.judge(&candidates, source, speaker, bytes, None);
        if let Some((from, before)) = self.folded.take()
            && !matched
            && Self::same_stream(&from, source)
        {
            let fold = before.len();
            let mut joined = before;
            joined.push(b' ');
            joined.extend_from_slice(bytes.trim_ascii_start());
            joined.truncate(fold + 1 + FOLDED.end());
            rules.candidates(&joined, &mut candidates);
            self.drop_saturated(&mut candidates);
            if !candidates.is_empty() {
                self.judge(&candidates, source, speaker, &joined, Some(fold));
            }
        }
        if FOLDED.contains(&bytes.len()) {
            self.folded = Some((source.clone(), bytes.trim_ascii_end().to_vec()));
        }
        self.candidates = candidates;
        self.remember(bytes);
    }

    /// Keeps the line for rules that look back, in the place of the oldest.
    fn remember(&mut self, line: &[u8]) {
        let full = self.before.len() == BEFORE;
        let mut place = if full { self.before.pop_front() } else { None }.unwrap_or_default();
        place.clear();
        place.extend_from_slice(&line[..line.len().min(BEFORE_LINE)]);
        self.before.push_back(place);
    }

    /// Leaves out rules that have matched so often that one more line tells nothing: a log of errors
    /// alone costs little more than another. A note goes on hiding.
    fn drop_saturated(&mut self, candidates: &mut Vec<(usize, usize)>) {
        candidates.retain(|(r, _)| {
            let rule = &self.rules.all()[*r];
            let enough = self.counts[*r] >= SATURATED.max(u64::from(rule.at_least));
            let saturated = enough && rule.strength != Strength::Note;
            if saturated {
                self.lasts[*r] = self.lines;
            }
            !saturated
        });
    }

    /// Whether a note hides this line.
    fn is_hidden(&mut self, line: &[u8]) -> bool {
        let Some((r, left)) = self.hidden.take() else { return false };
        let text = clean(line);
        let text = strip(&text).text;
        let ends = |until: &Pattern| until.regex().is_some_and(|until| until.is_match(&text));
        if left > 1 && !self.rules.all()[r].until.iter().any(ends) {
            self.hidden = Some((r, left - 1));
        }
        true
    }

    fn same_stream(one: &Source, other: &Source) -> bool {
        matches!((one, other), (Source::Log { .. }, Source::Log { .. })) || one == other
    }

    /// Tries the candidates; says whether one matched. With `fold`, only matches across it count.
    fn judge(
        &mut self,
        candidates: &[(usize, usize)],
        source: &Source,
        speaker: &Culprit,
        line: &[u8],
        fold: Option<usize>,
    ) -> bool {
        let whole = clean(line);
        let line = strip(&whole);
        let text = line.text.as_ref();
        // Where the fold is, now that the prefix is off.
        let fold = fold.map(|at| at.saturating_sub(whole.len() - text.len()));
        let rules = Arc::clone(&self.rules);
        let matching = |(r, p): &(usize, usize)| {
            let rule = &rules.all()[*r];
            let regex = rule.patterns[*p].regex()?;
            // A user's rule may mean what we take for a prefix.
            let with_prefix = || regex.captures(&whole).filter(|_| fold.is_none());
            let found = regex.captures(text).or_else(with_prefix)?;
            let all = found.get(0)?;
            let across = fold.is_none_or(|at| all.start() < at && all.end() > at + 1);
            let spared = |not: &Pattern| not.regex().is_some_and(|not| not.is_match(text));
            (across && !rule.unless.iter().any(spared)).then_some((*r, found))
        };
        let found: Vec<_> = candidates.iter().filter_map(matching).collect();
        let known = |r: usize| rules.all()[r].as_ref();
        let note = found.iter().any(|(r, _)| known(*r).strength == Strength::Note);
        let better = found.iter().any(|(r, _)| !known(*r).yields);
        let stays = |r: usize| match note {
            true => known(r).strength == Strength::Note,
            false => !(better && known(r).yields),
        };
        // Patterns of one rule stand together and make one finding; whom one rule names, all mean.
        let mut by_rule: Vec<(usize, Culprit, Option<u8>)> = Vec::new();
        let mut all = Culprit::default();
        for (r, captures) in &found {
            let (who, code) = named(captures);
            all = merge(&all, &who);
            match by_rule.last_mut() {
                Some(last) if last.0 == *r => *last = (*r, merge(&who, &last.1), code.or(last.2)),
                _ => by_rule.push((*r, who, code)),
            }
        }
        for (r, who, code) in by_rule.into_iter().filter(|(r, ..)| stays(*r)) {
            let rule = &rules.all()[r];
            let (before, coded) = self.look_back(rule);
            let said =
                if rule.witness { Culprit::default() } else { merge(&line.speaker, speaker) };
            if !rule.until.is_empty() {
                self.hidden = Some((r, HIDDEN));
            }
            self.keep(
                r,
                Finding {
                    rule: Arc::clone(rule),
                    source: source.clone(),
                    order: self.lines,
                    text: bounded(text),
                    culprit: merge(&merge(&merge(&who, &all), &before), &said),
                    code: code.or(coded),
                    after: 0,
                },
            );
        }
        !found.is_empty()
    }

    /// Whom the lines before name, the nearest first.
    fn look_back(&self, rule: &Rule) -> (Culprit, Option<u8>) {
        let mut found = (Culprit::default(), None);
        if rule.before.is_empty() {
            return found;
        }
        for line in self.before.iter().rev() {
            let text = clean(line);
            let matching =
                rule.before.iter().filter_map(|pattern| pattern.regex()?.captures(&text));
            for captures in matching {
                let (culprit, code) = named(&captures);
                found = (merge(&found.0, &culprit), found.1.or(code));
            }
            if !found.0.is_empty() {
                break;
            }
        }
        found
    }

    fn keep(&mut self, r: usize, finding: Finding) {
        self.counts[r] += 1;
        self.lasts[r] = self.lines;
        let kept = &mut self.kept[r];
        if kept.len() >= KEPT || kept.iter().any(|known| known.culprit == finding.culprit) {
            // A second line of the same culprit tells nothing new, unless the lines after it could.
            if kept.len() >= KEPT || finding.rule.follow.is_empty() {
                return;
            }
        }
        let follows = !finding.rule.follow.is_empty();
        kept.push(finding);
        if follows && self.following.len() < FOLLOWING {
            self.following.push_back(Following { rule: r, kept: kept.len() - 1, left: FOLLOW });
        }
    }

    /// Looks for the culprits of earlier matches.
    fn follow(&mut self, line: &[u8]) {
        let text = clean(line);
        for following in &mut self.following {
            following.left -= 1;
            let Some(finding) = self.kept[following.rule].get_mut(following.kept) else { continue };
            for pattern in &self.rules.all()[following.rule].follow {
                if let Some(found) = pattern.regex().and_then(|regex| regex.captures(&text)) {
                    let (named, code) = named(&found);
                    finding.culprit = merge(&finding.culprit, &named);
                    finding.code = finding.code.or(code);
                }
            }
        }
        self.following.retain(|following| following.left > 0);
    }

    /// What was found, in the order of the lines.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut all: Vec<Finding> = Vec::new();
        for (r, rule) in self.rules.all().iter().enumerate() {
            if self.counts[r] >= u64::from(rule.at_least) {
                let after = self.lines - self.lasts[r];
                all.extend(self.kept[r].iter().map(|found| Finding { after, ..found.clone() }));
            }
        }
        all.sort_by_key(|finding| finding.order);
        all
    }
}

/// What a rule's groups name.
fn named(found: &regex_lite::Captures<'_>) -> (Culprit, Option<u8>) {
    let group = |name| found.name(name).map(|group| group.as_str());
    let culprit = Culprit {
        rank: group("rank").and_then(|rank| rank.parse().ok()),
        local_rank: group("local").and_then(|rank| rank.parse().ok()),
        host: group("host")
            .map(|host| short(host.trim_end_matches('.')).to_owned())
            .filter(|host| !host.is_empty()),
        pod: None,
    };
    (culprit, group("code").and_then(|code| code.parse().ok()))
}

/// The first, completed by the second where they do not speak of different ranks or hosts.
#[must_use]
pub fn merge(first: &Culprit, second: &Culprit) -> Culprit {
    let differ =
        |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let apart = matches!((first.rank, second.rank), (Some(a), Some(b)) if a != b)
        || differ(&first.host, &second.host);
    if apart {
        return first.clone();
    }
    Culprit {
        rank: first.rank.or(second.rank),
        local_rank: first.local_rank.or(second.local_rank),
        host: first.host.clone().or_else(|| second.host.clone()),
        pod: first.pod.clone().or_else(|| second.pod.clone()),
    }
}

/// No more of a line than is shown.
fn bounded(text: &str) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(SHOWN);
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}
