//! What a node learns when it begins: its name, and what is changed of tasks for every node.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use umbel_proto::NodeId;
use umbel_scheduler::tuning::Tunings;

use crate::actors::Shared;

/// Takes over what there is at once, before the node takes work, and each change when it is heard of.
pub(super) fn begin(shared: &Arc<Shared>) -> AbortOnDropHandle<()> {
    let Some(mut tunings) = shared.broker.tunings() else {
        return AbortOnDropHandle::new(crate::task::spawn(std::future::pending()));
    };
    let mut known = tunings.borrow_and_update().clone();
    shared.registry.learn(&Tunings::default(), &known);
    let shared = shared.clone();
    AbortOnDropHandle::new(crate::task::spawn(async move {
        while tunings.changed().await.is_ok() {
            let now = tunings.borrow_and_update().clone();
            shared.registry.learn(&known, &now);
            known = now;
        }
    }))
}

/// The name of a node that is given none.
pub(super) fn default_name() -> NodeId {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.as_deref().map(str::trim).filter(|host| !host.is_empty()).unwrap_or("localhost");
    NodeId::from(format!("umbel@{host}"))
}
