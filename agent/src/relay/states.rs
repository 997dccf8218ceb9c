//! Lines that arrive state by state, because somebody else sees them live or because they are longer than what is
//! held back on the way, for a printer that shows only the last.
//!
//! Must not hold more than one state of a line.

use memchr::{memchr, memrchr};

use crate::output::split::{Batch, End};

/// Holds the last state of a line until the line goes on or ends.
#[derive(Debug, Default)]
pub(super) struct States {
    held: Vec<u8>,
    ready: Vec<u8>,
}

impl States {
    /// What of all that has come can be shown. Lines that end as lines do go straight through, and so does the
    /// beginning of one that was cut and has no states, or a last one of more than `longest` bytes.
    pub(super) fn pass<'b>(&'b mut self, batch: Batch<'b>, longest: usize) -> Option<Batch<'b>> {
        let goes_on = match batch.end {
            End::Line => !batch.bytes.ends_with(b"\n"),
            End::Cut => true,
            End::Eof => false,
        };
        if self.held.is_empty() && !(goes_on && memchr(b'\r', batch.bytes).is_some()) {
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
        let drawn = match batch.end {
            // The last byte is the return that ended the last of them.
            End::Line => states.len() - 1,
            // Returns at the very end overwrite nothing yet: the newline that ends the line may follow.
            End::Cut | End::Eof => {
                states.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1)
            }
        };
        let last = memrchr(b'\r', &states[..drawn]).map_or(0, |at| at + 1);
        if batch.end == End::Cut && states.len() - last > longest {
            return Some(Batch { bytes: &self.ready, end: End::Cut });
        }
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
            ("longer", End::Cut, Some(("1 of 9\rlonger", End::Cut))),
            ("\r", End::Line, None),
            ("d", End::Eof, Some(("\rd", End::Eof))),
            ("5%\r", End::Line, None),
        ] {
            let shown = shown.map(|(text, end)| Batch { bytes: text.as_bytes(), end });
            assert_eq!(states.pass(Batch { bytes: text.as_bytes(), end }, 5), shown, "{text:?}");
        }
        assert_eq!(states.rest(), Some(Batch { bytes: b"5%\r", end: End::Eof }));
    }

    #[test]
    fn of_a_line_that_was_cut_the_last_state_stays() {
        let mut states = States::default();
        for (text, shown) in [
            ("1%\r2%\r3", None),
            ("%\r4%\r\r", None),
            ("\r", None),
            ("5%\rnot a state", Some("4%\r\r\r5%\rnot a state")),
            (" but a line", Some(" but a line")),
            ("\r6%", None),
        ] {
            let [batch, shown] = [Some(text), shown]
                .map(|text| text.map(|text| Batch { bytes: text.as_bytes(), end: End::Cut }));
            assert_eq!(states.pass(batch.unwrap(), 5), shown, "{text:?}");
        }
        let end = Batch { bytes: b"\r\n", end: End::Line };
        assert_eq!(states.pass(end, 5), Some(Batch { bytes: b"6%\r\n", end: End::Line }));
    }
}
