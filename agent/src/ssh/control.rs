//! The control channel: SSH subsystem `muster/1`, frames of four length bytes and JSON.
//!
//! Must not act on a message; it says what can be said, and how it travels.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::devices::clock::Stamp;
use crate::devices::report::{Mpi, Report as Devices};
use crate::devices::trouble::OomKills;
use crate::rank::protocol;
use crate::relay::roll::Stillness;
use crate::relay::{Report, Source};

/// The subsystem's name on the wire. A peer that refuses it is a plain SSH server.
pub const SUBSYSTEM: &str = "muster/1";

/// The largest frame, bytes. A hello with devices stays far below.
pub const MAX_FRAME: usize = 1024 * 1024;

/// What a worker says of itself first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// muster's version.
    pub version: String,
    /// The kernel's host name.
    pub hostname: String,
    /// The name of its pod, where `POD_NAME` says it.
    #[serde(default)]
    pub pod: Option<String>,
    /// Where its muster lies, as it would have to be called there.
    #[serde(default)]
    pub muster: Option<String>,
    /// The MPI on its PATH, or none.
    pub mpi: Option<Mpi>,
    /// CPUs that it may use, by cgroup quota, cpuset and affinity.
    pub cpus: f64,
    /// Ranks that it would take, where nobody says otherwise.
    pub slots: u32,
    /// Why that many.
    pub slots_from: String,
    /// Its clock, as it sent this.
    #[serde(default)]
    pub clock: Option<Stamp>,
    /// What its environment sets of all that concerns networks.
    #[serde(default)]
    pub network: BTreeMap<String, String>,
    /// What the host has; none from a worker that does not say, or whose kernel did not answer.
    #[serde(default, deserialize_with = "if_understood")]
    pub devices: Option<Devices>,
}

/// A report of another version's form is none; the rest of its hello still counts.
fn if_understood<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Devices>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok().flatten())
}

/// A rank that was seen running, by its environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RankSeen {
    /// `MPI_COMM_WORLD` rank.
    pub rank: u32,
    /// Ranks in all, as it believes, where its environment says.
    pub size: Option<u32>,
    /// In the host's own pid namespace.
    pub pid: i32,
}

/// For how long the ranks of a host have not done anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Still {
    /// Milliseconds since any of them wrote something.
    pub silent_ms: u64,
    /// The one that has used no CPU time for the longest.
    pub rank: u32,
    /// Milliseconds for which it has used none.
    pub idle_ms: u64,
}

impl From<Stillness> for Still {
    fn from(stillness: Stillness) -> Self {
        let ms = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Stillness { wrote, rank, moved } = stillness;
        Self { silent_ms: ms(wrote), rank, idle_ms: ms(moved) }
    }
}

/// From the launcher to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToWorker {
    /// Resolve the launcher's name and connect back to it, as the MPI daemons will have to.
    CallBack {
        /// The launcher's host name as daemons would use it.
        name: String,
        /// Where the launcher listens for this, by the address that the worker sees it at.
        address: SocketAddr,
    },
    /// Look for ranks and report them whenever they change, and give signs of life, until the
    /// connection ends.
    Watch {
        /// Milliseconds between two signs of life.
        heartbeat_ms: u64,
    },
    /// Send a signal to the ranks that have a wrapper.
    SignalRanks {
        /// Its number.
        signal: i32,
    },
    /// End everything that this connection started: SIGTERM, then SIGKILL after the grace.
    End {
        /// Milliseconds in which it may end by itself first.
        patience_ms: u64,
        /// Milliseconds between the two signals.
        grace_ms: u64,
    },
}

/// From a worker to the launcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToLauncher {
    /// Always the first message.
    Hello(Box<Hello>),
    /// How the call back went.
    CalledBack {
        /// Why the launcher's name did not resolve here, if so.
        name_error: Option<String>,
        /// Why the launcher's address could not be connected to, if so.
        connect_error: Option<String>,
    },
    /// The ranks that run here now; sent when the set changes, never more than 4,096.
    Ranks {
        /// In ascending order.
        ranks: Vec<RankSeen>,
    },
    /// This worker is there.
    Heartbeat {
        /// How long its ranks have been still; none where it has none.
        still: Option<Still>,
    },
    /// The kernel's OOM killer took processes here.
    OomKilled(OomKills),
    /// File systems here have no room left.
    Full {
        /// Where they are mounted.
        paths: Vec<String>,
    },
    /// The program of a rank was started.
    RankStarted {
        /// Which wrapper says so.
        source: Source,
        /// What it says.
        hello: Box<protocol::Hello>,
    },
    /// The program of a rank ended.
    RankEnded {
        /// Which wrapper says so.
        source: Source,
        /// What it says; none: it was killed.
        ended: Option<Box<protocol::Ended>>,
    },
    /// The platform told this worker to stop; its processes have this long.
    Terminating {
        /// Milliseconds.
        grace_ms: u64,
    },
    /// Nothing that this connection started is left.
    Ended {
        /// Processes that were told to end.
        terminated: u32,
        /// Those of them that had to be killed.
        killed: u32,
    },
}

impl From<Report> for ToLauncher {
    fn from(report: Report) -> Self {
        match report {
            Report::Started(source, hello) => Self::RankStarted { source, hello },
            Report::Ended(source, ended) => Self::RankEnded { source, ended },
        }
    }
}

/// Why a control channel cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced a frame beyond [`MAX_FRAME`].
    #[error("read a control message: {0} bytes announced, at most {MAX_FRAME} allowed")]
    TooLong(usize),
    /// The frame is not a message that this version knows.
    #[error("read a control message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Puts one message into a frame.
///
/// # Errors
/// A message that does not fit a frame is an error, not a truncated message.
pub fn encode(message: &impl Serialize) -> Result<Bytes, FrameError> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_FRAME {
        return Err(FrameError::TooLong(body.len()));
    }
    let mut frame = BytesMut::with_capacity(4 + body.len());
    #[expect(clippy::cast_possible_truncation, reason = "checked against MAX_FRAME above")]
    frame.put_u32(body.len() as u32);
    frame.put_slice(&body);
    Ok(frame.freeze())
}

/// Takes messages out of a byte stream that is cut anywhere.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Adds what arrived.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole message, or none until more arrives.
    ///
    /// # Errors
    /// See [`FrameError`]; the stream is of no use afterwards.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_be_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLong(len));
        }
        if self.buffer.len() < 4 + len {
            return Ok(None);
        }
        self.buffer.advance(4);
        let body = self.buffer.split_to(len);
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::status::WaitStatus;

    #[test]
    fn messages_survive_any_cut() {
        let messages = [
            ToWorker::Watch { heartbeat_ms: 5000 },
            ToWorker::End { patience_ms: 0, grace_ms: 10_000 },
            ToWorker::CallBack {
                name: "pi-launcher".into(),
                address: "10.0.0.1:9".parse().unwrap(),
            },
        ];
        let stream: Vec<u8> =
            messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        for size in 1..stream.len() {
            let mut frames = Frames::default();
            let mut seen: Vec<ToWorker> = Vec::new();
            for chunk in stream.chunks(size) {
                frames.push(chunk);
                while let Some(message) = frames.take().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages);
        }
    }

    #[test]
    fn a_hello_of_a_worker_without_devices_is_read() {
        let old = r#"{"type":"hello","version":"0.1.0","hostname":"w","mpi":null,"cpus":2.0,
            "memory_limit":null,"slots":2,"slots_from":"CPUs"}"#;
        let ToLauncher::Hello(hello) = serde_json::from_str(old).unwrap() else { panic!("{old}") };
        assert_eq!(hello.devices, None);
        let mut new = serde_json::to_value(ToLauncher::Hello(hello)).unwrap();
        new["devices"] = serde_json::json!({ "schema": "muster-devices/1", "later": 1 });
        let ToLauncher::Hello(hello) = serde_json::from_value(new.clone()).unwrap() else {
            panic!()
        };
        assert_eq!(hello.devices.unwrap().schema, "muster-devices/1", "the rest is unknown");
        new["devices"]["interfaces"] = serde_json::json!("later another form");
        let ToLauncher::Hello(hello) = serde_json::from_value(new).unwrap() else { panic!() };
        assert_eq!((hello.slots, hello.devices), (2, None));
    }

    #[test]
    fn an_end_that_a_worker_without_usage_tells_is_read() {
        let old = r#"{"type":"rank-ended","source":4,"ended":{"time":9,"status":{"exited":3},"told":null,
            "wall_us":1,"cpu_us":7,"max_rss_kib":8,"stderr":"x"}}"#;
        let ToLauncher::RankEnded { source, ended: Some(ended) } =
            serde_json::from_str(old).unwrap()
        else {
            panic!("{old}")
        };
        assert_eq!((source, ended.status), (Source(4), WaitStatus::Exited(3)));
    }

    #[test]
    fn a_frame_beyond_the_bound_or_of_no_known_kind_is_an_error() {
        let mut frames = Frames::default();
        frames.push(b"SSH-");
        assert!(matches!(frames.take::<ToWorker>(), Err(FrameError::TooLong(_))));
        let mut frames = Frames::default();
        frames.push(&[0, 0, 0, 2, b'{', b'}']);
        assert!(matches!(frames.take::<ToWorker>(), Err(FrameError::Malformed(_))));
    }
}
