//! Whether the MPI daemons on the workers will be able to call the launcher back.
//!
//! Must not judge what a failure means for a family; that is the caller's to say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::wait::{Link, Ready};
use crate::exit::{Class, Explain};
use crate::ids::HostName;
use crate::ssh::control::{ToLauncher, ToWorker};
use crate::text::phrases;

/// How long all workers together may take to resolve a name and open a connection.
const LIMIT: Duration = Duration::from_secs(20);

/// Workers that a message names.
const NAMED: usize = 8;

/// What workers found when they called back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CallBacks {
    /// Workers on which the launcher's name does not resolve, and why.
    pub nameless: Vec<(HostName, String)>,
    /// Workers that cannot connect to the launcher, and why.
    pub cut_off: Vec<(HostName, String)>,
}

/// Workers cannot connect to the launcher, as every MPI daemon must.
#[derive(Debug, thiserror::Error)]
#[error("be reached by every worker: {}", list(.hosts))]
pub struct CutOff {
    /// Each worker that cannot, and why.
    pub hosts: Vec<(HostName, String)>,
}

fn list(hosts: &[(HostName, String)]) -> String {
    let words: Vec<String> =
        hosts.iter().map(|(host, why)| format!("{host} cannot connect: {why}")).collect();
    phrases(&words, NAMED)
}

impl Explain for CutOff {
    fn class(&self) -> Class {
        Class::WorkersNotReady
    }

    fn hint(&self) -> Option<String> {
        Some(
            "the MPI daemons open connections to the launcher on ports above 1023; let the \
             NetworkPolicy of the job's pods allow them in both directions"
                .into(),
        )
    }
}

/// Listeners for the calls, one for each of our addresses; closed when dropped.
#[derive(Default)]
struct Doors {
    open: HashMap<IpAddr, SocketAddr>,
    answering: JoinSet<()>,
}

impl Doors {
    /// Where calls to this address of ours are answered.
    async fn open(&mut self, local: IpAddr) -> io::Result<SocketAddr> {
        if let Some(address) = self.open.get(&local) {
            return Ok(*address);
        }
        let listener = TcpListener::bind((local, 0)).await?;
        let address = listener.local_addr()?;
        // Accepting is all that a call back needs; what connects is closed again at once.
        self.answering.spawn(async move { while listener.accept().await.is_ok() {} });
        self.open.insert(local, address);
        Ok(address)
    }
}

/// Has every muster worker resolve `name` and connect back, all at once.
pub async fn check(hosts: &mut [Ready], name: &str) -> CallBacks {
    let mut found = CallBacks::default();
    let mut doors = Doors::default();
    let mut asked = Vec::new();
    let deadline = Instant::now() + LIMIT;
    for host in hosts.iter_mut() {
        let Link::Worker(connection, control) = &host.link else { continue };
        // Bound to the address by which this worker sees us, so that the right interface is proved.
        let local = connection.local().ip();
        let address = match doors.open(local).await {
            Ok(address) => address,
            Err(error) => {
                found.cut_off.push((host.spec.name.clone(), format!("listen on {local}: {error}")));
                continue;
            }
        };
        let message = ToWorker::CallBack { name: name.to_owned(), address };
        match control.sender.send(&message).await {
            Ok(()) => asked.push(host),
            Err(error) => found.cut_off.push((host.spec.name.clone(), error.to_string())),
        }
    }
    for host in asked {
        let Link::Worker(_, control) = &mut host.link else { continue };
        let answer = timeout_at(deadline, control.receiver.next()).await;
        let host = &host.spec.name;
        match answer {
            Ok(Ok(Some(ToLauncher::CalledBack { name_error, connect_error }))) => {
                found.nameless.extend(name_error.map(|why| (host.clone(), why)));
                found.cut_off.extend(connect_error.map(|why| (host.clone(), why)));
            }
            Ok(Ok(_)) => found.cut_off.push((host.clone(), "no answer to the question".into())),
            Ok(Err(error)) => found.cut_off.push((host.clone(), error.to_string())),
            Err(_) => {
                found.cut_off.push((host.clone(), format!("no answer in {} s", LIMIT.as_secs())));
            }
        }
    }
    found
}
