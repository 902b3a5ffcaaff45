//! Orders not to run something: durable in a sorted set, heard of through the tracked connection.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::watch;
use umbel_proto::{GroupId, Limits, TaskId, Value, codec::json};
use umbel_scheduler::revocation::{Revocation, Revoked};

use super::Shared;
use crate::{clock, redis::error::RedisError};

/// Between two attempts to read the orders while the server is away.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps what this process knows of the orders up to date, until the broker is dropped.
pub(super) async fn listen(shared: Weak<Shared>, mut news: watch::Receiver<u64>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let learnt = strong.learn_revoked().await;
        drop(strong);
        let again = learnt.is_err();
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if again => {}
        }
    }
}

impl Shared {
    /// Reads the orders.
    pub(super) async fn learn_revoked(&self) -> Result<(), RedisError> {
        let oldest = clock::now() - i64::try_from(self.options.revoke_expires.as_millis()).unwrap_or(i64::MAX / 2);
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(self.keys.revoked()).arg(oldest).arg("+inf").arg("WITHSCORES");
        let found: Vec<(String, f64)> = self.tracking.read(&command).await?;
        let mut revoked = Revoked::default();
        for (member, at) in found {
            if let Some(order) = read(&member) {
                revoked.insert(order, at as i64);
            }
        }
        self.revoked.send_if_modified(|known| {
            let differs = **known != revoked;
            if differs {
                *known = Arc::new(revoked);
            }
            differs
        });
        Ok(())
    }

    /// Gives orders not to run something. They hold here at once: what was sent right behind an order comes before the order is written
    /// down. Where that fails they hold until the orders are read the next time.
    pub(super) async fn revoke(&self, orders: &[Revocation]) -> Result<(), RedisError> {
        if orders.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        self.revoked.send_modify(|revoked| orders.iter().for_each(|order| Arc::make_mut(revoked).insert(order.clone(), now)));
        let oldest = now - i64::try_from(self.options.revoke_expires.as_millis()).unwrap_or(i64::MAX / 2);
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let add = pipeline.cmd("ZADD").arg(self.keys.revoked());
        for order in orders {
            add.arg(now).arg(write(order));
        }
        pipeline.ignore();
        pipeline.cmd("ZREMRANGEBYSCORE").arg(self.keys.revoked()).arg("-inf").arg(format!("({oldest}")).ignore();
        let keep = i64::try_from(Revoked::MAX).unwrap_or(i64::MAX);
        pipeline.cmd("ZREMRANGEBYRANK").arg(self.keys.revoked()).arg(0).arg(-keep - 1).ignore();
        self.link.pipeline::<()>(&pipeline).await
    }
}

fn write(order: &Revocation) -> String {
    match order {
        Revocation::Task(id) => format!("task:{id}"),
        Revocation::Workflow(id) => format!("workflow:{id}"),
        Revocation::Group(id) => format!("group:{id}"),
        Revocation::Start(id) => format!("start:{id}"),
        Revocation::Stamp { name, value } => {
            let both = Value::List(vec![name.as_str().into(), value.as_str().into()]);
            format!("stamp:{}", String::from_utf8_lossy(&json::write(&both)))
        }
    }
}

fn read(member: &str) -> Option<Revocation> {
    match member.split_once(':')? {
        ("task", id) => Some(Revocation::Task(TaskId::from(id))),
        ("workflow", id) => Some(Revocation::Workflow(TaskId::from(id))),
        ("group", id) => Some(Revocation::Group(GroupId::from(id))),
        ("start", id) => Some(Revocation::Start(TaskId::from(id))),
        ("stamp", both) => match json::parse(both.as_bytes(), Limits::default()).ok()?.as_list()? {
            [Value::Str(name), Value::Str(value)] => Some(Revocation::Stamp { name: name.clone(), value: value.clone() }),
            _ => None,
        },
        _ => None,
    }
}
