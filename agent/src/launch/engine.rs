//! The engine: serves `muster rsh` processes on a unix socket, each command over the connection that
//! is open already.
//!
//! Must not judge how a command ended; of mpirun's daemons it reports it as an event.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncWriteExt as _, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc, watch};

use super::event::Event;
use super::fleet::{Fleet, Way};
use super::socket::{Kind, Request, read_frame, write_frame};
use crate::config::variables::MUSTER_RANK_SOCKET;
use crate::exit::{Class, Explain};
use crate::plan::Family;
use crate::process::carry::carry;
use crate::process::reaper::Reaper;
use crate::process::spawn::Child;
use crate::ssh::client::Connection;
use crate::ssh::remote::{Ended, ExecEvent};
use crate::worker::shell;

/// The mark of what the engine starts on its own machine.
const SESSION: &str = "launcher";

/// Bytes that are read of an agent at a time: a call of any MPI's, the request and the command line.
const CALL: usize = 4 * 1024;

/// What an agent sends.
type Calls = BufReader<OwnedReadHalf>;

/// What a request needs to be served.
#[derive(Clone)]
pub struct Engine {
    /// The hosts.
    pub fleet: Arc<Fleet>,
    /// Whose daemons are reported.
    pub family: Family,
    /// For commands on this machine.
    pub reaper: Reaper,
    /// The name under which wrappers look for the desk of this machine.
    pub rank_socket: String,
    /// What every command gets in its environment.
    pub env: Vec<(String, String)>,
    /// Where to report.
    pub events: mpsc::Sender<Event>,
}

/// Opens the socket in the job's private directory.
///
/// # Errors
/// The path cannot be bound.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    UnixListener::bind(path).map_err(|source| SocketError { path: path.to_path_buf(), source })
}

/// The socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {}: {source}", .path.display())]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

impl Explain for SocketError {
    fn class(&self) -> Class {
        Class::LocalResource
    }

    fn hint(&self) -> Option<String> {
        Some("name a directory on a file system that has sockets with MUSTER_RUN_DIR".into())
    }
}

impl Engine {
    /// Serves agents until dropped.
    pub async fn serve(self, listener: UnixListener) {
        let uid = nix::unistd::geteuid().as_raw();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: agents end and give some back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // The directory lets nobody else in already; this is the second lock.
            if stream.peer_cred().is_ok_and(|peer| peer.uid() == uid || peer.uid() == 0) {
                let engine = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = engine.answer(stream).await {
                        tracing::debug!(%error, "an agent left");
                    }
                });
            }
        }
    }

    async fn answer(&self, stream: UnixStream) -> io::Result<()> {
        let (read, write) = stream.into_split();
        let mut read = BufReader::with_capacity(CALL, read);
        let agent = Agent { write: Mutex::new(write) };
        let (Kind::Request, request) = read_frame(&mut read).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let request: Request = serde_json::from_slice(&request)?;
        let (Kind::Command, command) = read_frame(&mut read).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let Some((host, way)) = self.fleet.find(&request.host, &request.way) else {
            return agent.send(Kind::NotOurs, &[]).await;
        };
        agent.send(Kind::Ours, &[]).await?;
        let words = String::from_utf8_lossy(&command);
        tracing::debug!(%host, command = %words, "agent called");
        // Ranks and sites' scripts call ssh as well, and what becomes of that is their own affair.
        let is_daemon = self.family.starts_daemon(&words);
        let report = async |event| {
            if is_daemon {
                self.report(event).await;
            }
        };
        report(Event::AgentCalled(host.clone())).await;
        // What the agent was told itself comes last, and wins.
        let env = [self.env.as_slice(), request.env.as_slice()].concat();
        let ended = match way {
            Way::Over(connection) => over(&connection, &command, &env, &mut read, &agent).await,
            Way::Here => self.here(&command, env, &mut read, &agent).await,
        };
        match ended {
            Ok(Some(ended)) => {
                report(Event::AgentEnded(host.clone(), ended.clone())).await;
                agent.send(Kind::Ended, &serde_json::to_vec(&ended)?).await
            }
            Ok(None) => {
                report(Event::AgentStopped(host)).await;
                Ok(())
            }
            Err(words) => {
                report(Event::AgentEnded(host, Ended::Lost(words.clone()))).await;
                agent.send(Kind::Failed, words.as_bytes()).await
            }
        }
    }

    async fn report(&self, event: Event) {
        // Nobody listens when the launch is over.
        let _ = self.events.send(event).await;
    }

    async fn here(
        &self,
        command: &[u8],
        mut env: Vec<(String, String)>,
        read: &mut Calls,
        agent: &Agent,
    ) -> Result<Option<Ended>, String> {
        env.push((MUSTER_RANK_SOCKET.to_owned(), self.rank_socket.clone()));
        let child = shell::start(&self.reaper, command, &env, SESSION)
            .await
            .map_err(|error| error.to_string())?;
        let Child { id, stdin, stdout, stderr, exit } = child;
        let (exited, after_exit) = watch::channel(false);
        let output = carry(stdout, after_exit.clone(), async |data| {
            agent.send(Kind::Stdout, &data).await.is_ok()
        });
        let errors =
            carry(stderr, after_exit, async |data| agent.send(Kind::Stderr, &data).await.is_ok());
        let end = async {
            let status = exit.await;
            exited.send_replace(true);
            status
        };
        let finished = async { tokio::join!(end, output, errors) };
        tokio::select! {
            (exited, (), ()) = finished => match exited {
                Ok(exited) => Ok(Some(Ended::Status(exited.status))),
                Err(error) => Err(error.to_string()),
            },
            left = agent.input(read, Input::Pipe(stdin)) => {
                // Its group is gone only when it has just ended.
                let _ = killpg(Pid::from_raw(id.pid), Signal::SIGTERM);
                Ok(left.ended())
            }
        }
    }
}

/// Runs a command over a connection. None: the agent was told to stop, and with it the command.
async fn over(
    connection: &Connection,
    command: &[u8],
    env: &[(String, String)],
    read: &mut Calls,
    agent: &Agent,
) -> Result<Option<Ended>, String> {
    let exec = connection.exec(command, env).await.map_err(|error| error.to_string())?;
    let (mut events, stdin) = exec.split();
    let output = async {
        loop {
            let sent = match events.next().await {
                ExecEvent::Stdout(data) => agent.send(Kind::Stdout, &data).await,
                ExecEvent::Stderr(data) => agent.send(Kind::Stderr, &data).await,
                ExecEvent::Ended(ended) => return ended,
            };
            if sent.is_err() {
                // The agent is gone; the other branch notices it.
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        ended = output => Ok(Some(ended)),
        left = agent.input(read, Input::Exec(&stdin)) => {
            stdin.close().await;
            Ok(left.ended())
        }
    }
}

/// Why an agent no longer listens.
enum Left {
    /// It was told to stop by a signal, as mpirun does at its own end.
    Stopped,
    /// It vanished: killed.
    Vanished,
}

impl Left {
    fn ended(self) -> Option<Ended> {
        match self {
            Self::Stopped => None,
            Self::Vanished => Some(Ended::Lost("its remote-shell agent was killed".into())),
        }
    }
}

/// Where an agent's standard input goes.
enum Input<'a> {
    Exec(&'a crate::ssh::remote::ExecStdin),
    Pipe(Option<pipe::Sender>),
}

/// The agent at the other end of the socket.
struct Agent {
    write: Mutex<OwnedWriteHalf>,
}

impl Agent {
    async fn send(&self, kind: Kind, data: &[u8]) -> io::Result<()> {
        write_frame(&mut *self.write.lock().await, kind, data).await
    }

    /// Carries its input until it leaves.
    async fn input(&self, read: &mut Calls, mut to: Input<'_>) -> Left {
        let mut hung_up = false;
        loop {
            let data = match read_frame(read).await {
                Ok((Kind::Stdin, data)) => Some(data),
                Ok((Kind::StdinEnd, _)) => None,
                Ok((Kind::Stopped, _)) => return Left::Stopped,
                Ok(_) | Err(_) => return Left::Vanished,
            };
            // Of one that has left, only the last word counts.
            if hung_up {
                continue;
            }
            tokio::select! {
                biased;
                () = to.take(data) => {}
                // A command that reads no input must not outlive its agent; ready for this is who has hung up.
                _ = read.get_ref().ready(Interest::PRIORITY) => hung_up = true,
            }
        }
    }
}

impl Input<'_> {
    /// Passes some input on, or its end; what nobody takes any more is dropped.
    async fn take(&mut self, data: Option<Vec<u8>>) {
        match (self, data) {
            (Self::Exec(stdin), Some(data)) => drop(stdin.write(Bytes::from(data)).await),
            (Self::Exec(stdin), None) => drop(stdin.eof().await),
            (Self::Pipe(pipe), Some(data)) => {
                if let Some(open) = pipe
                    && open.write_all(&data).await.is_err()
                {
                    *pipe = None;
                }
            }
            (Self::Pipe(pipe), None) => *pipe = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    use super::*;
    use crate::launch::socket::STOPPED;

    #[tokio::test]
    async fn an_agent_that_leaves_is_noticed_while_nobody_reads_its_input() {
        for last in [&STOPPED[..], b""] {
            let (engine, mut theirs) = UnixStream::pair().unwrap();
            let (read, write) = engine.into_split();
            let mut read = BufReader::with_capacity(CALL, read);
            let agent = Agent { write: Mutex::new(write) };
            // More than a pipe takes, and less than a socket.
            let (stdin, mut unread) = pipe::pipe().unwrap();
            let data = vec![0; 100 * 1024];
            let leaving = async {
                write_frame(&mut theirs, Kind::Stdin, &data).await.unwrap();
                // The engine is at the pipe.
                unread.read_exact(&mut [0]).await.unwrap();
                write_frame(&mut theirs, Kind::Stdin, b"more").await.unwrap();
                theirs.write_all(last).await.unwrap();
                drop(theirs);
            };
            let input = agent.input(&mut read, Input::Pipe(Some(stdin)));
            let both = async { tokio::join!(input, leaving).0 };
            let left = timeout(Duration::from_secs(60), both).await.unwrap();
            assert_eq!(matches!(left, Left::Stopped), !last.is_empty());
        }
    }
}
