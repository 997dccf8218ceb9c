//! SSH2, both ends: the job's key, the server on a worker, the client, the channels between
//! them.
//!
//! Must not decide what a job does next; it carries commands, bytes and messages.

use russh::Sig;

pub mod access;
pub mod client;
pub mod config_text;
pub mod control;
pub mod control_channel;
pub mod credit;
mod derived;
pub mod duplex;
pub mod heartbeat;
pub mod keys;
pub mod lines_channel;
pub mod options;
pub mod remote;
mod sec1;
pub mod sshd_options;
pub mod wire;

/// A signal's name on the wire; russh knows twelve of them by type and the rest by name.
pub(crate) fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}

/// The reverse of [`signal_name`].
pub(crate) fn signal_from_name(name: &str) -> Sig {
    const KNOWN: [Sig; 12] = [
        Sig::ABRT,
        Sig::ALRM,
        Sig::FPE,
        Sig::HUP,
        Sig::ILL,
        Sig::INT,
        Sig::KILL,
        Sig::PIPE,
        Sig::QUIT,
        Sig::SEGV,
        Sig::TERM,
        Sig::USR1,
    ];
    let known = KNOWN.into_iter().find(|signal| signal_name(signal) == name);
    known.unwrap_or_else(|| Sig::Custom(name.to_owned()))
}
