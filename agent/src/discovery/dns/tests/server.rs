//! A real DNS server on 127.0.0.1 that counts what it is asked.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_resolver::net::runtime::Time;
use hickory_resolver::net::xfer::Protocol;
use hickory_resolver::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_resolver::proto::rr::rdata::PTR;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

/// What the server knows and how it misbehaves; names are absolute and in lower case.
#[derive(Default)]
pub(super) struct Zone {
    pub(super) addresses: HashMap<String, Vec<IpAddr>>,
    /// Answered with SERVFAIL.
    pub(super) failing: BTreeSet<String>,
    /// Not answered.
    pub(super) silent: BTreeSet<String>,
    /// No address points to a name.
    pub(super) no_pointers: bool,
    /// AAAA is never answered.
    pub(super) silent_aaaa: bool,
    /// Over UDP nothing but "ask again over TCP".
    pub(super) truncated: bool,
}

/// One question as it came.
struct Question {
    name: String,
    kind: RecordType,
    protocol: Protocol,
    at: Instant,
}

/// A client that waits longer than 333 ms believes its packet lost and sends it again: on a machine
/// under load this happens, and is not what these tests count.
const SENT_AGAIN: Duration = Duration::from_millis(300);

#[derive(Default)]
struct Shared {
    zone: Mutex<Zone>,
    questions: Mutex<Vec<Question>>,
}

pub(super) struct DnsServer {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server<Handler>,
}

impl DnsServer {
    pub(super) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let mut server = Server::new(Handler(Arc::clone(&shared)));
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 64);
        Self { address, shared, _server: server }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Zone)) {
        change(&mut self.shared.zone.lock().unwrap());
    }

    pub(super) fn publish(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.change(|zone| {
            zone.addresses.insert(name.to_owned(), addresses);
        });
    }

    /// The questions since the last call, each as `name TYPE`, sorted.
    pub(super) fn asked(&self) -> Vec<String> {
        let questions = std::mem::take(&mut *self.shared.questions.lock().unwrap());
        let mut first: HashMap<String, Instant> = HashMap::new();
        let mut asked = Vec::new();
        for Question { name, kind, at, .. } in questions {
            let question = format!("{name} {kind}");
            let since = at.duration_since(*first.entry(question.clone()).or_insert(at));
            if since < SENT_AGAIN {
                asked.push(question);
            }
        }
        asked.sort_unstable();
        asked
    }

    pub(super) fn transports(&self) -> Vec<Protocol> {
        self.shared.questions.lock().unwrap().iter().map(|question| question.protocol).collect()
    }
}

/// UDP and TCP on one port that the kernel chose.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

struct Handler(Arc<Shared>);

enum Reply {
    Nothing,
    Code(ResponseCode),
    Truncated,
    Records(Vec<Record>),
}

impl Handler {
    fn reply(&self, name: &str, kind: RecordType, protocol: Protocol) -> Reply {
        let question = Question { name: name.to_owned(), kind, protocol, at: Instant::now() };
        self.0.questions.lock().unwrap().push(question);
        let zone = self.0.zone.lock().unwrap();
        if zone.silent.contains(name) || (zone.silent_aaaa && kind == RecordType::AAAA) {
            return Reply::Nothing;
        }
        if zone.failing.contains(name) {
            return Reply::Code(ResponseCode::ServFail);
        }
        if zone.truncated && protocol == Protocol::Udp {
            return Reply::Truncated;
        }
        if kind == RecordType::PTR && !zone.no_pointers {
            let address = Name::from_ascii(name).unwrap().parse_arpa_name().unwrap().addr();
            let owners = zone.addresses.iter().filter(|(_, own)| own[..] == [address]);
            let record = |(target, _): (&String, _)| {
                let target = RData::PTR(PTR(Name::from_ascii(target).unwrap()));
                Record::from_rdata(Name::from_ascii(name).unwrap(), 300, target)
            };
            return Reply::Records(owners.map(record).collect());
        }
        let Some(addresses) = zone.addresses.get(name) else {
            return Reply::Code(ResponseCode::NXDomain);
        };
        let data = addresses.iter().filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), RecordType::A) => Some(RData::A((*v4).into())),
            (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA((*v6).into())),
            _ => None,
        });
        let owner = Name::from_ascii(name).unwrap();
        Reply::Records(data.map(|data| Record::from_rdata(owner.clone(), 300, data)).collect())
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let info = request.request_info().unwrap();
        let name = info.query.name().to_string();
        let reply = self.reply(&name, info.query.query_type(), request.protocol());

        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut records = Vec::new();
        match reply {
            Reply::Nothing => {
                return Header { metadata, counts: HeaderCounts::default() }.into();
            }
            Reply::Code(code) => metadata.response_code = code,
            Reply::Truncated => metadata.truncation = true,
            Reply::Records(found) => records = found,
        }
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &records,
            &[],
            &[],
            &[],
        );
        handle.send_response(response).await.unwrap()
    }
}
