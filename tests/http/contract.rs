//! The OpenAPI document and the routes are the same list, and every answer is of the shape the document says.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use umbel::http::{OPENAPI, ROUTES};

use super::Served;
use crate::http::routes::example;

fn document() -> Json {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Goal: nobody adds a route without documenting it, or documents one that is not there.
#[test]
fn the_document_lists_exactly_the_routes() {
    let routes: BTreeSet<(String, String)> =
        ROUTES.iter().flat_map(|(path, methods, _)| methods.iter().map(|method| ((*path).to_owned(), (*method).to_owned()))).collect();
    let document = document();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())))
        .collect();
    assert_eq!(routes, documented);
}

/// Goal: every answer fits its schema. Method: each route is asked once for something that exists, on a node with a task of
/// every kind, a paused queue and a dead letter; the document's schema judges the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_fits_the_document() {
    let served = Served::start(None).await;
    let document = document();
    let mut judged = 0;
    for (path, methods, _) in ROUTES {
        for method in *methods {
            let (asked, body) = example(&served, method, path).await;
            let Some((status, answer)) = asked_json(&served, method, &asked, body).await else { continue };
            let schema = &document["paths"][path][method]["responses"][status.to_string()]["content"]["application/json"]["schema"];
            assert!(!schema.is_null(), "{method} {path} answers {status}, which the document does not have");
            let whole = json!({ "components": document["components"], "allOf": [schema] });
            let validator = jsonschema::validator_for(&whole).unwrap();
            let errors: Vec<String> = validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{method} {asked}: {errors:?}\n{answer:#}");
            judged += 1;
        }
    }
    assert_eq!(judged, 31, "answers with a body that were judged");
    served.stop().await;
}

/// The answer of a route that answers in JSON; `None` for the ones that do not (probes, metrics, events, 204).
async fn asked_json(served: &Served, method: &str, path: &str, body: Option<Json>) -> Option<(u16, Json)> {
    if ["/livez", "/readyz", "/metrics", "/api/v1/events"].contains(&path) {
        return None;
    }
    let method = method.to_uppercase().parse().unwrap();
    let (status, answer) = served.remote.ask(method, path, body.as_ref()).await.unwrap_or_else(|error| panic!("{path}: {error}"));
    (status.as_u16() != 204).then_some((status.as_u16(), answer))
}
