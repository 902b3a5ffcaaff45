//! Options of tasks that were changed at run time: durable in a hash, heard of through the tracked connection.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::watch;
use umbel_proto::TaskName;
use umbel_scheduler::tuning::{Limits, Tuning, Tunings};

use super::Shared;
use crate::redis::error::RedisError;

/// Between two attempts to read the changes while the server is away.
const PAUSE: Duration = Duration::from_millis(500);

/// Fields of the hash: what was changed, then the task. Two changes of one task do not undo each other.
const RATE_LIMIT: &str = "rate_limit:";
const TIME_LIMIT: &str = "time_limit:";

/// Keeps what this process knows of the changes up to date, until the broker is dropped.
pub(super) async fn listen(shared: Weak<Shared>, mut news: watch::Receiver<u64>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let learnt = strong.learn_tunings().await;
        drop(strong);
        let again = learnt.is_err();
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if again => {}
        }
    }
}

impl Shared {
    /// Reads the changes.
    pub(super) async fn learn_tunings(&self) -> Result<(), RedisError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.keys.tunings());
        let found: BTreeMap<String, String> = self.tracking.read(&command).await?;
        let now = read(&found);
        self.tunings.send_if_modified(|known| {
            let differs = **known != now;
            if differs {
                *known = Arc::new(now);
            }
            differs
        });
        Ok(())
    }

    pub(super) async fn tune(&self, task: &TaskName, tuning: &Tuning) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        if let Some(rate) = &tuning.rate_limit {
            pipeline.cmd("HSET").arg(self.keys.tunings()).arg(format!("{RATE_LIMIT}{task}")).arg(rate).ignore();
        }
        if let Some(limits) = &tuning.time_limit {
            let limits = serde_json::to_string(limits).map_err(|error| RedisError::Refused(error.to_string()))?;
            pipeline.cmd("HSET").arg(self.keys.tunings()).arg(format!("{TIME_LIMIT}{task}")).arg(limits).ignore();
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        self.link.pipeline::<()>(&pipeline).await
    }
}

/// What the fields say; what cannot be read says nothing.
fn read(fields: &BTreeMap<String, String>) -> Tunings {
    let mut tunings = Tunings::default();
    for (field, value) in fields {
        let (task, tuning) = if let Some(task) = field.strip_prefix(RATE_LIMIT) {
            (task, Tuning { rate_limit: Some(value.clone()), time_limit: None })
        } else if let (Some(task), Ok(limits)) = (field.strip_prefix(TIME_LIMIT), serde_json::from_str::<Limits>(value)) {
            (task, Tuning { rate_limit: None, time_limit: Some(limits) })
        } else {
            continue;
        };
        let task = TaskName::from(task);
        let before = tunings.get(&task).cloned().unwrap_or_default();
        tunings.set(task, tuning.over(before));
    }
    tunings
}
