//! Networks and host names that the operator excepts from the ban on private addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// Networks and host names that are excepted from the ban on private addresses (`MINERVA_ALLOW_NETS`).
///
/// An exception covers what the operator wrote. A listed address may be reached from anywhere, a listed name may resolve
/// to anything, and a *configured* URL may have a name that resolves into a listed network. A name that only turns up in a
/// redirect must be listed itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowNets {
    nets: Vec<IpNet>,
    names: Vec<String>,
}

impl AllowNets {
    /// Reads a list such as `127.0.0.0/8,localhost,10.1.2.3`; the error names the first entry that is malformed.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut allow = Self::default();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (address, bits) = match entry.split_once('/') {
                Some((address, bits)) => (address, Some(bits)),
                None => (entry, None),
            };
            let literal = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            match (literal, bits) {
                (Ok(base), bits) => {
                    let most = if base.is_ipv4() { 32 } else { 128 };
                    let net = bits
                        .map_or(Some(most), |bits| bits.parse().ok())
                        .and_then(|bits| IpNet::new(base, bits).ok())
                        .ok_or_else(|| {
                            format!("`{entry}`: the prefix length must be 0 to {most}")
                        })?;
                    allow.nets.push(net);
                }
                (Err(_), None) => match Host::parse(entry) {
                    Ok(Host::Domain(name)) if is_host(&name) => {
                        allow.names.push(plain_name(&name));
                    }
                    _ => {
                        return Err(format!(
                            "`{entry}` is not an address, a network or a host name"
                        ));
                    }
                },
                (Err(_), Some(_)) => return Err(format!("`{entry}` is not a network")),
            }
        }
        Ok(allow)
    }

    /// Networks of the list that are wider than any private one, as they are written: with them a source may reach whatever
    /// this machine can.
    pub fn wide_open(&self) -> Vec<String> {
        let is_wide = |net: &&IpNet| {
            net.prefix_len() < if net.addr().is_ipv4() { WIDEST_V4 } else { WIDEST_V6 }
        };
        self.nets.iter().filter(is_wide).map(ToString::to_string).collect()
    }

    /// The list as it is understood.
    pub fn shown(&self) -> String {
        let nets = self.nets.iter().map(ToString::to_string);
        nets.chain(self.names.iter().cloned()).collect::<Vec<_>>().join(", ")
    }

    /// Whether the address itself is in the list.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Whether the name itself is in the list.
    pub fn has_name(&self, name: &str) -> bool {
        let name = plain_name(name);
        self.names.contains(&name)
    }

    /// Whether the URL's host is in the list as it is written, without asking DNS.
    pub fn has_host(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.has_address(address.into()),
            Some(Host::Ipv6(address)) => self.has_address(address.into()),
            Some(Host::Domain(name)) => self.has_name(name),
            None => false,
        }
    }
}

/// The shortest prefixes of private networks: `10.0.0.0/8` and `127.0.0.0/8`, `fc00::/7`.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 7;

/// Whether a name can be one of a host: there is no `*` for several.
fn is_host(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

/// A host name as it is compared: lower case, without the root's dot.
pub fn plain_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_any_list_without_a_panic(list: String) {
            let _ = AllowNets::parse(&list);
        }
    }

    #[test]
    fn a_list_holds_networks_addresses_and_names() {
        let allow =
            AllowNets::parse(" 127.0.0.0/8, Mirror.Example. ,10.1.2.3,[fd00::1],fd01::/16,")
                .unwrap();
        let has = |url: &str| allow.has_host(&Url::parse(url).unwrap());
        assert!(
            has("http://127.9.9.9/") && has("http://10.1.2.3/") && has("http://[::ffff:10.1.2.3]/")
        );
        assert!(has("http://mirror.example:81/") && has("http://MIRROR.example./"));
        assert!(has("http://[fd00::1]/") && has("http://[fd01:2::]/"));
        assert!(
            !has("http://10.1.2.4/")
                && !has("http://sub.mirror.example/")
                && !has("http://[fd00::2]/")
        );
        assert!(
            AllowNets::parse("0.0.0.0/0")
                .unwrap()
                .has_host(&Url::parse("http://10.0.0.1/").unwrap())
        );
    }

    #[test]
    fn a_network_wider_than_any_private_one_is_wide_open() {
        let wide = |list: &str| AllowNets::parse(list).unwrap().wide_open();
        assert_eq!(wide("127.0.0.0/8,10.0.0.0/8,fc00::/7,mirror.lan"), Vec::<String>::new());
        assert_eq!(wide("0.0.0.0/0,::/0"), ["0.0.0.0/0", "::/0"]);
        assert_eq!(wide("0.0.0.0/1,128.0.0.0/1").len(), 2);
    }

    #[test]
    fn a_malformed_list_entry_is_named() {
        for bad in [
            "*",
            "*.lan",
            "10.*",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/x",
            "mirror/8",
            "a b",
            "host:80",
            "10.0.0.0/-1",
        ] {
            let error = AllowNets::parse(&format!("127.0.0.1,{bad}")).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }
}
