//! Reads a rules file, and says by line what is wrong with it, all at once.
//!
//! Must not read from disk.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use regex_lite::Regex;
use serde::Deserialize;
use toml::Spanned;

use super::literal::{self, SHORTEST};
use super::{Pattern, Rule, Strength};
use crate::exit::{Class, Explain};

/// Something wrong in a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// As it was named.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Why there are no rules to work with.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Files that say what makes no sense.
    #[error("read the rules\n{}", listed(.0))]
    Problems(Vec<Problem>),
    /// More text than can be searched for.
    #[error("index the rules: {0}")]
    TooMany(String),
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Explain for RulesError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Problems(_) => {
                let strengths = Strength::ALL.map(|(name, _)| name).join(", ");
                format!(
                    "a rule needs name, class (muster explain lists them), strength ({strengths}), \
                     match and says; `muster explain --help` shows one"
                )
            }
            Self::TooMany(_) => "use fewer or shorter patterns".into(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<RawRule>,
}

type Words = Vec<Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Spanned<String>,
    class: Spanned<String>,
    strength: Spanned<String>,
    #[serde(rename = "match")]
    patterns: Spanned<Words>,
    #[serde(default)]
    unless: Words,
    #[serde(default)]
    follow: Words,
    #[serde(default)]
    before: Words,
    #[serde(default)]
    witness: bool,
    at_least: Option<u32>,
    #[serde(default)]
    despite_zero: bool,
    #[serde(default)]
    yields: bool,
    #[serde(default)]
    recovers: bool,
    #[serde(default)]
    until: Words,
    retry: Option<bool>,
    says: String,
    #[serde(default, rename = "try")]
    remedies: Vec<String>,
    #[serde(default)]
    examples: Words,
}

/// Notes problems with the line that they are on.
struct Reader<'f> {
    file: &'f str,
    text: &'f str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, span: &Range<usize>, what: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        self.problems.push(Problem { file: self.file.to_owned(), line, what });
    }

    fn patterns(&mut self, words: Words, strict: bool) -> Vec<Pattern> {
        for word in words.iter().filter(|_| strict) {
            if let Err(error) = Regex::new(word.get_ref()) {
                let what = format!("'{}' is no regular expression: {error}", word.get_ref());
                self.problem(&word.span(), what);
            }
        }
        words.into_iter().map(|word| Pattern::new(word.into_inner())).collect()
    }

    fn rule(&mut self, raw: RawRule, strict: bool) -> Option<Rule> {
        let class = Class::ALL.into_iter().find(|class| class.name() == raw.class.get_ref());
        if class.is_none() {
            self.problem(&raw.class.span(), format!("there is no class '{}'", raw.class.get_ref()));
        }
        let named = |(name, _): &&(&str, Strength)| *name == raw.strength.get_ref();
        let strength = Strength::ALL.iter().find(named).map(|(_, strength)| *strength);
        if strength.is_none() {
            let what = format!("there is no strength '{}'", raw.strength.get_ref());
            self.problem(&raw.strength.span(), what);
        }
        if raw.patterns.get_ref().is_empty() {
            self.problem(&raw.patterns.span(), "match is empty".to_owned());
        }
        for word in raw.patterns.get_ref() {
            if literal::needed(word.get_ref()).is_none() {
                let what = format!(
                    "'{}' needs {SHORTEST} characters of plain text in a row in each alternative",
                    word.get_ref()
                );
                self.problem(&word.span(), what);
            }
        }
        let before = self.problems.len();
        let rule = Rule {
            name: raw.name.into_inner(),
            class: class?,
            strength: strength?,
            patterns: self.patterns(raw.patterns.into_inner(), strict),
            unless: self.patterns(raw.unless, strict),
            follow: self.patterns(raw.follow, strict),
            before: self.patterns(raw.before, strict),
            witness: raw.witness,
            at_least: raw.at_least.unwrap_or(1),
            despite_zero: raw.despite_zero,
            yields: raw.yields,
            // What is only likely the cause, or a reaction, is often got over.
            recovers: raw.recovers || matches!(strength?, Strength::Likely | Strength::Echo),
            until: self.patterns(raw.until, strict),
            retry: raw.retry,
            says: raw.says,
            remedies: raw.remedies,
            examples: raw.examples.iter().map(|word| word.get_ref().clone()).collect(),
        };
        if strict && before == self.problems.len() {
            for example in raw.examples.iter().filter(|word| !knows(&rule, word.get_ref())) {
                let what = format!("the rule does not match its example '{}'", example.get_ref());
                self.problem(&example.span(), what);
            }
        }
        Some(rule)
    }
}

/// Whether a rule matches a line.
fn knows(rule: &Rule, line: &str) -> bool {
    let stripped = crate::outcome::line::strip(line);
    let any = |patterns: &[Pattern], text: &str| {
        patterns.iter().filter_map(Pattern::regex).any(|regex| regex.is_match(text))
    };
    let text = stripped.text.as_ref();
    (any(&rule.patterns, text) || any(&rule.patterns, line)) && !any(&rule.unless, text)
}

/// Reads a file. `strict` also compiles every pattern and tries every example.
pub(super) fn file(name: &str, text: &str, strict: bool) -> Result<Vec<Rule>, RulesError> {
    let mut reader = Reader { file: name, text, problems: Vec::new() };
    let raw: RawFile = match toml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            reader.problem(&error.span().unwrap_or(0..0), error.message().to_owned());
            return Err(RulesError::Problems(reader.problems));
        }
    };
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    for raw in raw.rule {
        if !names.insert(raw.name.get_ref().clone()) {
            let what = format!("a second rule named '{}'", raw.name.get_ref());
            reader.problem(&raw.name.span(), what);
        }
        rules.extend(reader.rule(raw, strict));
    }
    if reader.problems.is_empty() { Ok(rules) } else { Err(RulesError::Problems(reader.problems)) }
}
