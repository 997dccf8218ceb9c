//! What both ends of an SSH connection agree on: algorithms, windows, and a brake for slow readers.
//!
//! Must not know which end it is on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex};

/// How many keep-alives may stay unanswered; [`Heartbeat`](super::heartbeat::Heartbeat) says how often
/// they are sent.
pub const KEEPALIVE_MISSES: usize = 3;

/// Where a worker listens and is looked for, unless somebody says otherwise; OpenSSH keeps 22.
pub const PORT: u16 = 2222;

/// Window of a channel in bytes: what a peer may send before it is granted more.
pub const WINDOW: u32 = 2 * 1024 * 1024;

/// Largest packet that is offered to a peer, bytes (RFC 4253 section 6.1 asks for 32,768 at least).
pub const PACKET: u32 = 32 * 1024;

/// Messages of a channel that may wait for their reader. The brake holds their number of bytes far
/// below this; russh stops a whole connection when it is reached, the peer's answers included.
pub const CHANNEL_MESSAGES: usize = 1 << 20;

/// The algorithms offered, quickest of the safe ones first: curve25519 before the post-quantum
/// hybrid (a job's network is private and its key lives as long as the job), AES-GCM where the CPU
/// has it. No CBC, no SHA-1, no compression.
#[must_use]
pub fn algorithms() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::MLKEM768X25519_SHA256,
            kex::DH_G16_SHA512,
            kex::DH_G14_SHA256,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Borrowed(&[
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        ]),
        cipher: Cow::Borrowed(&[
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
            cipher::AES_128_CTR,
        ]),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

/// Above this many waiting bytes a peer is granted no more.
const HIGH: isize = 4 * 1024 * 1024;

/// What a waiting message costs besides its payload, about.
const MESSAGE_COST: usize = 128;

/// The smallest target at which russh still grants: two bytes whenever none is left.
const TRICKLE: u32 = 2;

/// How long the connection rests between the bytes of a trickle.
const TRICKLE_PAUSE: Duration = Duration::from_millis(10);

/// Flow control by consumption, for one connection of a server. As a client russh has no such brake: there
/// [`credit`](super::credit) bounds what commands say, and the lines' and the control channel themselves.
///
/// russh grants a peer new window when data arrives, not when somebody has consumed it; what holds
/// it back is a full channel, which stops the whole connection, answers in the other direction
/// included: `ssh worker cat` then deadlocks. So channels are made deep, every message that waits
/// is counted here, and while too much waits the window that russh grants is shrunk to two bytes,
/// each of them slowed down. The peer stays connected, memory stays bounded at about
/// [`HIGH`] + [`WINDOW`] a connection, and the first byte after the queue was drained opens the
/// window again. See docs/adr/0001.
#[derive(Debug, Clone, Default)]
pub struct Brake(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    total: isize,
    channels: HashMap<u32, isize>,
}

/// The reader's side of one channel's account; dropping it writes off what was never read.
#[derive(Debug)]
pub struct Gauge {
    brake: Brake,
    channel: u32,
}

fn cost(len: usize) -> isize {
    isize::try_from(len + MESSAGE_COST).unwrap_or(isize::MAX)
}

impl Brake {
    /// Opens the account of the channel with this number, which somebody reads.
    #[must_use]
    pub fn open(&self, channel: u32) -> Gauge {
        self.lock().channels.insert(channel, 0);
        Gauge { brake: self.clone(), channel }
    }

    /// Counts a message that now waits for its reader; rests where the peer is only trickling.
    pub async fn arrived(&self, channel: u32, len: usize) {
        self.add(channel, cost(len));
        if len <= TRICKLE as usize && self.is_on() {
            tokio::time::sleep(TRICKLE_PAUSE).await;
        }
    }

    /// The window to which a peer that has used up half of its own is filled up, bytes.
    #[must_use]
    pub fn target(&self) -> u32 {
        if self.is_on() { TRICKLE } else { WINDOW }
    }

    fn is_on(&self) -> bool {
        self.lock().total > HIGH
    }

    fn add(&self, channel: u32, amount: isize) {
        let mut waiting = self.lock();
        if let Some(account) = waiting.channels.get_mut(&channel) {
            *account += amount;
            waiting.total += amount;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gauge {
    /// Counts a message as consumed.
    pub fn consumed(&self, len: usize) {
        self.brake.add(self.channel, -cost(len));
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        let mut waiting = self.brake.lock();
        if let Some(rest) = waiting.channels.remove(&self.channel) {
            waiting.total -= rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_window_shrinks_while_too_much_waits_and_opens_again() {
        let (brake, channel) = (Brake::default(), 0);
        let gauge = brake.open(channel);
        assert_eq!(brake.target(), WINDOW);
        let messages = HIGH / PACKET as isize + 1;
        for _ in 0..messages {
            brake.arrived(channel, PACKET as usize).await;
        }
        assert_eq!(brake.target(), TRICKLE);
        let before = tokio::time::Instant::now();
        brake.arrived(channel, 2).await;
        assert!(before.elapsed() >= TRICKLE_PAUSE, "a trickling peer is slowed down");
        for _ in 0..messages {
            gauge.consumed(PACKET as usize);
        }
        assert_eq!(brake.target(), WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_any_more_is_not_held_against_the_others() {
        let (brake, channel) = (Brake::default(), 7);
        let gauge = brake.open(channel);
        brake.arrived(channel, 2 * HIGH as usize).await;
        assert_eq!(brake.target(), TRICKLE);
        drop(gauge);
        assert_eq!(brake.target(), WINDOW);
        brake.arrived(channel, 2 * HIGH as usize).await;
        assert_eq!(brake.target(), WINDOW);
    }
}
