//! What each route does.

use futures::StreamExt as _;
use serde_json::{Value as Json, json};
use umbel::http::remote::RemoteError;
use umbel_tests::wait::{soon, until_async};

use super::Served;

/// A request for `path` about something that exists.
pub(super) async fn example(served: &Served, method: &str, path: &str) -> (String, Option<Json>) {
    let nightly = || json!({ "name": "nightly", "task": "umbel.demo.add", "cron": "30 2 * * *", "args": [1, 2] });
    if path.contains("{name}") {
        served.ask("POST", "/api/v1/schedules", Some(nightly())).await;
    }
    let (id, body) = match path {
        "/api/v1/schedules" if method == "post" => (String::new(), Some(nightly())),
        "/api/v1/control" => (String::new(), Some(json!({ "method": "ping" }))),
        "/api/v1/submit" => (String::new(), Some(json!({ "task": "umbel.demo.add", "args": [1, 2] }))),
        _ if path.starts_with("/api/v1/dead/{id}") => (dead_letter(served).await, None),
        "/api/v1/dead" => {
            dead_letter(served).await;
            (String::new(), None)
        }
        "/api/v1/tasks/{id}/retry" => (failed_task(served).await, None),
        _ if path.contains("{id}") || path == "/api/v1/tasks" => {
            let result = served.run(json!({ "task": "umbel.demo.add", "args": [1, 2] })).await;
            (result["task_id"].as_str().unwrap().to_owned(), None)
        }
        _ => (String::new(), None),
    };
    let queue = if method == "delete" { "to.purge" } else { "celery" };
    if path.contains("{queue}") {
        // A queue that was used is known.
        served.ask("POST", "/api/v1/submit", Some(json!({ "task": "x", "options": { "queue": "to.purge" } }))).await;
    }
    (path.replace("{id}", &id).replace("{queue}", queue).replace("{name}", "nightly"), body)
}

async fn dead_letter(served: &Served) -> String {
    served.run(json!({ "task": "nobody.knows" })).await;
    let letter = |answer: Json| answer["items"][0]["id"].as_str().map(str::to_owned);
    until_async("there is a dead letter", || async { letter(served.get("/api/v1/dead").await) }).await
}

async fn failed_task(served: &Served) -> String {
    let result = served.run(json!({ "task": "umbel.demo.fail", "args": ["no"] })).await;
    assert_eq!(result["status"], "FAILURE");
    let id = result["task_id"].as_str().unwrap().to_owned();
    until_async("the failure is listed", || async { served.get(&format!("/api/v1/tasks/{id}")).await["task"]["ended"].as_i64() }).await;
    id
}

/// Goal: the way of a task through the API: submitted, waited for, listed, forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_submitted_waited_for_listed_and_forgotten() {
    let served = Served::start(None).await;
    let result = served.run(json!({ "task": "umbel.demo.add", "args": [2, 3] })).await;
    assert_eq!((&result["status"], &result["result"]), (&json!("SUCCESS"), &json!(5)));
    let id = result["task_id"].as_str().unwrap();
    let listed = until_async("it is listed as ended", || async {
        let page = served.get("/api/v1/tasks?state=SUCCESS&name=umbel.demo.add").await;
        page["items"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned()
    })
    .await;
    assert_eq!((&listed["queue"], &listed["attempt"], &listed["result"]), (&json!("celery"), &json!(1), &json!("5")));
    served.ask("DELETE", &format!("/api/v1/results/{id}"), None).await;
    assert_eq!(served.get(&format!("/api/v1/results/{id}")).await["status"], "PENDING");
    served.stop().await;
}

/// Goal: a slip in a name is named with what was meant; a task is sent all the same, for another node may run it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slip_in_a_name_is_answered_with_what_was_meant() {
    let served = Served::start(None).await;
    let add = |name: &str| json!({ "task": name, "args": [1, 1], "kwargs": {}, "options": { "queue": "nearby" }, "subtask_type": null, "immutable": false });
    let group = json!({ "task": "celery.group", "kwargs": { "tasks": [add("umbel.demo.add"), add("umbel.demo.ad"), add("other.thing")] },
        "options": {}, "args": [], "subtask_type": "group", "immutable": false });
    let submitted = served.ask("POST", "/api/v1/submit", Some(json!({ "signature": group }))).await;
    assert_eq!(submitted["warnings"], json!(["this node has no task \"umbel.demo.ad\"; did you mean \"umbel.demo.add\"?"]));
    let found = served.get("/api/v1/queues/nearby").await;
    assert_eq!(found["ready"], 3);
    let refused = served.remote.ask("GET".parse().unwrap(), "/api/v1/queues/nearbi", None).await.unwrap_err();
    assert!(
        matches!(&refused, RemoteError::Problem { detail, .. } if detail == "no queue \"nearbi\"; did you mean \"nearby\"?"),
        "{refused:?}"
    );
    served.stop().await;
}

/// Goal: a workflow can be looked at as a tree, its failing step and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_shown_as_a_tree() {
    let served = Served::start(None).await;
    let add =
        |x: i64| json!({ "task": "umbel.demo.add", "args": [x], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false });
    let chain = json!({ "task": "celery.chain", "kwargs": { "tasks": [
        { "task": "umbel.demo.add", "args": [1, 1], "kwargs": {}, "options": { "task_id": "first" }, "subtask_type": null, "immutable": false },
        add(10), add(100)
    ] }, "options": {}, "args": [], "subtask_type": "chain", "immutable": false });
    let result = served.run(json!({ "signature": chain })).await;
    assert_eq!(result["result"], 112);
    let shown = served.get("/api/v1/workflows/first").await;
    let steps: Vec<&Json> = std::iter::successors(Some(&shown["tree"]), |node| node["children"].get(0)).collect();
    assert_eq!(steps.len(), 3, "{shown:#}");
    assert!(steps.iter().all(|step| step["status"] == "SUCCESS" && step["name"] == "umbel.demo.add"), "{shown:#}");
    served.stop().await;
}

/// Goal: a workflow that is deeper than readers of JSON go is shown as far as they do, and the rest by the id where that ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_workflow_is_shown_in_parts() {
    const STEPS: usize = 150;
    let served = Served::start(None).await;
    let add = |id: usize| {
        let args = if id == 0 { json!([0, 1]) } else { json!([1]) };
        json!({ "task": "umbel.demo.add", "args": args, "kwargs": {}, "options": { "task_id": format!("step-{id}") }, "subtask_type": null, "immutable": false })
    };
    let tasks: Vec<Json> = (0..STEPS).map(add).collect();
    let chain = json!({ "task": "celery.chain", "kwargs": { "tasks": tasks }, "options": {}, "args": [], "subtask_type": "chain", "immutable": false });
    assert_eq!(served.run(json!({ "signature": chain })).await["result"], STEPS);
    let (mut from, mut seen) = ("step-0".to_owned(), Vec::new());
    loop {
        let shown = served.get(&format!("/api/v1/workflows/{from}")).await;
        let steps: Vec<Json> = std::iter::successors(Some(&shown["tree"]), |node| node["children"].get(0)).cloned().collect();
        seen.extend(steps.iter().map(|step| step["id"].as_str().unwrap().to_owned()));
        if shown["truncated"] == false {
            break;
        }
        let last = steps.last().unwrap();
        assert_eq!(last["truncated"], true, "{last}");
        // It begins the next part.
        from = seen.pop().unwrap();
    }
    assert_eq!(seen, (0..STEPS).map(|id| format!("step-{id}")).collect::<Vec<_>>());
    served.stop().await;
}

/// Goal: an idempotency key keeps a request that is repeated from running twice; another request under it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_sends_once() {
    let served = Served::start(None).await;
    let submit = |body: &'static str, key: &'static str| {
        let address = served.server.address();
        async move {
            raw(address, &format!("POST /api/v1/submit HTTP/1.1\r\nhost: {address}\r\nidempotency-key: {key}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())).await
        }
    };
    let body = r#"{"task": "umbel.demo.add", "args": [1, 1]}"#;
    let (first, again) = (submit(body, "k1").await, submit(body, "k1").await);
    assert!(first.starts_with("HTTP/1.1 202") && again.contains("idempotent-replayed: true"), "{first}\n{again}");
    assert_eq!(first.split("\r\n\r\n").nth(1), again.split("\r\n\r\n").nth(1));
    assert!(submit(r#"{"task": "umbel.demo.add", "args": [2, 2]}"#, "k1").await.starts_with("HTTP/1.1 409"));
    assert_ne!(submit(body, "k2").await.split("\r\n\r\n").nth(1), first.split("\r\n\r\n").nth(1));
    let id: Json = serde_json::from_str(first.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    served.get(&format!("/api/v1/results/{}?wait=60", id["id"].as_str().unwrap())).await;
    let ran = until_async("both submissions have run", || async {
        let page = served.get("/api/v1/tasks?name=umbel.demo.add&state=SUCCESS").await;
        (page["items"].as_array().unwrap().len() >= 2).then(|| page["items"].as_array().unwrap().len())
    })
    .await;
    assert_eq!(ran, 2);
    served.stop().await;
}

/// Goal: a queue can be paused, looked into, purged and resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_paused_peeked_purged_and_resumed() {
    let served = Served::start(None).await;
    served.ask("POST", "/api/v1/queues/celery/pause", None).await;
    for n in 0..3 {
        served.ask("POST", "/api/v1/submit", Some(json!({ "task": "umbel.demo.add", "args": [n, n] }))).await;
    }
    let queue = served.get("/api/v1/queues/celery").await;
    assert_eq!((&queue["ready"], &queue["paused"], &queue["consumers"]), (&json!(3), &json!(true), &json!(1)));
    let peeked = served.get("/api/v1/queues/celery/messages?limit=2").await;
    assert_eq!(peeked["items"].as_array().unwrap().len(), 2);
    assert_eq!(peeked["items"][0]["message"]["args"], "(0, 0)");
    assert_eq!(served.ask("DELETE", "/api/v1/queues/celery/messages", None).await["purged"], 3);
    served.ask("POST", "/api/v1/queues/celery/resume", None).await;
    assert_eq!(served.run(json!({ "task": "umbel.demo.add", "args": [1, 1] })).await["result"], 2);
    served.stop().await;
}

/// Goal: a failed task is sent again under its id; one that succeeded is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_is_sent_again() {
    let served = Served::start(None).await;
    let id = failed_task(&served).await;
    let before = served.get(&format!("/api/v1/tasks/{id}")).await["task"]["ended"].as_i64();
    served.ask("POST", &format!("/api/v1/tasks/{id}/retry"), None).await;
    until_async("it has run again", || async {
        let task = served.get(&format!("/api/v1/tasks/{id}")).await["task"].clone();
        (task["state"] == "FAILURE" && task["ended"].as_i64() > before).then_some(())
    })
    .await;
    let result = served.run(json!({ "task": "umbel.demo.add", "args": [1, 1] })).await;
    let refused =
        served.remote.ask("POST".parse().unwrap(), &format!("/api/v1/tasks/{}/retry", result["task_id"].as_str().unwrap()), None).await;
    assert!(matches!(refused, Err(RemoteError::Problem { status, .. }) if status.as_u16() == 409), "{refused:?}");
    // What nobody would run is not said to be sent.
    served.ask("POST", &format!("/api/v1/tasks/{id}/revoke"), None).await;
    let refused = served.remote.ask("POST".parse().unwrap(), &format!("/api/v1/tasks/{id}/retry"), None).await;
    assert!(matches!(&refused, Err(RemoteError::Problem { detail, .. }) if detail.contains("is revoked")), "{refused:?}");
    served.stop().await;
}

/// Goal: events come as they happen, and the stream ends when the server stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_streamed_until_the_server_stops() {
    let served = Served::start(None).await;
    let response = served.remote.open("GET".parse().unwrap(), "/api/v1/events", None).await.unwrap();
    let mut events = response.into_body().into_data_stream();
    served.run(json!({ "task": "umbel.demo.add", "args": [1, 1] })).await;
    let mut seen = String::new();
    while !seen.contains("event: succeeded") {
        let bytes = soon("an event", events.next()).await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(seen.find("event: received") < seen.find("event: started"), "{seen}");
    soon("the server to stop", served.stop()).await;
    assert!(soon("the stream to end", events.next()).await.is_none_or(|rest| rest.is_err()));
}

/// Goal: probes and metrics say what the node is doing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_metrics() {
    let served = Served::start(None).await;
    served.run(json!({ "task": "umbel.demo.add", "args": [1, 1] })).await;
    let text = |path: &'static str| {
        let remote = served.remote.clone();
        async move {
            let (status, bytes) = remote.raw("GET".parse().unwrap(), path, None).await.unwrap();
            (status.as_u16(), String::from_utf8(bytes.to_vec()).unwrap())
        }
    };
    assert_eq!(text("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(text("/readyz").await, (200, "ready\n".to_owned()));
    let metrics = until_async("the task is counted", || async {
        let metrics = text("/metrics").await.1;
        metrics.contains("umbel_task_events_total{name=\"umbel.demo.add\",kind=\"succeeded\"} 1\n").then_some(metrics)
    })
    .await;
    for family in [
        "umbel_broker_up{node=\"http@test\"} 1",
        "umbel_queue_ready{queue_name=\"celery\"} 0",
        "umbel_task_runtime_seconds_count{name=\"umbel.demo.add\"} 1",
    ] {
        assert!(metrics.contains(family), "{family} is missing from\n{metrics}");
    }
    served.node.shutdown(umbel::Shutdown::Cold);
    served.node.wait().await.unwrap();
    assert_eq!(text("/readyz").await.0, 503);
    assert_eq!(text("/livez").await.0, 200);
    served.server.stop().await;
}

/// Sends bytes as they are and reads until the connection closes.
pub(super) async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that hangs up on nonsense may reset the connection: what came by then is the answer.
    let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
