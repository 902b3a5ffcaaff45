//! Addresses of RabbitMQ servers, as Celery and kombu write them.
//!
//! `amqp://user:password@host:5672/vhost`, `amqps://…?ssl_ca_certs=…`, `pyamqp://…`; several servers of one cluster as
//! `amqp://a:5672,b:5672/vhost` or, as kombu has it, `amqp://a//;amqp://b//`. The virtual host of `amqp://host`, `amqp://host/` and
//! `amqp://host//` is `/`.

use std::fmt;

use thiserror::Error;

use super::tls::Tls;

/// Which servers and virtual host, and how to get in.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) vhost: String,
    pub(super) tls: Option<Tls>,
    /// `heartbeat`, in seconds.
    pub(super) heartbeat: Option<u16>,
}

/// Why an address cannot be understood. It never holds the password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the address of RabbitMQ is wrong: {0}")]
pub struct AmqpUrlError(pub(crate) String);

fn wrong(what: impl fmt::Display) -> AmqpUrlError {
    AmqpUrlError(format!("{what}; write amqp://[user:password@]host[:port][,host[:port]][/vhost], or amqps://… for TLS"))
}

impl Target {
    /// Whether this is an address for this module, judged by what stands before `://`.
    pub fn is_amqp(url: &str) -> bool {
        url.split_once("://").is_some_and(|(scheme, _)| matches!(scheme, "amqp" | "amqps" | "pyamqp"))
    }

    /// Reads an address.
    ///
    /// # Errors
    /// Says what is wrong with it, without user and password.
    pub fn parse(url: &str) -> Result<Self, AmqpUrlError> {
        let (scheme, _) = url.split_once("://").ok_or_else(|| wrong("it has no `://`"))?;
        let default_port = match scheme {
            "amqp" | "pyamqp" => 5672,
            "amqps" => 5671,
            other => return Err(wrong(format_args!("`{other}` is not a kind of RabbitMQ address"))),
        };
        let (mut hosts, mut login, mut vhost, mut query) = (Vec::new(), None, None, Vec::new());
        for part in url.split(';').filter(|part| !part.is_empty()) {
            let part = match part.split_once("://") {
                Some((other, rest)) if other == scheme => rest,
                Some(_) => return Err(wrong("its servers are not of the same kind")),
                None => part,
            };
            let (part, parameters) = part.split_once('?').unwrap_or((part, ""));
            for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                query.push((decode(name)?, decode(value)?));
            }
            // Everything before the last `@` is user and password: passwords with an unescaped `/` or `@` are common.
            let (credentials, part) = part.rsplit_once('@').map_or((None, part), |(credentials, part)| (Some(credentials), part));
            if let (None, Some(credentials)) = (&login, credentials) {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                login = Some((decode(user)?, decode(password)?));
            }
            let (servers, path) = part.split_once('/').unwrap_or((part, ""));
            for server in servers.split(',').filter(|server| !server.is_empty()) {
                hosts.push(host_port(server, default_port)?);
            }
            let path = decode(path)?;
            if vhost.is_none() && !path.is_empty() {
                vhost = Some(path);
            }
        }
        if hosts.is_empty() {
            hosts.push(("localhost".to_owned(), default_port));
        }
        let get = |name: &str| query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone());
        let tls = if scheme == "amqps" { Some(Tls::from_query(get)?) } else { None };
        let heartbeat = match get("heartbeat") {
            Some(text) => Some(text.parse().map_err(|_| wrong(format_args!("heartbeat is `{text}`, not a number of seconds")))?),
            None => None,
        };
        let (user, password) = login.unwrap_or_else(|| ("guest".to_owned(), "guest".to_owned()));
        Ok(Self { hosts, user, password, vhost: vhost.unwrap_or_else(|| "/".to_owned()), tls, heartbeat })
    }

    /// Another virtual host of the same servers.
    #[must_use]
    pub fn with_vhost(mut self, vhost: &str) -> Self {
        vhost.clone_into(&mut self.vhost);
        self
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// How many servers it names.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// One of the servers, for people.
    pub(super) fn at(&self, host: &(String, u16)) -> String {
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        format!("{scheme}://{}:{}/{}", host.0, host.1, self.vhost.trim_start_matches('/'))
    }
}

/// The address without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}/{}", hosts.join(","), if self.vhost == "/" { "/" } else { &self.vhost })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn host_port(text: &str, default: u16) -> Result<(String, u16), AmqpUrlError> {
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

fn decode(text: &str) -> Result<String, AmqpUrlError> {
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
    fn every_form_of_kombus_is_read() {
        for (url, shown, user, password, vhost) in [
            ("amqp://", "amqp://localhost:5672//", "guest", "guest", "/"),
            ("amqp://h", "amqp://h:5672//", "guest", "guest", "/"),
            ("amqp://h//", "amqp://h:5672//", "guest", "guest", "/"),
            ("amqp://h/%2f", "amqp://h:5672//", "guest", "guest", "/"),
            ("pyamqp://u:p%40%2Fw@h:1/v", "amqp://h:1/v", "u", "p@/w", "v"),
            ("amqp://u:p@[::1]:2/a%2Fb", "amqp://::1:2/a/b", "u", "p", "a/b"),
            ("amqps://u:p@h/v?heartbeat=5", "amqps://h:5671/v", "u", "p", "v"),
            ("amqp://u:p@a:1,b/v", "amqp://a:1,b:5672/v", "u", "p", "v"),
            ("amqp://u:p@a:1/v;amqp://u:p@b:2/v", "amqp://a:1,b:2/v", "u", "p", "v"),
            ("amqp://a//;b//", "amqp://a:5672,b:5672//", "guest", "guest", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.to_string(), shown, "{url}");
            assert_eq!((&*target.user, &*target.password, &*target.vhost), (user, password, vhost), "{url}");
            assert!(Target::is_amqp(url));
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let target = Target::parse("amqp://someone:hunter2@h:1/v").unwrap();
        assert!(!format!("{target:?} {target}").contains("hunter2"));
        for url in
            ["amqp://someone:hunter2@h:port/0", "amqp://someone:hunter2@h?heartbeat=x", "amqps://someone:hunter2@h?ssl_cert_reqs=none"]
        {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("someone"), "{error}");
        }
    }
}
