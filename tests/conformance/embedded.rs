//! The embedded store on the stage.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use umbel::{
    brokers::{Backbone, Subscription},
    embedded::{OpenError, Store, StoreOptions},
};
use umbel_tests::{
    conformance::{Setup, Stage},
    wait::until_async,
};

/// A store in a directory of its own.
struct Embedded {
    path: PathBuf,
    options: StoreOptions,
    backbone: Backbone,
    directory: tempfile::TempDir,
}

#[async_trait]
impl Stage for Embedded {
    async fn fresh(setup: Setup) -> Self {
        const LONG: Duration = Duration::from_secs(3600);
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            result_expires: Some(setup.result_expires.unwrap_or(LONG)),
            max_dead_letters: setup.max_dead_letters.unwrap_or(1000),
            chord_grace: setup.chord_grace.unwrap_or(LONG),
            ..StoreOptions::default()
        };
        let path = directory.path().join("store");
        let store = Store::open(&path, options.clone()).unwrap();
        Self { path, options, backbone: Backbone::embedded(store).unwrap(), directory }
    }

    fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    async fn lose(&self, subscription: Box<dyn Subscription>) {
        drop(subscription);
    }

    async fn reopen(self) -> Self {
        let Self { path, options, backbone, directory } = self;
        drop(backbone);
        // Tasks that were given up may take a moment to let go of the store.
        let store = until_async("the file is free", || async {
            match Store::open(&path, options.clone()) {
                Ok(store) => Some(store),
                Err(OpenError::InUse { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        Self { path, options, backbone: Backbone::embedded(store).unwrap(), directory }
    }
}

mod broker {
    umbel_tests::broker_conformance!(super::Embedded);
}

mod backend {
    umbel_tests::backend_conformance!(super::Embedded);
}

mod ledger {
    umbel_tests::ledger_conformance!(super::Embedded);
}

mod fanout {
    umbel_tests::fanout_conformance!(super::Embedded);
}

mod schedules {
    umbel_tests::schedules_conformance!(super::Embedded);
}
