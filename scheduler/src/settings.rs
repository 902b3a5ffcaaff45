//! Settings that decisions depend on.

use umbel_proto::QueueName;

use crate::routing::Routes;

/// Settings of the whole node (Celery's `app.conf`, as far as decisions need it).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `task_default_queue`.
    pub default_queue: QueueName,
    /// `task_routes`.
    pub routes: Routes,
    /// `task_default_priority`.
    pub default_priority: Option<u8>,
    /// `task_inherit_parent_priority`.
    pub inherit_parent_priority: bool,
    /// Whether results are kept at all: an application without a result backend wants none.
    pub keep_results: bool,
    /// `result_extended`.
    pub result_extended: bool,
    /// How often a message may be taken without an ending before it is a dead letter.
    pub max_deliveries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_queue: QueueName::from("celery"),
            routes: Routes::default(),
            default_priority: None,
            inherit_parent_priority: false,
            keep_results: true,
            result_extended: false,
            max_deliveries: 20,
        }
    }
}
