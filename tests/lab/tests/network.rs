//! What the network is: hosts reach each other, cuts are silent, moves are clean, DNS answers as CoreDNS does.
//!
//! Needs root and iproute2; no MPI, no muster.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use lab::{Cmd, GATEWAY, Host, HostSpec, Lab};

const SOON: Duration = Duration::from_secs(10);
/// After this nothing comes any more, also on a busy machine.
const MOMENT: Duration = Duration::from_secs(2);
/// How often a question is asked before it counts as unanswered.
const TRIES: usize = 5;
const SERVICE: &str = "pi.default.svc.cluster.local";

fn pair(lab: &Lab) -> (Host, Host) {
    let mut hosts =
        lab.add_all(["w0", "w1"].map(|name| HostSpec::new(name).domain(SERVICE))).unwrap();
    let second = hosts.pop().unwrap();
    (hosts.pop().unwrap(), second)
}

fn listen(host: &Host) -> (TcpListener, SocketAddr) {
    let address = host.address();
    let listener = host.in_network(|| TcpListener::bind((address, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn connect(from: &Host, to: SocketAddr) -> std::io::Result<TcpStream> {
    from.in_network(|| TcpStream::connect_timeout(&to, MOMENT)).unwrap()
}

fn connected(from: &Host, to: &Host) -> (TcpStream, TcpStream) {
    let (listener, address) = listen(to);
    let near = connect(from, address).unwrap();
    let (far, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), from.address());
    far.set_read_timeout(Some(MOMENT)).unwrap();
    (near, far)
}

fn quiet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[test]
fn hosts_reach_each_other_and_nothing_else() {
    let lab = Lab::with_ipv6(true).unwrap();
    let (a, b) = pair(&lab);
    let (mut near, mut far) = connected(&a, &b);
    near.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    let refused = connect(&a, SocketAddr::from((b.address(), 9))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(
        connect(&a, SocketAddr::from(([192, 0, 2, 1], 80))).is_err(),
        "nothing leaves the machine"
    );
}

#[test]
fn a_cut_is_silent_and_heals() {
    let lab = Lab::new().unwrap();
    let (a, b) = pair(&lab);
    let (mut near, mut far) = connected(&a, &b);
    let (_listener, address) = listen(&b);
    b.cut().unwrap();
    near.write_all(b"x").unwrap();
    assert!(quiet(&far.read(&mut [0]).unwrap_err()), "bytes do not arrive");
    assert!(quiet(&connect(&a, address).unwrap_err()), "no refusal, no reset");
    let outward = listen(&a).1;
    assert!(quiet(&connect(&b, outward).unwrap_err()), "silent in the other direction too");
    b.heal().unwrap();
    far.set_read_timeout(Some(SOON)).unwrap();
    far.read_exact(&mut [0]).unwrap();
    connect(&a, address).unwrap();
}

#[test]
fn a_moved_host_has_its_new_address_only() {
    let lab = Lab::new().unwrap();
    let (a, b) = pair(&lab);
    let old = listen(&b).1;
    let new = Ipv4Addr::new(10, 77, 9, 9);
    b.cut().unwrap();
    b.move_to(new).unwrap();
    assert!(connect(&a, old).is_err());
    let (_, mut far) = connected(&a, &b);
    assert_eq!(far.local_addr().unwrap().ip(), new);
    far.flush().unwrap();
    b.boot_idle().unwrap();
    let hosts = b.run(Cmd::new("cat").arg("/etc/hosts"), SOON).unwrap().stdout;
    assert!(hosts.contains("10.77.9.9\tw1.pi.default.svc.cluster.local\tw1"), "{hosts}");
}

#[test]
fn glibc_resolves_what_is_published() {
    let lab = Lab::new().unwrap();
    let (a, b) = pair(&lab);
    a.boot_idle().unwrap();
    let ask = |name: &str| {
        a.run(Cmd::sh(format!("getent ahostsv4 {name} | awk '{{print $1}}' | sort -u")), SOON)
            .unwrap()
            .stdout
    };
    assert_eq!(ask("w1.pi.default.svc"), "");
    b.publish().unwrap();
    assert_eq!(ask("w1.pi.default.svc"), format!("{}\n", b.address()), "by way of the search list");
    let asked = lab.dns().queries();
    assert!(
        asked.iter().any(|query| query.name == "w1.pi.default.svc.svc.cluster.local"),
        "{asked:?}"
    );
    assert!(asked.iter().all(|query| query.from == a.address()));
    lab.dns().publish("w0.pi.default.svc.cluster.local", a.address()).unwrap();
    assert_eq!(ask("pi.default").lines().count(), 2, "the headless Service has all members");
    b.withdraw().unwrap();
    assert_eq!(ask("w1.pi.default.svc"), "");
    assert!(lab.dns().publish("not a name..", a.address()).is_err());
}

/// A question over UDP, asked again as a stub resolver does where a busy machine lost it.
fn ask(host: &Host, name: &str, edns: bool) -> Option<Message> {
    (0..TRIES).find_map(|_| ask_once(host, name, edns))
}

/// A question over UDP; none if nothing comes back.
fn ask_once(host: &Host, name: &str, edns: bool) -> Option<Message> {
    let reply = host.in_network(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(MOMENT))?;
        socket.connect((GATEWAY, 53))?;
        socket.send(&question(name, edns))?;
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer)?;
        Ok::<_, std::io::Error>(Message::from_vec(&buffer[..length]).unwrap())
    });
    reply.unwrap().ok()
}

fn ask_tcp(host: &Host, name: &str) -> Message {
    let mut stream = connect(host, SocketAddr::from((GATEWAY, 53))).unwrap();
    let question = question(name, false);
    stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&question).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).unwrap();
    Message::from_vec(&reply).unwrap()
}

fn question(name: &str, edns: bool) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

#[test]
fn an_answer_that_does_not_fit_is_truncated_over_udp_and_whole_over_tcp() {
    let lab = Lab::new().unwrap();
    let host = lab.add(HostSpec::new("w")).unwrap();
    for i in 0..60 {
        lab.dns().publish(&format!("w{i}.{SERVICE}"), [10, 77, 2, i]).unwrap();
    }
    let reply = ask(&host, SERVICE, false).unwrap();
    assert!(
        reply.metadata.truncation && reply.answers.is_empty(),
        "60 records are 960 bytes and more"
    );
    let reply = ask(&host, SERVICE, true).unwrap();
    assert_eq!((reply.metadata.truncation, reply.answers.len()), (false, 60), "EDNS makes room");
    assert_eq!(ask_tcp(&host, SERVICE).answers.len(), 60);
    lab.dns().force_truncation(true);
    assert!(ask(&host, "w1.pi.default.svc.cluster.local", true).unwrap().metadata.truncation);
    assert_eq!(ask_tcp(&host, "w1.pi.default.svc.cluster.local").answers.len(), 1);
    assert!(lab.dns().queries().last().unwrap().over_tcp);
}

#[test]
fn negative_answers_stick_when_cached_and_a_pause_is_silence() {
    let lab = Lab::new().unwrap();
    let host = lab.add(HostSpec::new("w")).unwrap();
    let code = |name: &str| ask(&host, name, false).unwrap().metadata.response_code;
    let absent = ask(&host, &format!("w1.{SERVICE}"), false).unwrap();
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(absent.authorities.len(), 1, "with the SOA");
    lab.dns().cache_negative(Some(Duration::from_secs(30)));
    assert_eq!(code(&format!("w1.{SERVICE}")), ResponseCode::NXDomain);
    lab.dns().publish(&format!("w1.{SERVICE}"), [10, 77, 1, 1]).unwrap();
    lab.dns().publish(&format!("w2.{SERVICE}"), [10, 77, 1, 2]).unwrap();
    assert_eq!(code(&format!("w1.{SERVICE}")), ResponseCode::NXDomain, "asked too early");
    assert_eq!(code(&format!("w2.{SERVICE}")), ResponseCode::NoError);
    lab.dns().cache_negative(None);
    assert_eq!(code(&format!("w1.{SERVICE}")), ResponseCode::NoError);

    lab.dns().clear_queries();
    lab.dns().pause();
    assert!(ask_once(&host, &format!("w1.{SERVICE}"), false).is_none());
    assert_eq!(lab.dns().queries().len(), 1, "seen, not answered");
    lab.dns().resume();
    assert!(ask(&host, &format!("w1.{SERVICE}"), false).is_some());
}
