//! Whose a connection is: the user at its other end, as the kernel tells.
//!
//! Both ends of a connection over loopback are sockets of this machine, and the kernel knows who opened each. Neither
//! `cargo lambda invoke` nor a function's runtime can send a token, and none is needed: what another user opens is
//! refused before a byte of it is read.
//!
//! One socket is looked up over netlink (`sock_diag(7)`, as `ss` does) in some 10 µs. A kernel built without it lists
//! all of them in `/proc/net/tcp`, which takes 12 ms where its table is large.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use rustix::process::geteuid;

/// Message types and flags of `linux/netlink.h` and `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `nlmsghdr`, and behind it `inet_diag_req_v2` or `inet_diag_msg` of `linux/inet_diag.h`.
const HEAD: usize = 16;
const REQUEST: usize = HEAD + 56;
const ANSWER: usize = HEAD + 72;
/// Places in `inet_diag_msg`.
const STATE: usize = HEAD + 1;
const USER: usize = HEAD + 64;
const INODE: usize = HEAD + 68;

/// The states (`net/tcp_states.h`) of a client that can have sent something and can still read: established, and both
/// in which it has said that nothing more follows.
const CLIENT_STATES: [u8; 3] = [1, 4, 5];

/// A socket as the kernel tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    state: u8,
    user: u32,
    /// 0 once its process has closed it; the user is then nobody's.
    inode: u32,
}

/// Tells this user's connections from those of others.
pub(super) struct Peers {
    own: u32,
    look: Look,
}

type Look = fn(SocketAddr, SocketAddr) -> io::Result<Option<Socket>>;

impl Peers {
    /// Tries on a socket of ours, which listens at this address, which way the kernel tells.
    pub(super) fn of(listener: SocketAddr) -> Option<Self> {
        let nobody: IpAddr = match listener {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = geteuid().as_raw();
        let tells = |look: &Look| {
            let found = look(listener, SocketAddr::new(nobody, 0));
            matches!(found, Ok(Some(socket)) if socket.user == own)
        };
        [by_netlink as Look, by_list as Look].into_iter().find(tells).map(|look| Self { own, look })
    }

    /// Whether the client at `client` is this user's. What its process has closed already is not.
    pub(super) fn is_own(&self, client: SocketAddr, server: SocketAddr) -> bool {
        match (self.look)(client, server) {
            Ok(Some(socket)) => {
                socket.user == self.own
                    && socket.inode != 0
                    && CLIENT_STATES.contains(&socket.state)
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(%error, "ask the kernel whose a connection is");
                false
            }
        }
    }
}

/// Looks up one socket by its own address and that of its peer.
fn by_netlink(own: SocketAddr, peer: SocketAddr) -> io::Result<Option<Socket>> {
    let mut request = Vec::with_capacity(REQUEST);
    request.extend_from_slice(&72_u32.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    let family = if own.is_ipv4() { AF_INET } else { AF_INET6 };
    request.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&own.port().to_be_bytes());
    request.extend_from_slice(&peer.port().to_be_bytes());
    request.extend_from_slice(&padded(own.ip()));
    request.extend_from_slice(&padded(peer.ip()));
    // Any interface, any cookie.
    request.extend_from_slice(&0_u32.to_ne_bytes());
    request.extend_from_slice(&u64::MAX.to_ne_bytes());

    let (kind, flags) = (SocketType::DGRAM, SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG))?;
    send(&socket, &request, SendFlags::empty())?;
    // The kernel has answered when `send` returns.
    let mut answer = [0; 512];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    let is_found = answer[4..6] == SOCK_DIAG_BY_FAMILY.to_ne_bytes() && length >= ANSWER;
    let number = |at: usize| answer[at..at + 4].try_into().map(u32::from_ne_bytes).unwrap_or(0);
    Ok(is_found.then(|| Socket { state: answer[STATE], user: number(USER), inode: number(INODE) }))
}

/// An address in the room of the longer kind.
fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&address.octets());
            padded
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// Finds the same in the kernel's lists of all sockets. A client may speak IPv4 through a socket for IPv6.
fn by_list(own: SocketAddr, peer: SocketAddr) -> io::Result<Option<Socket>> {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    let places = [("/proc/net/tcp", own, peer), ("/proc/net/tcp6", mapped(own), mapped(peer))];
    for (file, own, peer) in places {
        match fs::read_to_string(file) {
            Ok(list) => {
                if let Some(socket) = listed(&list, &hex(own), &hex(peer)) {
                    return Ok(Some(socket));
                }
            }
            // A kernel without IPv6 has no list of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A line of `/proc/net/tcp` (`proc_net_tcp(5)`): number, both addresses, state, queues, timers, retransmits, user, timeout, inode.
fn listed(list: &str, own: &str, peer: &str) -> Option<Socket> {
    list.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, at, to, state, _, _, _, user, _, inode, ..] = fields.as_slice() else {
            return None;
        };
        (*at == own && *to == peer).then_some(())?;
        Some(Socket {
            state: u8::from_str_radix(state, 16).ok()?,
            user: user.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    })
}

/// An address as the lists have it: each four bytes as a number of this machine.
fn hex(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let numbers = octets.as_chunks().0.iter().map(|part| u32::from_ne_bytes(*part));
    let ip: String = numbers.map(|number| format!("{number:08X}")).collect();
    format!("{ip}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ways_tell_the_same_of_a_client() {
        for (listens, connects) in
            [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "::ffff:127.0.0.1"), ("[::1]:0", "::1")]
        {
            let Ok(listener) = TcpListener::bind(listens) else { continue };
            let server = listener.local_addr().unwrap();
            let to = SocketAddr::new(connects.parse().unwrap(), server.port());
            let stream = TcpStream::connect(to).unwrap();
            let (_accepted, client) = listener.accept().unwrap();
            let found = [by_netlink(client, server), by_list(client, server)].map(|found| {
                found.unwrap().unwrap_or_else(|| panic!("{client} to {server} is not found"))
            });
            assert_eq!(found[0], found[1]);
            assert_eq!(found[0].user, geteuid().as_raw());
            let peers = Peers::of(server).unwrap();
            assert!(peers.is_own(client, server));
            let others = Peers { own: geteuid().as_raw() + 1, ..peers };
            assert!(!others.is_own(client, server));
            drop(stream);
        }
    }

    #[test]
    fn a_socket_that_its_process_has_closed_is_nobodys() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        for look in [by_netlink as Look, by_list as Look] {
            let stream = TcpStream::connect(server).unwrap();
            let (_accepted, client) = listener.accept().unwrap();
            let peers = Peers { own: geteuid().as_raw(), look };
            assert!(peers.is_own(client, server));
            drop(stream);
            assert!(!peers.is_own(client, server));
        }
    }
}
