//! Which addresses a request may reach: public ones, and what the operator excepted.
//!
//! Literal addresses are judged before a request is sent; names are judged inside the connector's own resolver, which
//! hands on only addresses that passed. There is no second look-up, so a name that changes its answer between check and
//! connection gains nothing.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base::nets::{AllowNets, plain_name};
use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::failure::Reason;

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

/// The first two groups of a network; the others are zero.
const fn v6(first: u16, second: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), bits)
}

/// IANA's special-purpose registry of 2026 where "globally reachable" is not true, multicast, and one cloud address.
const NOT_PUBLIC_V4: [(Ipv4Net, &str); 17] = [
    (v4(0, 0, 0, 0, 8), "an unspecified address"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "a carrier's shared address"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(168, 63, 129, 16, 32), "a cloud's metadata address"), // Azure's, in public space
    (v4(169, 254, 0, 0, 16), "a link-local address"),         // AWS, Google and Azure metadata
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "a reserved address"), // Oracle's metadata among them
    (v4(192, 0, 2, 0, 24), "a documentation address"),
    (v4(192, 88, 99, 0, 24), "a reserved address"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "a benchmarking address"),
    (v4(198, 51, 100, 0, 24), "a documentation address"),
    (v4(203, 0, 113, 0, 24), "a documentation address"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(255, 255, 255, 255, 32), "the broadcast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
];

/// Names for what is refused; whatever else lies outside `2000::/3` is refused as reserved.
const NOT_PUBLIC_V6: [(Ipv6Net, &str); 8] = [
    (v6(0, 0, 128), "an unspecified address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "a loopback address"),
    (v6(0xfc00, 0, 7), "a private address"), // AWS metadata fd00:ec2::254 among them
    (v6(0xfe80, 0, 10), "a link-local address"),
    (v6(0xff00, 0, 8), "a multicast address"),
    (v6(0x2001, 0, 23), "a reserved address"), // Teredo, ORCHID, benchmarking
    (v6(0x2001, 0xdb8, 32), "a documentation address"),
    (v6(0x3fff, 0, 20), "a documentation address"),
];

const GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 3);
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 16);

/// Says why an address is not public, or `None` when it is.
///
/// An IPv6 address that carries an IPv4 one (mapped, NAT64, 6to4) is judged by what it carries: NAT64 must stay usable,
/// because it is how a network without IPv4 reaches most of the Internet.
pub(super) fn why_not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => why_not_public_v4(address),
        IpAddr::V6(address) => match carried_v4(address) {
            Some(carried) => why_not_public_v4(carried),
            None => why_not_public_v6(address),
        },
    }
}

fn why_not_public_v4(address: Ipv4Addr) -> Option<&'static str> {
    let found = NOT_PUBLIC_V4.iter().find(|(net, _)| net.contains(&address));
    found.map(|(_, why)| *why)
}

fn why_not_public_v6(address: Ipv6Addr) -> Option<&'static str> {
    let found = NOT_PUBLIC_V6.iter().find(|(net, _)| net.contains(&address));
    match found {
        Some((_, why)) => Some(why),
        None if GLOBAL_UNICAST_V6.contains(&address) => None,
        None => Some("a reserved address"),
    }
}

fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, high, low, .., seventh, eighth] = address.segments();
    let (high, low) = if SIX_TO_FOUR.contains(&address) {
        (high, low)
    } else if NAT64.contains(&address) {
        (seventh, eighth)
    } else {
        return address.to_ipv4_mapped();
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// Judges what can be judged without DNS: the scheme and a literal address, however it was spelled.
pub(super) fn check(url: &Url, allow: &AllowNets) -> Result<(), Reason> {
    check_form(url)?;
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    match why_not_public(address) {
        Some(why) if !allow.has_address(address) => Err(Reason::Blocked { why }),
        _ => Ok(()),
    }
}

/// Refuses a URL that no HTTP request can be made of.
pub(super) fn check_form(url: &Url) -> Result<(), Reason> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Reason::Blocked { why: "a scheme other than http and https" });
    }
    match url.host() {
        Some(_) => Ok(()),
        None => Err(Reason::Blocked { why: "a URL without a host" }),
    }
}

#[cfg(test)]
pub(super) type Table = std::sync::Arc<dyn Fn(&str) -> Vec<IpAddr> + Send + Sync>;

/// How names become addresses.
#[derive(Clone)]
pub(super) enum Lookup {
    System,
    /// A test's own answers, in place of DNS.
    #[cfg(test)]
    Table(Table),
}

impl Lookup {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            }
            #[cfg(test)]
            Self::Table(answer) => Ok(answer(name)),
        }
    }
}

/// Where the names come from that a resolver is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// From a configured URL: it may resolve into the listed networks.
    Configured,
    /// From a redirect: it must be listed itself to resolve to an address that is not public.
    Redirected,
    /// From an endpoint that the operator set: any address will do.
    Trusted,
}

/// The resolver inside a connector: only addresses that may be reached come out of it.
#[derive(Clone)]
pub(super) struct GuardedResolver {
    pub(super) allow: AllowNets,
    pub(super) names: Names,
    /// The proxy's own name: the operator wrote it, and it is usually private.
    pub(super) proxy: Option<String>,
    pub(super) lookup: Lookup,
}

impl GuardedResolver {
    async fn permitted(&self, name: &str) -> Result<Vec<IpAddr>, Refusal> {
        let name = plain_name(name);
        let found = self
            .lookup
            .addresses(&name)
            .await
            .map_err(|error| Refusal::Unresolved(error.to_string()))?;
        let is_excepted = self.names == Names::Trusted
            || self.allow.has_name(&name)
            || self.proxy.as_ref() == Some(&name);
        let mut why = None;
        let mut permitted = Vec::with_capacity(found.len());
        for address in found {
            let in_listed_net = self.names == Names::Configured && self.allow.has_address(address);
            match why_not_public(address) {
                Some(reason) if !is_excepted && !in_listed_net => why = Some(reason),
                _ => permitted.push(address),
            }
        }
        match why {
            _ if !permitted.is_empty() => Ok(permitted),
            Some(why) => Err(Refusal::Blocked(why)),
            None => Err(Refusal::Unresolved("the name has no address".into())),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let permitted = resolver.permitted(name.as_str()).await?;
            // Port 0 is replaced by the URL's port.
            Ok(Box::new(permitted.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Why the resolver gave no address; found again among the causes of reqwest's error.
#[derive(Debug)]
pub(super) enum Refusal {
    Blocked(&'static str),
    Unresolved(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(why) => f.write_str(why),
            Self::Unresolved(cause) => f.write_str(cause),
        }
    }
}

impl StdError for Refusal {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_address(address: &str, expected: Option<&str>) {
        assert_eq!(why_not_public(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn tells_public_addresses_from_the_others() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            check_address(public, None);
        }
        for (address, why) in [
            ("0.0.0.0", "an unspecified address"),
            ("0.1.2.3", "an unspecified address"),
            ("10.0.0.0", "a private address"),
            ("10.255.255.255", "a private address"),
            ("100.64.0.0", "a carrier's shared address"),
            ("100.100.100.200", "a carrier's shared address"),
            ("127.255.255.255", "a loopback address"),
            ("168.63.129.16", "a cloud's metadata address"),
            ("169.254.169.254", "a link-local address"),
            ("172.31.255.255", "a private address"),
            ("192.0.0.192", "a reserved address"),
            ("192.168.1.1", "a private address"),
            ("198.19.255.255", "a benchmarking address"),
            ("224.0.0.1", "a multicast address"),
            ("239.255.255.255", "a multicast address"),
            ("240.0.0.1", "a reserved address"),
            ("255.255.255.255", "the broadcast address"),
            ("::", "an unspecified address"),
            ("::1", "a loopback address"),
            ("::127.0.0.1", "a reserved address"),
            ("::ffff:127.0.0.1", "a loopback address"),
            ("::ffff:169.254.169.254", "a link-local address"),
            ("64:ff9b::10.0.0.1", "a private address"),
            ("64:ff9b:1::8.8.8.8", "a reserved address"),
            ("2002:7f00:1::1", "a loopback address"),
            ("2002:a9fe:a9fe::", "a link-local address"),
            ("2001::1", "a reserved address"),
            ("2001:db8::1", "a documentation address"),
            ("3fff:fff::1", "a documentation address"),
            ("4000::1", "a reserved address"),
            ("5f00::1", "a reserved address"),
            ("fd00:ec2::254", "a private address"),
            ("fe80::1", "a link-local address"),
            ("fec0::1", "a reserved address"),
            ("ff02::1", "a multicast address"),
        ] {
            check_address(address, Some(why));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library_and_sees_through_every_wrapping(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let why = why_not_public(address.into());
            if address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
                || address.is_documentation() || address.is_unspecified() || address.is_broadcast()
            {
                prop_assert!(why.is_some());
            }
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            prop_assert_eq!(why_not_public(address.to_ipv6_mapped().into()), why);
            prop_assert_eq!(why_not_public(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()), why);
            prop_assert_eq!(why_not_public(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()), why);
            prop_assert!(why_not_public(address.to_ipv6_compatible().into()).is_some());
        }

        #[test]
        fn any_spelling_of_a_loopback_address_is_refused(last in 0u32..0x0100_0000) {
            let bits = 0x7f00_0000 | last;
            for url in [format!("http://{bits}/"), format!("http://0x{bits:x}/"), format!("http://0{bits:o}/"),
                format!("http://127.{last}/"), format!("http://[::ffff:{}]/", Ipv4Addr::from_bits(bits))] {
                let url = Url::parse(&url).unwrap();
                prop_assert!(check(&url, &AllowNets::default()).is_err(), "{}", url);
                prop_assert!(check(&url, &AllowNets::parse("127.0.0.0/8").unwrap()).is_ok(), "{}", url);
            }
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in ["ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "data:,x"]
        {
            assert!(matches!(
                check(&Url::parse(url).unwrap(), &AllowNets::default()),
                Err(Reason::Blocked { .. })
            ));
        }
    }
}
