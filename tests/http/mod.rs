//! The HTTP API of a real node on the embedded store: what it answers, and what it refuses.

mod contract;
mod hostile;
mod routes;

use std::sync::Arc;

use serde_json::Value as Json;
use umbel::{
    Node,
    brokers::Backbone,
    client::KnownTasks,
    embedded::{Store, StoreOptions},
    executors::{
        Executor,
        native::{NativeExecutor, demo},
    },
    http::{self, Api, remote::Remote, server::Server},
    scheduler::Settings,
};

/// A node, its API, and a way to ask it.
struct Served {
    node: Node,
    server: Server,
    remote: Remote,
}

impl Served {
    /// A node with the demo tasks on a store of its own, taking from queue `celery`.
    async fn start(token: Option<&str>) -> Self {
        let backbone = Backbone::embedded(Store::temporary(StoreOptions::default()).unwrap()).unwrap();
        let Backbone { broker, backend, ledger } = backbone;
        let executor: Arc<dyn Executor> = Arc::new(demo::register(NativeExecutor::builder()).build());
        let known = KnownTasks::new(executor.tasks());
        let node = Node::builder()
            .name("http@test")
            .concurrency(4)
            .backbone(broker.clone(), backend.clone(), ledger.clone())
            .executor(executor)
            .start()
            .await
            .unwrap();
        let client = umbel::Client::new(broker.clone(), backend.clone(), ledger.clone(), Arc::new(Settings::default()), known);
        let api = Api::new(client, broker, backend, ledger, Some(node.clone()));
        let server = http::serve("127.0.0.1:0".parse().unwrap(), token, api).await.unwrap();
        let remote = Remote::Listening { address: server.address(), token: token.map(str::to_owned) };
        Self { node, server, remote }
    }

    async fn get(&self, path: &str) -> Json {
        self.ask("GET", path, None).await
    }

    /// Asks for what must succeed.
    async fn ask(&self, method: &str, path: &str, body: Option<Json>) -> Json {
        match self.remote.ask(method.parse().unwrap(), path, body.as_ref()).await {
            Ok((_, answer)) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Submits a task and waits for its result.
    async fn run(&self, signature: Json) -> Json {
        let submitted = self.ask("POST", "/api/v1/submit", Some(signature)).await;
        self.get(&format!("/api/v1/results/{}?wait=60", submitted["id"].as_str().unwrap())).await
    }

    async fn stop(self) {
        self.server.stop().await;
        self.node.shutdown(umbel::Shutdown::Cold);
        self.node.wait().await.unwrap();
    }
}
