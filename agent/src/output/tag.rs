//! Putting the rank before each line, in the format that was asked for.
//!
//! Must not read a clock or write anywhere: lines and their time come in, bytes go out. So the same
//! code serves a rank's wrapper and a launcher that prints what arrived raw.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::{Micros, rfc3339};
use super::json;
use super::split::{Batch, End, Line, Lines, Return, Rule};
use super::template::{Field, Part, Template, TemplateError};
use super::weave::weave;
use super::{Identity, Returns, Stream, level};

/// The form of a tag, as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Format {
    /// `[rank 3|worker-1] text`.
    Prefix,
    /// `[3] text`.
    Short,
    /// One JSON object a line.
    Json,
    /// The bytes as they are.
    None,
    /// As a template says; the text as written, which parses.
    Template(String),
}

/// Why a format cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Neither a format's name nor a template.
    #[error("tag lines by '{0}': no format has that name, and a template needs a {{field}}")]
    Unknown(String),
    /// A template that does not parse.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl crate::exit::Explain for FormatError {
    fn class(&self) -> crate::exit::Class {
        crate::exit::Class::Config
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => {
                Some("use prefix, short, json, none or a template: --tag='{rank}/{size}: '".into())
            }
            Self::Template(error) => error.hint(),
        }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Ok(match text {
            "prefix" => Self::Prefix,
            "short" => Self::Short,
            "json" => Self::Json,
            "none" => Self::None,
            _ if text.contains(['{', '}']) => {
                Template::parse(text)?;
                Self::Template(text.to_owned())
            }
            _ => return Err(FormatError::Unknown(text.to_owned())),
        })
    }
}

impl TryFrom<String> for Format {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        match format {
            Format::Prefix => "prefix".into(),
            Format::Short => "short".into(),
            Format::Json => "json".into(),
            Format::None => "none".into(),
            Format::Template(text) => text,
        }
    }
}

/// Everything that decides how lines look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Style {
    /// The form of the tag.
    pub format: Format,
    /// A time before the tag.
    pub timestamps: bool,
    /// Colour tags by rank.
    pub color: bool,
    /// What becomes of carriage returns.
    pub returns: Returns,
    /// Bytes of a line beyond which it is shown in pieces.
    pub max_line: usize,
}

impl Style {
    /// What ends a line in this style.
    #[must_use]
    pub fn rule(&self) -> Rule {
        let returns = match self.returns {
            Returns::Keep if self.plain() => Return::Text,
            Returns::Keep => Return::Ends,
            Returns::Collapse => Return::Overwrites,
        };
        Rule { returns, max_line: self.max_line }
    }

    /// What ends a line on its way to where it is tagged: that gets every byte.
    #[must_use]
    pub fn carried(&self) -> Rule {
        match self.rule() {
            Rule { returns: Return::Overwrites, max_line } => {
                Rule { returns: Return::Text, max_line }
            }
            rule => rule,
        }
    }

    /// Whether lines come out as they went in.
    #[must_use]
    pub fn plain(&self) -> bool {
        self.format == Format::None && !self.timestamps && self.returns == Returns::Keep
    }
}

/// What follows a piece of a line that goes on.
pub const CUT_MARK: &str = " [cut by muster: the line goes on]";

/// The colours of ranks: SGR foreground numbers that are readable on dark and on light.
const COLOURS: [u8; 6] = [36, 32, 33, 35, 34, 31];

/// A part of a tag that is filled in for each line or batch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Time,
    Stream(usize),
    Level(usize),
}

#[derive(Debug)]
enum Face {
    Json,
    Text { pieces: Vec<Piece>, by_line: bool },
}

/// Tags the lines of one rank.
#[derive(Debug)]
pub struct Tagger {
    of: Identity,
    face: Face,
    style: Style,
    head: Vec<u8>,
    /// Whether the last line of each stream ended with a carriage return.
    returned: [bool; 2],
}

impl Tagger {
    /// A tagger for the lines of `of`.
    ///
    /// # Errors
    /// A template that does not parse.
    pub fn new(of: Identity, style: Style) -> Result<Self, TemplateError> {
        let face = match &style.format {
            Format::Json => Face::Json,
            text => {
                let pieces = pieces(&of, text, &style)?;
                let by_line = pieces.iter().any(|piece| matches!(piece, Piece::Level(_)));
                Face::Text { pieces, by_line }
            }
        };
        Ok(Self { of, face, style, head: Vec::new(), returned: [false; 2] })
    }

    /// Whose lines they are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.of
    }

    /// How they look.
    #[must_use]
    pub fn style(&self) -> &Style {
        &self.style
    }

    /// Begins a batch that was read at `time`; then call [`Tagging::write`] until it says that
    /// nothing is left.
    pub fn tag<'t, 'b>(
        &'t mut self,
        batch: Batch<'b>,
        stream: Stream,
        time: Micros,
    ) -> Tagging<'t, 'b> {
        self.head.clear();
        match &self.face {
            Face::Json => json::head(&self.of, stream, time, &mut self.head),
            Face::Text { by_line: true, .. } => {}
            Face::Text { pieces, by_line: false } => {
                render(pieces, stream, time, None, &mut self.head);
            }
        }
        // One look at the whole batch spares one at each line.
        let collapse =
            self.style.returns == Returns::Collapse && memchr::memchr(b'\r', batch.bytes).is_some();
        let lines = batch.lines(self.style.rule());
        Tagging { tagger: self, lines, stream, time, collapse }
    }
}

/// A batch on its way out, see [`Tagger::tag`].
#[derive(Debug)]
pub struct Tagging<'t, 'b> {
    tagger: &'t mut Tagger,
    lines: Lines<'b>,
    stream: Stream,
    time: Micros,
    collapse: bool,
}

impl Tagging<'_, '_> {
    /// Appends tagged lines to `out` until it holds `limit` bytes or more; says whether any may be
    /// left. What one call appends beyond the limit is one line.
    pub fn write(&mut self, limit: usize, out: &mut Vec<u8>) -> bool {
        let simple = self.simple();
        if simple {
            let max_line = self.lines.rule().max_line;
            let done = weave(&self.tagger.head, self.lines.rest(), max_line, limit, out);
            self.lines.skip_bytes(done);
        }
        while out.len() < limit {
            let Some(line) = self.lines.next() else { return false };
            if simple && line.end == End::Line {
                out.extend_from_slice(&self.tagger.head);
                out.extend_from_slice(line.bytes);
            } else {
                self.line(line, out);
            }
        }
        true
    }

    /// Whether each line is the tag and the bytes as they came.
    fn simple(&self) -> bool {
        matches!(self.tagger.face, Face::Text { by_line: false, .. })
            && !self.collapse
            && self.lines.rule().returns != Return::Ends
    }

    fn line(&mut self, line: Line<'_>, out: &mut Vec<u8>) {
        let Self { tagger: Tagger { face, style, head, returned, .. }, stream, time, .. } = self;
        let after_return = std::mem::replace(
            &mut returned[stream.index()],
            line.bytes.ends_with(b"\r") && line.end == End::Line,
        );
        let bare = strip_end(line.bytes, line.end);
        let seen = if self.collapse { last_state(bare) } else { bare };
        match face {
            Face::Json => {
                let end = match line.end {
                    // A newline after it makes an object of its own, so that every byte can be had back.
                    End::Line if line.bytes.ends_with(b"\r") => Some("return"),
                    End::Line => None,
                    End::Cut => Some("cut"),
                    End::Eof => Some("eof"),
                };
                json::line(head, seen, bare, end, out);
            }
            Face::Text { pieces, by_line } => {
                // The newline of a line that a carriage return has ended already.
                if after_return && line.bytes == b"\n" {
                    out.push(b'\n');
                    return;
                }
                if *by_line {
                    render(pieces, *stream, *time, level::detect(seen), out);
                } else {
                    out.extend_from_slice(head);
                }
                out.extend_from_slice(seen);
                // Without a tag nothing is added, so that the pieces make up the line again.
                let tagged = style.format != Format::None || style.timestamps;
                match line.end {
                    End::Line => out.extend(line.bytes.last()),
                    End::Cut if tagged => {
                        out.extend_from_slice(CUT_MARK.as_bytes());
                        out.push(b'\n');
                    }
                    End::Eof if tagged => out.push(b'\n'),
                    End::Cut | End::Eof => {}
                }
            }
        }
    }
}

fn strip_end(bytes: &[u8], end: End) -> &[u8] {
    match (bytes, end) {
        ([text @ .., _], End::Line) => text,
        _ => bytes,
    }
}

/// What a terminal would show at the end of a line that was drawn over again and again.
fn last_state(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
    let line = &line[..end];
    memchr::memrchr(b'\r', line).map_or(line, |at| &line[at + 1..])
}

/// The tag of a rank, with everything filled in that never changes.
fn pieces(of: &Identity, format: &Format, style: &Style) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let text = |pieces: &mut Vec<Piece>, more: &str| match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push_str(more),
        _ if more.is_empty() => {}
        _ => pieces.push(Piece::Text(more.to_owned())),
    };
    if style.timestamps {
        pieces.push(Piece::Time);
        text(&mut pieces, " ");
    }
    let last = of.size.map_or(of.rank, |size| size.saturating_sub(1).max(of.rank));
    let width = last.to_string().len();
    let colour = COLOURS[of.rank as usize % COLOURS.len()];
    let colour = style.color.then(|| format!("\x1b[{colour}m"));
    let colour = colour.as_deref().unwrap_or_default();
    let plain = if style.color { "\x1b[0m" } else { "" };
    let known = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    match format {
        Format::None | Format::Json => {}
        Format::Prefix => {
            let Identity { rank, host, .. } = of;
            text(&mut pieces, &format!("{colour}[rank {rank:>width$}|{host}]{plain} "));
        }
        Format::Short => {
            text(&mut pieces, &format!("{colour}[{:>width$}]{plain} ", of.rank));
        }
        Format::Template(template) => {
            text(&mut pieces, colour);
            for part in Template::parse(template)?.parts() {
                match part {
                    Part::Text(more) => text(&mut pieces, more),
                    Part::Field(field, width) => {
                        let number = |n: String| format!("{n:>width$}");
                        let word = |w: &str| format!("{w:<width$}");
                        match field {
                            Field::Rank => text(&mut pieces, &number(of.rank.to_string())),
                            Field::Size => text(&mut pieces, &number(known(of.size))),
                            Field::LocalRank => text(&mut pieces, &number(known(of.local_rank))),
                            Field::LocalSize => text(&mut pieces, &number(known(of.local_size))),
                            Field::Host => text(&mut pieces, &word(&of.host)),
                            Field::Job => {
                                text(&mut pieces, &word(of.job.as_deref().unwrap_or("?")))
                            }
                            Field::Stream => pieces.push(Piece::Stream(*width)),
                            Field::Time => pieces.push(Piece::Time),
                            Field::Level => pieces.push(Piece::Level(*width)),
                        }
                    }
                }
            }
            text(&mut pieces, plain);
        }
    }
    Ok(pieces)
}

fn render(
    pieces: &[Piece],
    stream: Stream,
    time: Micros,
    level: Option<level::Level>,
    out: &mut Vec<u8>,
) {
    let mut word = |word: &str, width: usize| {
        out.extend_from_slice(word.as_bytes());
        out.extend(std::iter::repeat_n(b' ', width.saturating_sub(word.len())));
    };
    for piece in pieces {
        match piece {
            Piece::Text(text) => word(text, 0),
            Piece::Time => word(std::str::from_utf8(&rfc3339(time)).unwrap_or_default(), 0),
            Piece::Stream(width) => word(stream.name(), *width),
            Piece::Level(width) => word(level.map_or("-", level::Level::name), *width),
        }
    }
}

#[cfg(test)]
mod tests;
