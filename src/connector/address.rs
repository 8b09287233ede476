//! Which addresses a name may lead to: a name in a configuration must not become a way into the
//! machine's own network (server-side request forgery, DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::service::Network;

/// True when the host is itself an address or names this machine: then it is meant as written.
pub(super) fn is_written(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

/// True when a name may lead to this address.
pub(super) fn is_allowed(address: IpAddr, network: Network) -> bool {
    match (kind(address), network) {
        (Kind::Public, _) | (Kind::Private, Network::Private) => true,
        (Kind::Private, Network::Public) | (Kind::Never, _) => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Public,
    /// Loopback, RFC 1918, RFC 6598, RFC 4193.
    Private,
    /// Link-local (where clouds serve credentials), multicast, reserved: no service has a name there.
    Never,
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (10 | 127, _, _) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Kind::Private,
        // "this network", link-local, protocol assignments, documentation, benchmarks, multicast, reserved
        (0, _, _)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (198, 51, 100)
        | (203, 0, 113)
        | (198, 18..=19, _)
        | (224..=255, _, _) => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let segments = address.segments();
    let inner = |high: u16, low: u16| kind_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private,
        // IPv4 mapped, NAT64 and 6to4 lead to the IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            inner(high, low)
        }
        [0xfc00..=0xfdff, ..] => Kind::Private,
        // unspecified and IPv4 compatible; link-local, site-local; multicast; documentation; discard
        [0, 0, 0, 0, 0, 0, ..]
        | [0xfe80..=0xfeff, ..]
        | [0xff00..=0xffff, ..]
        | [0x2001, 0xdb8, ..]
        | [0x100, 0, 0, 0, ..] => Kind::Never,
        _ => Kind::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        use Kind::{Never, Private, Public};
        for (why, text, expected) in [
            ("public", "93.184.216.34", Public),
            ("public", "2606:2800:220:1::1", Public),
            ("loopback", "127.8.0.1", Private),
            ("loopback", "::1", Private),
            ("RFC 1918", "172.31.255.255", Private),
            ("just outside", "172.32.0.0", Public),
            ("carrier NAT", "100.64.0.1", Private),
            ("unique local", "fd00::1", Private),
            ("mapped", "::ffff:10.0.0.1", Private),
            ("mapped public", "::ffff:93.184.216.34", Public),
            ("NAT64", "64:ff9b::7f00:1", Private),
            ("6to4", "2002:7f00:1::", Private),
            ("cloud metadata", "169.254.169.254", Never),
            ("mapped metadata", "::ffff:169.254.169.254", Never),
            ("link-local", "fe80::1", Never),
            ("unspecified", "0.0.0.0", Never),
            ("unspecified", "::", Never),
            ("multicast", "224.0.0.1", Never),
            ("broadcast", "255.255.255.255", Never),
        ] {
            assert_eq!(kind(text.parse().unwrap()), expected, "{why}: {text}");
        }
    }

    #[test]
    fn written_hosts() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("localhost", true),
            ("LocalHost.", true),
            ("localhost.example", false),
        ] {
            assert_eq!(is_written(host), expected, "{host}");
        }
    }
}
