//! The origins that a function's manifest grants.

use scf_core::HttpGrant;

use super::origin::{Host, Origin, Scheme};

/// What the wildcard stands for is everything below the name after it, and not that name.
const BELOW: &str = "*.";

/// The origins that a function may send requests to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allow(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    scheme: Scheme,
    host: Pattern,
    port: u16,
    private: bool,
}

#[derive(Clone, Debug)]
enum Pattern {
    Is(Host),
    Below(String),
}

/// What a granted origin may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    Everywhere,
}

impl Allow {
    /// Reads the grants, or says what is wrong with the first one that is none.
    pub(crate) fn of(grants: &[HttpGrant]) -> Result<Self, (&HttpGrant, &'static str)> {
        let rules = grants.iter().map(|grant| Rule::of(grant).map_err(|problem| (grant, problem)));
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// Whether requests to `origin` are granted, and what it may resolve to.
    pub(super) fn reach(&self, origin: &Origin) -> Option<Reach> {
        let mut matching = self.0.iter().filter(|rule| rule.matches(origin)).peekable();
        matching.peek()?;
        Some(if matching.any(|rule| rule.private) { Reach::Everywhere } else { Reach::Public })
    }
}

impl Rule {
    fn of(grant: &HttpGrant) -> Result<Self, &'static str> {
        let scheme = Scheme::parse(&grant.scheme).ok_or("the scheme is neither http nor https")?;
        let host = match grant.host.strip_prefix(BELOW) {
            None => Host::parse(&grant.host).map(Pattern::Is),
            Some(name) => match Host::parse(name) {
                Some(Host::Name(name)) => Some(Pattern::Below(format!(".{name}"))),
                _ => None,
            },
        };
        let host = host.ok_or("the host is neither a name, an address, nor `*.` and a name")?;
        let port = grant.port.unwrap_or_else(|| scheme.port());
        if port == 0 {
            return Err("there is no port 0");
        }
        Ok(Self { scheme, host, port, private: grant.private })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let host = match (&self.host, &origin.host) {
            (Pattern::Is(granted), host) => granted == host,
            (Pattern::Below(suffix), Host::Name(name)) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            (Pattern::Below(_), Host::Address(_)) => false,
        };
        host && self.scheme == origin.scheme && self.port == origin.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(scheme: &str, host: &str, port: Option<u16>) -> HttpGrant {
        HttpGrant { scheme: scheme.into(), host: host.into(), port, private: false }
    }

    fn reach(grants: &[HttpGrant], uri: &str) -> Option<Reach> {
        Allow::of(grants).unwrap().reach(&Origin::of(&uri.parse().unwrap()).unwrap())
    }

    #[test]
    fn an_origin_is_granted_by_scheme_host_and_port_together() {
        let grants = [grant("https", "API.example.org.", None), grant("http", "10.0.0.7", Some(8080))];
        assert_eq!(reach(&grants, "https://api.example.org/x"), Some(Reach::Public));
        assert_eq!(reach(&grants, "http://10.0.0.7:8080/"), Some(Reach::Public));
        for uri in [
            "http://api.example.org/",
            "https://api.example.org:444/",
            "https://www.api.example.org/",
            "https://example.org/",
            "https://api.example.org.evil.example/",
            "http://10.0.0.7/",
            "http://10.0.0.8:8080/",
        ] {
            assert_eq!(reach(&grants, uri), None, "{uri}");
        }
    }

    #[test]
    fn a_wildcard_is_for_names_below_and_not_for_the_name() {
        let grants = [grant("https", "*.example.org", None)];
        for uri in ["https://a.example.org/", "https://a.b.example.org/"] {
            assert_eq!(reach(&grants, uri), Some(Reach::Public), "{uri}");
        }
        for uri in ["https://example.org/", "https://badexample.org/", "https://example.org.evil.example/"] {
            assert_eq!(reach(&grants, uri), None, "{uri}");
        }
    }

    #[test]
    fn one_grant_of_several_that_match_is_enough_to_reach_private_addresses() {
        let private = HttpGrant { private: true, ..grant("https", "a.example.org", None) };
        let grants = [grant("https", "*.example.org", None), private];
        assert_eq!(reach(&grants, "https://a.example.org/"), Some(Reach::Everywhere));
        assert_eq!(reach(&grants, "https://b.example.org/"), Some(Reach::Public));
    }

    #[test]
    fn a_grant_that_is_none_is_named() {
        for (scheme, host, port) in [
            ("ftp", "a", None),
            ("http", "", None),
            ("http", "*", None),
            ("http", "*.10.0.0.1", None),
            ("http", "a.*.b", None),
            ("http", "a/b", None),
            ("http", "0x7f.1", None),
            ("http", "a:80", None),
            ("http", "a", Some(0)),
        ] {
            let grants = [grant(scheme, host, port)];
            assert_eq!(Allow::of(&grants).unwrap_err().0, &grants[0]);
        }
    }
}
