//! Redis Sentinel: who is the master now.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use super::error::{RedisError, judge};

/// Asks all sentinels at once, as one may have gone with the master; the first that knows it is believed.
pub(crate) async fn master(
    hosts: &[(String, u16)],
    name: &str,
    password: Option<&str>,
    patience: Duration,
) -> Result<(String, u16), RedisError> {
    let mut reasons = Vec::new();
    let mut asked: FuturesUnordered<_> = hosts.iter().map(|(host, port)| ask(host, *port, name, password, patience)).collect();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(master) => return Ok(master),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(RedisError::Unavailable(format!("no sentinel knows the master `{name}`: {}", reasons.join("; "))))
}

async fn ask(host: &str, port: u16, name: &str, password: Option<&str>, patience: Duration) -> Result<(String, u16), RedisError> {
    let at = format!("the sentinel {host}:{port}");
    let mut settings = RedisConnectionInfo::default();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let info = ConnectionAddr::Tcp(host.to_owned(), port).into_connection_info().map_err(|error| judge(&error, &at))?;
    let client = Client::open(info.set_redis_settings(settings)).map_err(|error| judge(&error, &at))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| judge(&error, &at))?;
    let found: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("get-master-addr-by-name")
        .arg(name)
        .query_async(&mut connection)
        .await
        .map_err(|error| judge(&error, &at))?;
    found.ok_or_else(|| RedisError::Unavailable(format!("{at} does not know it")))
}
