//! Addresses of Redis servers, as Celery and kombu write them.
//!
//! `redis://user:password@host:6379/0`, `rediss://…?ssl_ca_certs=…`, `redis+socket:///path?virtual_host=0` (also `unix://` and
//! `socket://`), `sentinel://a:26379;b:26379/0?master_name=mymaster`.

use std::{fmt, path::PathBuf};

use thiserror::Error;

use super::tls::Tls;

/// Which server and database, and how to get in.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) address: Address,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
    pub(crate) tls: Option<Tls>,
}

/// Where a server is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
    /// The sentinels to ask, the name of the master, and the sentinels' own password.
    Sentinel {
        hosts: Vec<(String, u16)>,
        master: String,
        password: Option<String>,
    },
}

/// Why an address cannot be understood. It never holds the password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the address of Redis is wrong: {0}")]
pub struct UrlError(pub(crate) String);

const FORMS: &str = "write redis://[user:password@]host[:port]/[database], rediss://…, redis+socket:///path?virtual_host=0, or \
                     sentinel://host:26379;host:26379/0?master_name=name";

fn wrong(what: impl fmt::Display) -> UrlError {
    UrlError(format!("{what}; {FORMS}"))
}

impl Target {
    /// Whether this is an address for this module, judged by what stands before `://`.
    pub fn is_redis(url: &str) -> bool {
        url.split_once("://").is_some_and(|(scheme, _)| {
            matches!(scheme, "redis" | "rediss" | "redis+socket" | "redis+unix" | "unix" | "socket" | "sentinel" | "redis-sentinel")
        })
    }

    /// Reads an address.
    ///
    /// # Errors
    /// Says what is wrong with it, without user and password.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no `://`"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let query = Query::parse(query)?;
        match scheme {
            "redis" => Self::tcp(rest, &query, None),
            "rediss" => Self::tcp(rest, &query, Some(Tls::from_query(&query)?)),
            "redis+socket" | "redis+unix" | "unix" | "socket" => Self::unix(rest, &query),
            "sentinel" | "redis-sentinel" => Self::sentinel(rest, &query),
            other => Err(wrong(format_args!("`{other}` is not a kind of Redis address"))),
        }
    }

    fn tcp(rest: &str, query: &Query, tls: Option<Tls>) -> Result<Self, UrlError> {
        let (user, password, rest) = credentials(rest)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_port(host, 6379)?;
        Ok(Self { address: Address::Tcp(host, port), user, password, db: database(path, query)?, tls })
    }

    fn unix(rest: &str, query: &Query) -> Result<Self, UrlError> {
        let (user, password, rest) = credentials(rest)?;
        let path = decode(rest)?;
        if path.is_empty() {
            return Err(wrong("it has no path"));
        }
        Ok(Self { address: Address::Unix(PathBuf::from(path)), user, password, db: database("", query)?, tls: None })
    }

    fn sentinel(rest: &str, query: &Query) -> Result<Self, UrlError> {
        let mut hosts = Vec::new();
        let (mut user, mut password, mut path) = (None, None, "");
        for part in rest.split([';', ',']).filter(|part| !part.is_empty()) {
            // kombu also takes a whole address for each host.
            let part = part.split_once("://").map_or(part, |(_, part)| part);
            let (this_user, this_password, part) = credentials(part)?;
            user = user.or(this_user);
            password = password.or(this_password);
            let (host, database) = part.split_once('/').unwrap_or((part, ""));
            if !database.is_empty() {
                path = database;
            }
            hosts.push(host_port(host, 26379)?);
        }
        let master = query.get("master_name").ok_or_else(|| wrong("a sentinel address needs ?master_name="))?;
        let sentinel_password = query.get("sentinel_password");
        let tls =
            if query.get("ssl_cert_reqs").is_some() || query.get("ssl_ca_certs").is_some() { Some(Tls::from_query(query)?) } else { None };
        let address = Address::Sentinel { hosts, master, password: sentinel_password };
        Ok(Self { address, user, password, db: database(path, query)?, tls })
    }

    /// The same server with another database.
    #[must_use]
    pub fn with_db(mut self, db: i64) -> Self {
        self.db = db;
        self
    }

    /// The number of the database.
    pub fn db(&self) -> i64 {
        self.db
    }

    /// Whether both lead to the same server by the same way, whatever the database: then one script can write to both.
    pub fn same_server(&self, other: &Self) -> bool {
        self.clone().with_db(0) == other.clone().with_db(0)
    }
}

/// The address without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        match &self.address {
            Address::Tcp(host, port) => write!(f, "{scheme}://{host}:{port}/{}", self.db),
            Address::Unix(path) => write!(f, "redis+socket://{}?virtual_host={}", path.display(), self.db),
            Address::Sentinel { hosts, master, .. } => {
                let hosts: Vec<String> = hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                write!(f, "sentinel://{}/{}?master_name={master}", hosts.join(";"), self.db)
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The part behind the question mark.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, UrlError> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, UrlError>>()?))
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    }
}

fn credentials(rest: &str) -> Result<(Option<String>, Option<String>, &str), UrlError> {
    let Some((credentials, rest)) = rest.rsplit_once('@') else { return Ok((None, None, rest)) };
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (credentials, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    Ok((user, password.filter(|password| !password.is_empty()), rest))
}

fn host_port(text: &str, default: u16) -> Result<(String, u16), UrlError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().map_err(|_| wrong(format_args!("`{port}` is not a port")))?,
        None => default,
    };
    Ok((if host.is_empty() { "localhost".to_owned() } else { decode(host)? }, port))
}

fn database(path: &str, query: &Query) -> Result<i64, UrlError> {
    let text = [query.get("virtual_host"), query.get("db"), Some(path.to_owned())].into_iter().flatten().find(|text| !text.is_empty());
    let Some(text) = text else { return Ok(0) };
    let text = text.trim_matches('/');
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().ok().filter(|db| *db >= 0).ok_or_else(|| wrong(format_args!("`{text}` is not the number of a database")))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte =
            digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(|| wrong("a `%` is not followed by two digits"))?;
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_celerys_is_read() {
        for (url, shown, user, password) in [
            ("redis://", "redis://localhost:6379/0", None, None),
            ("redis://h/3", "redis://h:6379/3", None, None),
            ("redis://:p%40%2Fw@h:1/", "redis://h:1/0", None, Some("p@/w")),
            ("redis://u:p@[::1]:2/1", "redis://::1:2/1", Some("u"), Some("p")),
            ("rediss://u:p@h?ssl_cert_reqs=CERT_NONE", "rediss://h:6379/0", Some("u"), Some("p")),
            ("redis+socket:///run/r.sock?virtual_host=2", "redis+socket:///run/r.sock?virtual_host=2", None, None),
            ("unix://:p@/run/r.sock?db=4", "redis+socket:///run/r.sock?virtual_host=4", None, Some("p")),
            ("sentinel://:p@a;b:9/1?master_name=m", "sentinel://a:26379;b:9/1?master_name=m", None, Some("p")),
            ("sentinel://a:1;sentinel://b:2/2?master_name=m", "sentinel://a:1;b:2/2?master_name=m", None, None),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!((target.user.as_deref(), target.password.as_deref()), (user, password), "{url}");
            assert!(Target::is_redis(url));
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let target = Target::parse("redis://someone:hunter2@h:1/0").unwrap();
        assert!(!format!("{target:?} {target}").contains("hunter2"));
        for url in ["redis://someone:hunter2@h:port/0", "redis://someone:hunter2@h/x", "rediss://someone:hunter2@h?ssl_cert_reqs=maybe"] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("someone"), "{error}");
        }
    }

    #[test]
    fn databases_of_one_server_are_told_from_servers() {
        let target = |url| Target::parse(url).unwrap();
        assert!(target("redis://h/0").same_server(&target("redis://h:6379/1")));
        assert!(!target("redis://h/0").same_server(&target("redis://i/0")));
        assert!(!target("redis://h/0").same_server(&target("rediss://h/0")));
    }
}
