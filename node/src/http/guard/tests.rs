//! Who is let in and who is not.

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn loopback(token: Option<&str>) -> Guard {
    Guard::new("127.0.0.1:5555".parse().unwrap(), token).unwrap()
}

#[test]
fn the_network_needs_a_token() {
    let anywhere: SocketAddr = "0.0.0.0:5555".parse().unwrap();
    assert_eq!(Guard::new(anywhere, None).unwrap_err(), OpenToTheNetwork(anywhere));
    assert_eq!(Guard::new(anywhere, Some("")).unwrap_err(), OpenToTheNetwork(anywhere));
    assert!(Guard::new(anywhere, Some("secret")).is_ok());
}

#[test]
fn loopback_answers_to_its_own_names_only() {
    for host in ["127.0.0.1:5555", "localhost", "LOCALHOST:5555", "[::1]:5555", "[::1]", "127.8.8.8"] {
        assert!(loopback(None).check(&headers(&[("host", host)]), false).is_ok(), "{host}");
    }
    for host in ["rebound.example:5555", "rebound.example", "127.0.0.1.example", "localhost.example:80", "10.0.0.1:5555", ""] {
        assert!(loopback(None).check(&headers(&[("host", host)]), true).is_err(), "{host}");
    }
    assert!(loopback(None).check(&headers(&[]), true).is_err(), "no Host");
    assert!(loopback(None).check(&headers(&[("host", "localhost"), ("host", "localhost")]), true).is_err(), "two Hosts");
}

#[test]
fn pages_of_other_origins_are_refused() {
    let with = |origin| loopback(None).check(&headers(&[("host", "localhost:5555"), ("origin", origin)]), false);
    assert!(with("http://localhost:5555").is_ok());
    for origin in ["http://localhost:8000", "https://evil.example", "null", "localhost:5555"] {
        assert!(with(origin).is_err(), "{origin}");
    }
}

#[test]
fn a_token_is_asked_of_everything_but_probes() {
    let guard = loopback(Some("s3cret"));
    let with = |token| guard.check(&headers(&[("host", "localhost"), ("authorization", token)]), false);
    assert!(with("Bearer s3cret").is_ok());
    assert!(with("bearer s3cret").is_ok());
    for token in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "s3cret", "Bearer S3cret"] {
        assert!(with(token).is_err(), "{token}");
    }
    assert!(guard.check(&headers(&[("host", "localhost")]), false).is_err());
    assert!(guard.check(&headers(&[("host", "localhost")]), true).is_ok(), "a probe");
}

#[test]
fn the_token_is_not_shown() {
    assert!(!format!("{:?}", loopback(Some("s3cret"))).contains("s3cret"));
}
