//! A message there and back.
use super::*;

const ENVELOPE: &[u8] = br#"{"body": "W1syLCAyXSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang": "py", "task": "capp.add", "id": "07f12740", "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "07f12740", "parent_id": null, "argsrepr": "(2, 2)", "kwargsrepr": "{}", "origin": "gen@vm", "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}, "properties": {"correlation_id": "07f12740", "reply_to": "524c", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "celery"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "35aa"}}"#;

#[test]
fn a_message_is_read_and_written() {
    let envelope = Envelope::from_kombu(ENVELOPE, Limits::default()).unwrap();
    assert_eq!(Envelope::from_kombu(&envelope.to_kombu(), Limits::default()).unwrap(), envelope);
    let invocation = Invocation::decode(&envelope, Limits::default()).unwrap();
    assert_eq!(invocation.headers.task.as_str(), "capp.add");
    assert_eq!(invocation.properties.routing_key, "celery");
    assert_eq!(invocation.arguments().unwrap().0, vec![Value::Int(2), Value::Int(2)]);
    assert!(invocation.embed().is_empty());
    let again = Invocation::decode(&invocation.encode("35aa", None).unwrap(), Limits::default()).unwrap();
    assert_eq!(again, invocation);
    assert_eq!(invocation.encode("35aa", None).unwrap().headers, envelope.headers);
}
