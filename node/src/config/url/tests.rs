//! Addresses: their parts, their mistakes, their secrets.

use super::*;

#[test]
fn parts_are_found() {
    let url = Url::parse("rediss://me:p%40ss@cache.example:7000/3?ssl_cert_reqs=required").unwrap();
    assert_eq!((url.kind, url.host(), url.database(), url.is_tls()), (UrlKind::Redis, Some(("cache.example", 7000)), Some(3), true));
    assert_eq!(url.password.as_ref().map(|p| p.expose().as_str()), Some("p@ss"));
    assert_eq!(url.query("ssl_cert_reqs"), Some("required"));

    let url = Url::parse("redis://redis:6379/0").unwrap();
    assert_eq!((url.host(), url.database(), url.password.is_none()), (Some(("redis", 6379)), Some(0), true));
    assert_eq!(Url::parse("redis://h").unwrap().host(), Some(("h", 6379)));
    assert_eq!(Url::parse("redis://[::1]:1/2").unwrap().host(), Some(("::1", 1)));
    assert_eq!(Url::parse("amqp://guest:guest@mq//").unwrap().host(), Some(("mq", 5672)));
    assert_eq!(Url::parse("amqps://mq").unwrap().host(), Some(("mq", 5671)));
    assert_eq!(Url::parse("redis+socket:///run/redis.sock?virtual_host=2").unwrap().database(), Some(2));
    for text in ["sentinel://a:1;sentinel://b:2/0", "sentinel://a:1,b:2/0"] {
        let url = Url::parse(text).unwrap();
        assert_eq!((url.hosts.len(), url.hosts[1].1, url.database()), (2, Some(2), Some(0)), "{text}");
    }

    let url = Url::parse("umbel:///var/lib/umbel").unwrap();
    assert_eq!((url.kind, url.path.as_str(), url.host()), (UrlKind::Embedded, "/var/lib/umbel", None));
    assert_eq!(Url::parse("umbel://").unwrap().path, "");
    assert_eq!(Url::parse("django-db").unwrap().kind, UrlKind::Foreign);
    assert_eq!(Url::parse("DB+postgresql://u:p@h/d").unwrap().scheme, "db+postgresql");
}

#[test]
fn mistakes_are_named_without_quoting() {
    for (text, problem) in [
        ("", "has no scheme"),
        ("localhost:6379", "has no scheme"),
        ("://h", "has no scheme"),
        ("redis://:hunter2@h:port/0", "has a port that is not a number from 0 to 65535"),
        ("redis://:hunter2@h:70000/0", "has a port that is not a number from 0 to 65535"),
        ("redis://:hunter2@h/zero", "has a database that is not a number"),
        ("redis://:hunter2%zz@h/0", "has a percent sign that is not followed by two hexadecimal digits (write % as %25)"),
        ("redis://:hunter2@h /0", "has a space or control character in it"),
        ("redis://[::1/0", "has an IPv6 address without its closing bracket"),
        ("umbel://var/lib", "names a host; the embedded store is a directory: umbel:///var/lib"),
        ("unix://", "names no socket file"),
    ] {
        assert_eq!(Url::parse(text).unwrap_err(), problem, "{text}");
    }
}

#[test]
fn passwords_are_never_shown() {
    for text in [
        "redis://:hunter2@h:6379/0",
        "redis://me:hunter2@h:6379/0",
        "redis://me:a@hunter2@h:6379/0",
        "redis://h:6379/0?password=hunter2",
        "redis://h:6379/0?some_new_option=hunter2",
        "db+postgresql://me:hunter2@h/d",
        "s3://hunter2/x",
        "amqp://me:hunter2@h//",
    ] {
        let url = Url::parse(text).unwrap();
        let json = serde_json::to_string(&url).unwrap();
        for shown in [url.to_string(), format!("{url:?}"), format!("{url:#?}"), json] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(MASK), "{shown}");
        }
        assert_eq!(url.expose(), text);
    }
    assert_eq!(Url::parse("redis://me:x@h:1/0").unwrap().to_string(), format!("redis://me:{MASK}@h:1/0"));
}

proptest::proptest! {
    #[test]
    fn hostile_text_is_an_error_at_worst(text in "\\PC{0,40}", scheme in "(redis|amqp|umbel|sentinel|unix|x)") {
        let _ = Url::parse(&text);
        let _ = Url::parse(&format!("{scheme}://{text}")).map(|url| url.to_string());
    }
}
