//! Proves that this worker can call the launcher back, as the MPI daemons will have to.
//!
//! Must not decide whether a failure matters; the launcher does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::discovery::dns::Resolver;
use crate::discovery::lookup::Lookup;
use crate::ids::HostName;
use crate::ssh::control::ToLauncher;

/// For each of the two steps.
const LIMIT: Duration = Duration::from_secs(8);

/// Resolves `name` and connects to `address`.
pub async fn call_back(name: &str, address: SocketAddr) -> ToLauncher {
    let (name_error, connect_error) = tokio::join!(resolve(name), connect(address));
    ToLauncher::CalledBack { name_error, connect_error }
}

async fn resolve(name: &str) -> Option<String> {
    match timeout(LIMIT, Resolver::from_system().lookup(&HostName::from(name))).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer from DNS in {} s", LIMIT.as_secs())),
    }
}

async fn connect(address: SocketAddr) -> Option<String> {
    match timeout(LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("{address}: {error}")),
        Err(_) => Some(format!("{address}: no answer in {} s", LIMIT.as_secs())),
    }
}
