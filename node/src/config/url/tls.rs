//! An address over TLS, where a setting of Celery's asks for that and not the address (`broker_use_ssl`, `redis_backend_use_ssl`).

use super::{Url, UrlKind};

impl Url {
    /// The same address over TLS, with these parameters of its query; those that it has already are stronger. Of local sockets, sentinels and
    /// what is not known here, the address as it is.
    ///
    /// # Errors
    /// When that is no address, without quoting it.
    pub fn secured(&self, parameters: &[(String, String)]) -> Result<Self, String> {
        let scheme = match self.scheme.as_str() {
            "redis" | "rediss" => "rediss",
            "amqp" | "pyamqp" | "amqps" => "amqps",
            _ => return Ok(self.clone()),
        };
        debug_assert!(matches!(self.kind, UrlKind::Redis | UrlKind::Amqp));
        let text = self.expose().trim();
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let mut secured = format!("{scheme}://{}", rest.replace(&format!(";{}://", self.scheme), &format!(";{scheme}://")));
        for (name, value) in parameters.iter().filter(|(name, _)| self.query(name).is_none()) {
            secured.push(if secured.contains('?') { '&' } else { '?' });
            secured.push_str(name);
            secured.push('=');
            secured.extend(value.bytes().map(encode));
        }
        Self::parse(&secured)
    }
}

fn encode(byte: u8) -> String {
    let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secured(url: &str) -> String {
        let parameters = [("ssl_cert_reqs", "CERT_NONE"), ("ssl_ca_certs", "/etc/own ca&co.pem")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Url::parse(url).unwrap().secured(&parameters).unwrap().expose().to_owned()
    }

    /// Goal: the address says by itself what the setting says, and what it said before stays.
    #[test]
    fn an_address_is_secured() {
        const MORE: &str = "ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/etc/own%20ca%26co.pem";
        assert_eq!(secured("redis://u:p%40@h:1/0"), format!("rediss://u:p%40@h:1/0?{MORE}"));
        assert_eq!(
            secured("rediss://h?db=2&ssl_cert_reqs=required"),
            "rediss://h?db=2&ssl_cert_reqs=required&ssl_ca_certs=/etc/own%20ca%26co.pem"
        );
        assert_eq!(secured("amqp://a;amqp://b:2/v"), format!("amqps://a;amqps://b:2/v?{MORE}"));
        assert_eq!(secured("pyamqp://a//"), format!("amqps://a//?{MORE}"));
        assert_eq!(secured("redis+socket:///s"), "redis+socket:///s");
        assert_eq!(secured("rpc://"), "rpc://");
    }
}
