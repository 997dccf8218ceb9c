//! SSH: what `muster rsh` is asked for, for now.

pub mod options;
