//! UDP and TCP on port 53, and how an answer becomes bytes: EDNS, truncation.
//!
//! Must not decide what a name means; the zone does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, oneshot};

use super::zone::Answer;
use super::{LOG, Query, Shared, lock};
use crate::error::{Doing, Result};
use crate::namespace;
use crate::network::GATEWAY;

const PORT: u16 = 53;
/// What CoreDNS offers to take over UDP, in bytes.
const PAYLOAD: u16 = 1232;
/// An idle TCP connection is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// TCP connections at a time.
const CONNECTIONS: usize = 1024;

/// The running server; it ends on drop.
#[derive(Debug)]
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(net: &OwnedFd, shared: Arc<Mutex<Shared>>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .doing(|| "make the DNS server's runtime".into())?;
        let address = SocketAddr::from((GATEWAY, PORT));
        // A socket belongs to the network namespace of the thread that makes it, for good.
        let (udp, tcp) = namespace::in_net(net, || {
            let udp = std::net::UdpSocket::bind(address).doing(|| format!("bind UDP {address}"))?;
            let tcp =
                std::net::TcpListener::bind(address).doing(|| format!("bind TCP {address}"))?;
            udp.set_nonblocking(true)
                .and_then(|()| tcp.set_nonblocking(true))
                .doing(|| "set up sockets".into())?;
            Ok((udp, tcp))
        })?;
        let serve = move || {
            runtime.block_on(async {
                let (Ok(udp), Ok(tcp)) = (UdpSocket::from_std(udp), TcpListener::from_std(tcp))
                else {
                    return;
                };
                tokio::select! {
                    () = serve_udp(udp, &shared) => {}
                    () = serve_tcp(tcp, &shared) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new()
            .name("lab-dns".into())
            .spawn(serve)
            .doing(|| "start a thread".into())?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed already; a drop has nobody to tell.
            let _ = thread.join();
        }
    }
}

async fn serve_udp(socket: UdpSocket, shared: &Mutex<Shared>) {
    let mut buffer = [0; 4096];
    loop {
        // An error here is an ICMP echo of an earlier answer: the asker has gone.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(reply) = respond(shared, &buffer[..length], from.ip(), false) {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: &Arc<Mutex<Shared>>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else { continue };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            // Whatever ends a connection is the asker's affair.
            let _ = converse(stream, from.ip(), &shared).await;
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, from: IpAddr, shared: &Mutex<Shared>) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut question)).await??;
        if let Some(reply) = respond(shared, &question, from, true) {
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            stream.write_u16(length).await?;
            stream.write_all(&reply).await?;
        }
    }
}

/// The bytes of the answer; none where the server is paused or the question is no question.
fn respond(shared: &Mutex<Shared>, bytes: &[u8], from: IpAddr, over_tcp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(bytes).ok()?;
    let question = request.queries.first()?;
    let now = Instant::now();
    let mut shared = lock(shared);
    if shared.queries.len() < LOG {
        let name = question.name().to_lowercase().to_ascii();
        let name = name.trim_end_matches('.').to_owned();
        shared.queries.push(Query { name, kind: question.query_type(), when: now, over_tcp, from });
    }
    if shared.paused {
        return None;
    }
    let answer = if shared.failing.contains(&question.query_type()) {
        Answer { code: ResponseCode::ServFail, records: Vec::new(), authority: None }
    } else {
        shared.zone.answer(question.name(), question.query_type(), now)
    };
    let truncate = shared.truncate && !over_tcp;
    drop(shared);

    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.authoritative = true;
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = answer.code;
    reply.add_query(question.clone());
    reply.add_answers(answer.records);
    reply.add_authorities(answer.authority);
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_version(0);
        reply.set_edns(edns);
    }
    let most = usize::from(request.max_payload().min(PAYLOAD));
    let encoded = match reply.to_vec() {
        Ok(encoded) if over_tcp || (encoded.len() <= most && !truncate) => encoded,
        Ok(_) => reply.truncate().to_vec().ok()?,
        Err(_) => Message::error_msg(
            request.metadata.id,
            request.metadata.op_code,
            ResponseCode::ServFail,
        )
        .to_vec()
        .ok()?,
    };
    Some(encoded)
}
