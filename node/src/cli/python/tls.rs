//! `broker_use_ssl` and `redis_backend_use_ssl`: TLS that an application's settings ask for and its addresses do not.

use serde_json::Value;

use crate::{
    config::{Config, Sourced, Url, UrlKind},
    executors::python::AppReport,
};

/// Has addresses say by themselves what the settings say. It holds for those of others too, as in Celery (`celery -b`).
///
/// # Errors
/// Which setting is wrong, and how.
pub(in crate::cli) fn secure(config: &mut Config, report: &AppReport) -> Result<(), (&'static str, String)> {
    let apply = |url: &mut Option<Sourced<Url>>, setting: &'static str, kinds: &[UrlKind]| {
        let Some(parameters) = report.setting(setting).and_then(parameters) else { return Ok(()) };
        if let Some(url) = url.as_mut().filter(|url| kinds.contains(&url.value.kind)) {
            url.value = url.value.secured(&parameters).map_err(|error| (setting, error))?;
        }
        Ok(())
    };
    apply(&mut config.broker, "broker_use_ssl", &[UrlKind::Redis, UrlKind::Amqp])?;
    apply(&mut config.results, "redis_backend_use_ssl", &[UrlKind::Redis])
}

/// The parameters of an address that say the same; `None` where TLS is not asked for. Redis' names begin with `ssl_`, RabbitMQ's do not.
fn parameters(setting: &Value) -> Option<Vec<(String, String)>> {
    const REQUIRED: [&str; 3] = ["CERT_NONE", "CERT_OPTIONAL", "CERT_REQUIRED"];
    let map = match setting {
        Value::Bool(true) => return Some(Vec::new()),
        Value::Object(map) => map,
        _ => return None,
    };
    let parameter = |name: &str| {
        let value = map.get(&format!("ssl_{name}")).or_else(|| map.get(name))?;
        // Python's `ssl.CERT_NONE` is 0.
        let number = |number: u64| REQUIRED.get(usize::try_from(number).ok()?).map(|name| (*name).to_owned());
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().and_then(number))?;
        Some((format!("ssl_{name}"), text))
    };
    Some(["cert_reqs", "ca_certs", "certfile", "keyfile"].into_iter().filter_map(parameter).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: both servers' names are understood, and what says no is no.
    #[test]
    fn settings_are_parameters() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let redis = json!({ "ssl_cert_reqs": 2, "ssl_ca_certs": "/ca", "ssl_check_hostname": true });
        assert_eq!(parameters(&redis), Some(vec![pair("ssl_cert_reqs", "CERT_REQUIRED"), pair("ssl_ca_certs", "/ca")]));
        let rabbit = json!({ "certfile": "/c", "keyfile": "/k", "cert_reqs": "none", "ca_certs": null });
        let expected = [pair("ssl_cert_reqs", "none"), pair("ssl_certfile", "/c"), pair("ssl_keyfile", "/k")];
        assert_eq!(parameters(&rabbit), Some(expected.to_vec()));
        assert_eq!((parameters(&json!(true)), parameters(&json!(false)), parameters(&json!(null))), (Some(Vec::new()), None, None));
    }
}
