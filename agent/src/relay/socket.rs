//! The socket on which wrappers find the worker, or the launcher, of their host.
//!
//! It has an abstract name (unix(7)): nothing is left behind on any file system, a read-only root is no
//! hindrance, and every host of a job can have the same one, so that a launcher that hands its own
//! environment on to the ranks (Hydra) does no harm. Who may connect is decided by what the kernel says of
//! the peer. Must not read what a wrapper says.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};

use tokio::net::{UnixListener, UnixStream};

use crate::config::variables::ABSTRACT;

/// Bytes of an abstract name, without the NUL before it.
const LONGEST: usize = 107;

/// A listening socket.
#[derive(Debug)]
pub struct RankSocket {
    listener: UnixListener,
    name: String,
}

impl RankSocket {
    /// Listens on `name`, or on a name made from it with `spare` where another worker of this network
    /// namespace has it: pods on the host's network share one.
    ///
    /// # Errors
    /// Neither can be had.
    pub fn bind(name: &str, spare: &str) -> io::Result<Self> {
        match Self::bind_one(name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Self::bind_one(&format!("{name}.{spare}"))
            }
            result => result,
        }
    }

    fn bind_one(name: &str) -> io::Result<Self> {
        let bare = name.strip_prefix(ABSTRACT).filter(|bare| bare.len() <= LONGEST);
        let bare = bare.ok_or_else(|| io::Error::other("not an abstract socket's name"))?;
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(bare)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, name: name.to_owned() })
    }

    /// The value for `MUSTER_RANK_SOCKET`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next peer that may connect, and its process id here: of our own user, or root, and of this
    /// container. Pods on the host's network share abstract names and may share a user id, but the
    /// kernel gives their processes no number that means anything here.
    ///
    /// # Errors
    /// Out of descriptors.
    pub async fn accept(&self) -> io::Result<(UnixStream, i32)> {
        let uid = nix::unistd::geteuid().as_raw();
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred().ok().filter(|peer| [uid, 0].contains(&peer.uid()));
            if let Some(pid) = peer.and_then(|peer| peer.pid()).filter(|pid| *pid > 0) {
                return Ok((stream, pid));
            }
        }
    }
}
