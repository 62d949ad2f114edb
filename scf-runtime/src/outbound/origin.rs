//! Where a request goes, in the one form in which it is compared, resolved and connected to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use http::{Uri, uri::Authority};

/// Longest name of a host, and longest part of one between dots, in bytes (RFC 1035).
const NAME: usize = 253;
const LABEL: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("http") {
            Some(Self::Http)
        } else if text.eq_ignore_ascii_case("https") {
            Some(Self::Https)
        } else {
            None
        }
    }

    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host: a name in lower case without the root's dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it is written in a URI. What a resolver might take for an address although it is not
    /// written as one (`2130706433`, `0x7f.1`, `127.1`, `0177.0.0.1`) is no host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[') {
            let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > NAME || !name.split('.').all(is_label) {
            return None;
        }
        if ends_in_a_number(&name) {
            return name.parse::<Ipv4Addr>().ok().map(|address| Self::Address(address.into()));
        }
        Some(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

fn is_label(label: &str) -> bool {
    let of_names = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    !label.is_empty() && label.len() <= LABEL && label.bytes().all(of_names)
}

/// As URLs have it (WHATWG, "ends in a number"): such a host is an IPv4 address or none.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || last.bytes().all(|b| b.is_ascii_digit())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Origin {
    /// Where `uri` leads; none where it has no scheme of HTTP, a user, or a host or port that is none.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let scheme = Scheme::parse(uri.scheme_str()?)?;
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = Host::parse(authority.host())?;
        Some(Self { scheme, host, port: port(authority, scheme)? })
    }

    /// What the header `host` says.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if *port == self.scheme.port() { host.to_string() } else { format!("{host}:{port}") }
    }
}

/// The port; none if there is something after the host that is none.
fn port(authority: &Authority, scheme: Scheme) -> Option<u16> {
    match authority.as_str().strip_prefix(authority.host())? {
        "" => Some(scheme.port()),
        rest => {
            let digits = rest.strip_prefix(':')?;
            // `+80` and the empty port are numbers to some and not to others.
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            digits.parse().ok().filter(|port| *port != 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Option<String> {
        let Origin { scheme, host, port } = Origin::of(&uri.parse().ok()?)?;
        Some(format!("{scheme:?} {host} {port}"))
    }

    #[test]
    fn one_origin_has_one_form() {
        for (uri, origin) in [
            ("http://Example.ORG/a?b", "Http example.org 80"),
            ("https://example.org./", "Https example.org 443"),
            ("HTTPS://example.org:8443", "Https example.org 8443"),
            ("http://example.org:80/", "Http example.org 80"),
            ("http://127.0.0.1:8080/", "Http 127.0.0.1 8080"),
            ("http://127.0.0.1./", "Http 127.0.0.1 80"),
            ("http://[::1]/", "Http [::1] 80"),
            ("http://[::ffff:127.0.0.1]:1/", "Http 127.0.0.1 1"),
            ("http://[0:0:0:0:0:ffff:7f00:1]/", "Http 127.0.0.1 80"),
            ("http://[2001:DB8::1]/", "Http [2001:db8::1] 80"),
            ("http://xn--bcher-kva.example/", "Http xn--bcher-kva.example 80"),
        ] {
            assert_eq!(of(uri).as_deref(), Some(origin), "{uri}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_origin() {
        for uri in [
            "ftp://example.org/",
            "example.org:80",
            "/path",
            "http://user@example.org/",
            "http://user:pass@example.org/",
            "http://granted.example@evil.example/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.01/",
            "http://1.2.3.4.5/",
            "http://256.0.0.1/",
            "http://example.0x/",
            "http://a..b/",
            "http://.example.org/",
            "http://example.org../",
            "http://%65xample.org/",
            "http://exa%00mple.org/",
            "http://example.org:/",
            "http://example.org:0/",
            "http://example.org:+80/",
            "http://example.org:65536/",
            "http://[::1%25eth0]/",
            "http://[::1/",
            "http://bücher.example/",
        ] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }
}
