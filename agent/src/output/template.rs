//! Tags in the user's own words: `{rank}/{size} {host}: `.
//!
//! Must not know a line; a template says which facts stand where, `tag` puts them there.

use crate::exit::{Class, Explain};

/// A fact that a template can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The rank in the world.
    Rank,
    /// Ranks in all.
    Size,
    /// The rank among those on its host.
    LocalRank,
    /// How many ranks its host has.
    LocalSize,
    /// The host's short name.
    Host,
    /// The job's name.
    Job,
    /// `stdout` or `stderr`.
    Stream,
    /// When the line was read.
    Time,
    /// The level that the line names.
    Level,
}

/// By their names in a template.
pub const FIELDS: [(&str, Field); 9] = [
    ("rank", Field::Rank),
    ("size", Field::Size),
    ("local_rank", Field::LocalRank),
    ("local_size", Field::LocalSize),
    ("host", Field::Host),
    ("job", Field::Job),
    ("stream", Field::Stream),
    ("time", Field::Time),
    ("level", Field::Level),
];

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// A fact, at least this many characters wide; numbers to the right, words to the left.
    Field(Field, usize),
}

/// A template, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// The widest field; a mistyped width must not fill the disk.
const WIDEST: usize = 64;

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such field.
    #[error("read the tag template '{template}': no field is called '{field}'")]
    Unknown {
        /// All of it.
        template: String,
        /// What stands between the braces.
        field: String,
    },
    /// A brace that opens or closes nothing.
    #[error("read the tag template '{template}': a lone '{brace}' at character {at}")]
    Brace {
        /// All of it.
        template: String,
        /// `{` or `}`.
        brace: char,
        /// Counted from 1.
        at: usize,
    },
    /// A width that is no number up to 64.
    #[error("read the tag template '{template}': '{width}' is no width from 1 to {WIDEST}")]
    Width {
        /// All of it.
        template: String,
        /// What stands after the colon.
        width: String,
    },
}

impl Explain for TemplateError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { .. } => {
                let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                format!("the fields are {}", names.join(", "))
            }
            Self::Brace { .. } => "write {{ and }} for braces that are meant as such".to_owned(),
            Self::Width { .. } => "{rank:4} is four characters wide, or wider".to_owned(),
        })
    }
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        let brace = |brace, rest: &str| TemplateError::Brace {
            template: template.to_owned(),
            brace,
            at: template.chars().count() - rest.chars().count() + 1,
        };
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let here = &rest[at..];
            if let Some(after) = here.strip_prefix("{{") {
                text.push('{');
                rest = after;
            } else if let Some(after) = here.strip_prefix("}}") {
                text.push('}');
                rest = after;
            } else if let Some(inside) = here.strip_prefix('{') {
                let (field, after) = inside.split_once('}').ok_or_else(|| brace('{', here))?;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Self::field(template, field)?);
                rest = after;
            } else {
                return Err(brace('}', here));
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    fn field(template: &str, words: &str) -> Result<Part, TemplateError> {
        let (name, width) = match words.split_once(':') {
            Some((name, width)) => {
                let number = width.parse().ok().filter(|number| (1..=WIDEST).contains(number));
                let wrong = || TemplateError::Width {
                    template: template.to_owned(),
                    width: width.to_owned(),
                };
                (name, number.ok_or_else(wrong)?)
            }
            None => (words, 0),
        };
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        let (_, field) = known.ok_or_else(|| TemplateError::Unknown {
            template: template.to_owned(),
            field: name.to_owned(),
        })?;
        Ok(Part::Field(*field, width))
    }

    /// Its pieces, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let text = |text: &str| Part::Text(text.to_owned());
        for (template, parts) in [
            (
                "{rank}/{size} {host}: ",
                vec![
                    Part::Field(Field::Rank, 0),
                    text("/"),
                    Part::Field(Field::Size, 0),
                    text(" "),
                    Part::Field(Field::Host, 0),
                    text(": "),
                ],
            ),
            ("{{{rank:4}}} ", vec![text("{"), Part::Field(Field::Rank, 4), text("} ")]),
            ("é{level}", vec![text("é"), Part::Field(Field::Level, 0)]),
            ("", vec![]),
        ] {
            assert_eq!(Template::parse(template).unwrap().parts(), parts, "{template}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_is_right() {
        for (template, error) in [
            ("{rang}: ", "read the tag template '{rang}: ': no field is called 'rang'"),
            ("{}", "read the tag template '{}': no field is called ''"),
            ("é{rank", "read the tag template 'é{rank': a lone '{' at character 2"),
            ("rank}", "read the tag template 'rank}': a lone '}' at character 5"),
            ("{rank:}", "read the tag template '{rank:}': '' is no width from 1 to 64"),
            ("{rank:99}", "read the tag template '{rank:99}': '99' is no width from 1 to 64"),
        ] {
            let found = Template::parse(template).unwrap_err();
            assert_eq!(found.to_string(), error);
            assert!(found.hint().is_some());
        }
    }
}
