//! Broker and backend addresses.

mod tls;

use std::fmt;

use serde::{Serialize, Serializer};

use super::secret::{MASK, Secret};

/// What an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UrlKind {
    /// `umbel:///path`: the store on this machine's disk; without a path, in the data directory.
    Embedded,
    /// `redis://`, `rediss://` (TLS), `redis+socket://` and `unix://` (local socket), `sentinel://`.
    Redis,
    /// `amqp://`, `amqps://` (TLS), `pyamqp://`.
    Amqp,
    /// A result backend of Celery's that is only known to the Python application (`db+postgresql://…`, `rpc://`, `django-db`).
    Foreign,
}

/// An address of a broker or a result backend. `Debug`, `Display` and `Serialize` mask passwords, also those in the query.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// What it names.
    pub kind: UrlKind,
    /// The scheme, in lower case.
    pub scheme: String,
    /// The user, percent-decoded; empty if there is none.
    pub user: String,
    /// The password, percent-decoded.
    pub password: Option<Secret<String>>,
    /// Host and port as written (several for `sentinel://`), without the port where none was written.
    pub hosts: Vec<(String, Option<u16>)>,
    /// What follows the host, with its slash: `/0`, `/var/lib/umbel`, `/vhost`.
    pub path: String,
    /// The query's pairs, percent-decoded, in order.
    query: Vec<(String, Secret<String>)>,
    full: Secret<String>,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            // Celery takes the bare name of a backend: `rpc`, `django-db`, `disabled`.
            if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+')) {
                return Ok(Self::bare(text));
            }
            return Err("has no scheme".to_owned());
        };
        let scheme = scheme.to_lowercase();
        if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
            return Err("has no scheme".to_owned());
        }
        let kind = kind_of(&scheme);
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("has a space or control character in it".to_owned());
        }
        // kombu writes several servers as `sentinel://a:1;sentinel://b:2/0`.
        let rest = rest.replace(&format!(";{scheme}://"), ";");
        let rest = rest.split_once('#').map_or(rest.as_str(), |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        // Everything before the last `@` is user and password: passwords with an unescaped `@` are common.
        let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(Secret::new(decode(password)?))),
            None => (userinfo, None),
        };
        let mut url = Self {
            kind,
            scheme,
            user: decode(user)?,
            password,
            hosts: Vec::new(),
            path: decode(path)?,
            query: query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Ok((decode(name)?, Secret::new(decode(value)?)))
                })
                .collect::<Result<_, String>>()?,
            full: Secret::new(text.to_owned()),
        };
        if kind != UrlKind::Foreign {
            url.hosts = hosts.split([',', ';']).filter(|host| !host.is_empty()).map(parse_host).collect::<Result<_, String>>()?;
            url.check()?;
        }
        Ok(url)
    }

    fn bare(name: &str) -> Self {
        Self {
            kind: UrlKind::Foreign,
            scheme: name.to_lowercase(),
            user: String::new(),
            password: None,
            hosts: Vec::new(),
            path: String::new(),
            query: Vec::new(),
            full: Secret::new(name.to_owned()),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.kind {
            UrlKind::Embedded if !self.hosts.is_empty() => {
                Err(format!("names a host; the embedded store is a directory: umbel:///{}{}", self.hosts[0].0, self.path))
            }
            UrlKind::Redis if !self.is_socket() && self.path.len() > 1 && self.database().is_none() => {
                Err("has a database that is not a number".to_owned())
            }
            UrlKind::Redis if self.is_socket() && self.path.len() < 2 => Err("names no socket file".to_owned()),
            _ => Ok(()),
        }
    }

    /// The whole address, password included, for the client library that connects.
    pub fn expose(&self) -> &str {
        self.full.expose()
    }

    /// Host and port; `None` where there is no host. The scheme's own port where none is written.
    pub fn host(&self) -> Option<(&str, u16)> {
        let (host, port) = self.hosts.first()?;
        Some((host, port.unwrap_or(self.default_port())))
    }

    /// The Redis database.
    pub fn database(&self) -> Option<u32> {
        if self.kind != UrlKind::Redis {
            return None;
        }
        if self.is_socket() {
            let number = self.query("virtual_host").or_else(|| self.query("db"));
            return number.map_or(Some(0), |number| number.trim_start_matches('/').parse().ok());
        }
        match self.path.trim_matches('/') {
            "" => Some(0),
            number => number.parse().ok(),
        }
    }

    /// A value of the query, percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.expose().as_str())
    }

    /// Whether it is a socket file on this machine.
    pub fn is_socket(&self) -> bool {
        matches!(self.scheme.as_str(), "unix" | "redis+socket" | "redis+unix")
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme.as_str(), "rediss" | "amqps")
    }

    fn default_port(&self) -> u16 {
        match self.scheme.as_str() {
            "amqps" => 5671,
            "sentinel" => 26379,
            _ if self.kind == UrlKind::Amqp => 5672,
            _ => 6379,
        }
    }
}

fn kind_of(scheme: &str) -> UrlKind {
    match scheme {
        "umbel" => UrlKind::Embedded,
        "redis" | "rediss" | "unix" | "redis+socket" | "redis+unix" | "sentinel" => UrlKind::Redis,
        "amqp" | "amqps" | "pyamqp" => UrlKind::Amqp,
        _ => UrlKind::Foreign,
    }
}

fn parse_host(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').ok_or("has an IPv6 address without its closing bracket")?;
            (host, port.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().map_err(|_| "has a port that is not a number from 0 to 65535")?),
    };
    Ok((host.to_owned(), port))
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(hex.ok_or("has a percent sign that is not followed by two hexadecimal digits (write % as %25)")?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "has percent-encoded bytes that are not UTF-8".to_owned())
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.full.expose().contains("://") {
            return f.write_str(&self.scheme);
        }
        write!(f, "{}://", self.scheme)?;
        if self.kind == UrlKind::Foreign {
            // What lies behind a scheme that is not ours may hold keys in any place.
            return f.write_str(if self.full.expose().ends_with("://") { "" } else { MASK });
        }
        if let Some(password) = &self.password {
            write!(f, "{}:{password}@", self.user)?;
        } else if !self.user.is_empty() {
            write!(f, "{}@", self.user)?;
        }
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            write!(f, "{comma}{host}")?;
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        f.write_str(&self.path)?;
        for (index, (name, value)) in self.query.iter().enumerate() {
            let plain = matches!(name.as_str(), "db" | "virtual_host" | "heartbeat" | "ssl_cert_reqs" | "timeout" | "connection_timeout");
            let shown = if plain { value.expose() } else { MASK };
            write!(f, "{}{name}={shown}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
