//! Input that no friend would send: refused with a clear error, harming nothing.

use serde_json::{Value as Json, json};

use super::{Served, routes::raw};

/// Goal: each hostile request gets its status and a problem document, and the node goes on. The secret never comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_refused() {
    let served = Served::start(Some("t0k3n")).await;
    let address = served.server.address();
    let auth = "authorization: Bearer t0k3n\r\nconnection: close";
    let deep = format!("{{\"signature\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(&str, u16, String)> = vec![
        ("no token", 401, format!("GET /api/v1/queues HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")),
        (
            "wrong token",
            401,
            format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer nope\r\nconnection: close\r\n\r\n"),
        ),
        ("wrong host", 403, format!("GET /api/v1/queues HTTP/1.1\r\nhost: evil.example\r\n{auth}\r\n\r\n")),
        ("no host", 400, format!("GET /api/v1/queues HTTP/1.1\r\n{auth}\r\n\r\n")),
        ("wrong origin", 403, format!("GET /api/v1/queues HTTP/1.1\r\nhost: {address}\r\norigin: https://evil.example\r\n{auth}\r\n\r\n")),
        ("no route", 404, format!("GET /api/v2/queues HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("wrong method", 405, format!("PUT /api/v1/queues HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("oversize", 413, post(address, auth, &format!("{{\"task\": \"{}\"}}", "x".repeat(17 << 20)))),
        ("not JSON", 400, post(address, auth, "{\"task\":")),
        ("not an object", 400, post(address, auth, "[1, 2]")),
        ("no signature", 400, post(address, auth, "{}")),
        ("task is a number", 400, post(address, auth, r#"{"task": 7}"#)),
        ("args is a map", 400, post(address, auth, r#"{"task": "x", "args": {}}"#)),
        ("too deep", 400, post(address, auth, &deep)),
        ("not UTF-8 escape", 400, post(address, auth, r#"{"task": "\ud800\u12"}"#)),
        ("bad limit", 400, format!("GET /api/v1/tasks?limit=0 HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("limit is text", 400, format!("GET /api/v1/tasks?limit=many HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("bad cursor", 400, format!("GET /api/v1/tasks?cursor=%F0 HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("endless wait", 400, format!("GET /api/v1/results/x?wait=1e99 HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("wait is not a number", 400, format!("GET /api/v1/results/x?wait=NaN HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("unknown queue", 404, format!("GET /api/v1/queues/..%2f..%2fetc HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("unknown letter", 404, format!("DELETE /api/v1/dead/nope HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("unknown task", 404, format!("POST /api/v1/tasks/nope/retry HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
        ("unknown workflow", 404, format!("GET /api/v1/workflows/nope HTTP/1.1\r\nhost: {address}\r\n{auth}\r\n\r\n")),
    ];
    for (name, status, request) in cases {
        let answer = raw(address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer}");
        assert!(answer.contains("content-type: application/problem+json"), "{name}: {answer}");
        let body: Json = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert!(body["detail"].is_string() && body["type"].as_str().unwrap().starts_with("urn:umbel:problem:"), "{name}: {answer}");
        assert!(!answer.contains("t0k3n"), "{name}: {answer}");
    }
    // Not HTTP at all: hung up on, nothing else.
    for nonsense in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "💥 / HTTP/1.1\r\n\r\n"] {
        let answer = raw(address, nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(served.run(json!({ "task": "umbel.demo.add", "args": [1, 1] })).await["result"], 2);
    served.stop().await;
}

fn post(address: std::net::SocketAddr, auth: &str, body: &str) -> String {
    format!("POST /api/v1/submit HTTP/1.1\r\nhost: {address}\r\n{auth}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
