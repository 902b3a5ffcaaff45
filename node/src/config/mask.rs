//! What is shown of values of which only a name is known: Celery's settings, and what an application calls its own.

use umbel_proto::Value;

use super::{MASK, Url};

/// What the names of secrets contain (`celery/app/utils.py::HIDDEN_SETTINGS`).
const HIDDEN: [&str; 8] = ["api", "token", "key", "secret", "pass", "profanity", "signature", "database"];

/// The value of that name as it may be shown: secrets masked, however deep they are, and what addresses hold of them.
pub fn masked(name: &str, value: &Value) -> Value {
    let lower = name.to_lowercase();
    if HIDDEN.iter().any(|part| lower.contains(part)) && !value.is_null() {
        return MASK.into();
    }
    match value {
        Value::Map(map) => Value::Map(map.iter().map(|(name, value)| (name.clone(), masked(name, value))).collect()),
        Value::List(items) => Value::List(items.iter().map(|item| masked(name, item)).collect()),
        Value::Str(text) => address(text).into(),
        plain => plain.clone(),
    }
}

/// A text without the secrets of an address, if it is one that may have any.
fn address(text: &str) -> String {
    let Some((_, rest)) = text.split_once("://") else { return text.to_owned() };
    if !rest.contains(['@', '?']) {
        return text.to_owned();
    }
    Url::parse(text).map_or_else(|_| MASK.to_owned(), |url| url.to_string())
}

#[cfg(test)]
mod tests {
    use umbel_proto::Map;

    use super::*;

    /// Goal: no secret is shown, whatever its place, and everything else is.
    #[test]
    fn secrets_are_masked_wherever_they_are() {
        let map =
            |pairs: &[(&str, Value)]| Value::Map(Map::from_iter(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))));
        let options = map(&[
            ("sentinel_kwargs", map(&[("Password", "hunter2".into()), ("socket_timeout", Value::Int(3))])),
            ("master_name", "main".into()),
            ("seeds", Value::List(vec!["redis://me:hunter2@h:1/0".into(), "redis://h:1/0".into()])),
        ]);
        let shown = masked("broker_transport_options", &options);
        assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
        let shown = shown.as_map().unwrap();
        assert_eq!(shown["master_name"].as_str(), Some("main"));
        assert_eq!(shown["sentinel_kwargs"].as_map().unwrap()["socket_timeout"], Value::Int(3));
        let expected = Value::List(vec![format!("redis://me:{MASK}@h:1/0").into(), "redis://h:1/0".into()]);
        assert_eq!(shown["seeds"], expected);
        assert_eq!(masked("redis_password", &"hunter2".into()), MASK.into());
        assert_eq!(masked("broker_write_url", &"sqs://id:hunter2@".into()), "sqs://********".into());
        assert_eq!(masked("redis_password", &Value::Null), Value::Null);
        assert_eq!(masked("timezone", &"Europe/Oslo".into()), "Europe/Oslo".into());
    }
}
