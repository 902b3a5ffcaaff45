//! Short ways to build a node.

use umbel_scheduler::TaskSpec;

use super::NodeBuilder;
use crate::{
    brokers::{Backbone, BackboneError},
    embedded::StoreOptions,
    executors::native::{self, IntoTask},
};

impl NodeBuilder {
    /// On the broker of this URL, its results kept there as well: `umbel://path/to/file` is an embedded store, made if it is
    /// not there.
    ///
    /// # Errors
    /// When the URL is not understood or what it names cannot be opened.
    pub fn open(self, url: &str) -> Result<Self, BackboneError> {
        let Backbone { broker, backend, ledger } = Backbone::open(url, None, StoreOptions::default())?;
        Ok(self.backbone(broker, backend, ledger))
    }

    /// A task under other options, or another name, than its own. See [`NodeBuilder::task`].
    #[must_use]
    pub fn task_as<Kind>(mut self, spec: TaskSpec, task: impl IntoTask<Kind>) -> Self {
        self.native = Some(self.native.unwrap_or_default().task_as(spec, task));
        self
    }

    /// The tasks of `umbel.demo`. See [`NodeBuilder::task`].
    #[must_use]
    pub fn demo_tasks(mut self) -> Self {
        self.native = Some(native::demo::register(self.native.unwrap_or_default()));
        self
    }
}
