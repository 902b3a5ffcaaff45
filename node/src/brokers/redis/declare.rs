//! Making queues known, so that Celery's clients and `celery inspect` find them.

use std::sync::PoisonError;

use umbel_proto::QueueName;
use umbel_scheduler::Route;

use super::Shared;
use crate::redis::{error::RedisError, keys};

impl Shared {
    /// Declares queues as Celery's workers do: bound to a direct exchange of their own name, for good.
    pub(crate) async fn declare<'a>(&self, queues: impl IntoIterator<Item = &'a QueueName>) -> Result<(), RedisError> {
        let new: Vec<&QueueName> = {
            let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
            let mut new: Vec<_> = queues.into_iter().filter(|queue| !declared.contains(*queue)).collect();
            new.sort();
            new.dedup();
            new
        };
        if new.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for queue in &new {
            let member = self.keys.kombu.binding_member(queue.as_str(), "", queue);
            pipeline.cmd("SADD").arg(self.keys.kombu.binding(queue.as_str())).arg(&member).ignore();
            pipeline.cmd("SADD").arg(self.keys.kombu.binding_permanent(queue.as_str())).arg(&member).ignore();
            pipeline.cmd("SADD").arg(self.keys.queues()).arg(queue.as_str()).ignore();
        }
        self.link.pipeline::<()>(&pipeline).await?;
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.extend(new.into_iter().cloned());
        Ok(())
    }

    /// The queue that a message goes to. Of a named exchange the sender may not know the bindings; those that are declared on
    /// the server with this very routing key win, else what the sender worked out.
    pub(super) async fn queue_of(&self, route: &Route) -> Result<QueueName, RedisError> {
        if route.exchange.is_empty() || route.exchange == route.queue.as_str() {
            return Ok(route.queue.clone());
        }
        Ok(self.bound(&route.exchange, &route.routing_key).await?.unwrap_or_else(|| route.queue.clone()))
    }

    /// The queue that is bound to an exchange with this very routing key.
    pub(super) async fn bound(&self, exchange: &str, routing_key: &str) -> Result<Option<QueueName>, RedisError> {
        let members = self.bindings(exchange).await?;
        let mut bindings = members.iter().filter_map(|member| self.keys.kombu.bound(member));
        Ok(bindings.find(|(key, _, _)| *key == routing_key).map(|(_, _, queue)| queue))
    }

    /// The same, or the first one that is bound with a pattern that the routing key fits.
    pub(super) async fn bound_by_pattern(&self, exchange: &str, routing_key: &str) -> Result<Option<QueueName>, RedisError> {
        let members = self.bindings(exchange).await?;
        let bindings = || members.iter().filter_map(|member| self.keys.kombu.bound(member));
        let exact = bindings().find(|(key, _, _)| *key == routing_key);
        // kombu writes a pattern down for topic exchanges only (`kombu/transport/virtual/exchange.py`).
        let fits = || bindings().find(|(key, pattern, _)| !pattern.is_empty() && keys::fits(key, routing_key));
        Ok(exact.or_else(fits).map(|(_, _, queue)| queue))
    }

    async fn bindings(&self, exchange: &str) -> Result<Vec<String>, RedisError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.keys.kombu.binding(exchange));
        let mut members: Vec<String> = self.link.query(&command).await?;
        members.sort();
        Ok(members)
    }
}
