//! Lines that arrive state by state, because somebody else sees them live, for a printer that shows only the last.
//!
//! Must not hold more than one state of a line.

use memchr::memrchr;

use crate::output::split::{Batch, End};

/// Holds the last state of a line until the line goes on or ends.
#[derive(Debug, Default)]
pub(super) struct States {
    held: Vec<u8>,
    ready: Vec<u8>,
}

impl States {
    /// What of all that has come can be shown. Lines that end as lines do go straight through.
    pub(super) fn pass<'b>(&'b mut self, batch: Batch<'b>) -> Option<Batch<'b>> {
        let goes_on = batch.end == End::Line && !batch.bytes.ends_with(b"\n");
        if self.held.is_empty() && !goes_on {
            return Some(batch);
        }
        self.ready.clear();
        self.ready.append(&mut self.held);
        self.ready.extend_from_slice(batch.bytes);
        if !goes_on {
            return Some(Batch { bytes: &self.ready, end: batch.end });
        }
        let whole = memrchr(b'\n', &self.ready).map_or(0, |at| at + 1);
        let states = &self.ready[whole..];
        // The last byte is the return that ended the last of them.
        let last = memrchr(b'\r', &states[..states.len() - 1]).map_or(0, |at| at + 1);
        self.held.extend_from_slice(&states[last..]);
        self.ready.truncate(whole);
        (whole > 0).then_some(Batch { bytes: &self.ready, end: End::Line })
    }

    /// The state that a line had when no more came.
    pub(super) fn rest(&self) -> Option<Batch<'_>> {
        (!self.held.is_empty()).then_some(Batch { bytes: &self.held, end: End::Eof })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_comes_with_the_line_s_end() {
        let mut states = States::default();
        for (text, end, shown) in [
            ("a\nb\n", End::Line, Some(("a\nb\n", End::Line))),
            ("1%\r2%\r", End::Line, None),
            ("3%\r", End::Line, None),
            ("\nc\n1 of 9\r", End::Line, Some(("3%\r\nc\n", End::Line))),
            ("long", End::Cut, Some(("1 of 9\rlong", End::Cut))),
            ("\r", End::Line, None),
            ("d", End::Eof, Some(("\rd", End::Eof))),
            ("5%\r", End::Line, None),
        ] {
            let shown = shown.map(|(text, end)| Batch { bytes: text.as_bytes(), end });
            assert_eq!(states.pass(Batch { bytes: text.as_bytes(), end }), shown, "{text:?}");
        }
        assert_eq!(states.rest(), Some(Batch { bytes: b"5%\r", end: End::Eof }));
    }
}
