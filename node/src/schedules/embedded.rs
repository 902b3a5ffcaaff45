//! Schedules in the embedded store: two more tables in its file, and a tick is one transaction.
//!
//! The file belongs to one process, so there is nobody else to lead; the lease is in the writer's memory and matters where several
//! nodes of one process share a store. Its token is durable, because a later process may not be taken for an earlier one.

use std::sync::Arc;

use async_trait::async_trait;
use umbel_scheduler::{beat::Entry, lease::Token};

use super::{Answer, Book, Candidate, Poll, Schedules, Step};
use crate::{
    brokers::{BrokerError, embedded::encode},
    embedded::{KIND, NewTick, Store, StoreError, read_book},
};

/// Schedules in a file.
#[derive(Debug)]
pub(crate) struct EmbeddedSchedules {
    store: Arc<Store>,
}

impl EmbeddedSchedules {
    /// Those of `store`.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Schedules for EmbeddedSchedules {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn campaign(&self, candidate: &Candidate) -> Result<Poll, BrokerError> {
        let (name, lease) = (candidate.name(), candidate.lease);
        // A lease that runs is renewed in memory: an idle node writes nothing.
        let renewed = {
            let name = name.clone();
            self.store.memory(move |state| state.beat.renew(&name, lease)).await
        };
        if let Some(poll) = renewed.map_err(StoreError::broker)? {
            return Ok(Poll { now: self.store.now(), ..poll });
        }
        self.store.write(0, move |tx| tx.campaign(&name, lease)).await.map_err(StoreError::broker)
    }

    async fn resign(&self, candidate: &Candidate) -> Result<(), BrokerError> {
        let name = candidate.name();
        self.store.memory(move |state| state.beat.resign(&name)).await.map_err(StoreError::broker)
    }

    async fn book(&self) -> Result<Book, BrokerError> {
        let book = self.store.read(read_book).await.map_err(StoreError::broker)?;
        let leader = self.store.memory(|state| state.beat.leader()).await.map_err(StoreError::broker)?;
        Ok(Book { leader, now: self.store.now(), ..book })
    }

    async fn tick(&self, candidate: &Candidate, token: Token, ticks: Vec<Step>) -> Result<Vec<Answer>, BrokerError> {
        let mut new = Vec::with_capacity(ticks.len());
        let mut bytes = 0;
        for Step { name, from, mark, message } in ticks {
            let message = message.as_ref().map(encode).transpose().map_err(StoreError::broker)?;
            bytes += message.as_ref().map_or(0, |message| message.message.len());
            new.push(NewTick { name, from, mark, message });
        }
        let name = candidate.name();
        self.store.write(bytes, move |tx| tx.tick(&name, token, &new)).await.map_err(StoreError::broker)
    }

    async fn put(&self, entries: Vec<Entry>) -> Result<(), BrokerError> {
        self.store.write(0, move |tx| tx.put_entries(&entries)).await.map_err(StoreError::broker)
    }

    async fn remove(&self, names: &[String]) -> Result<usize, BrokerError> {
        let names = names.to_vec();
        self.store.write(0, move |tx| tx.remove_entries(&names)).await.map_err(StoreError::broker)
    }

    async fn pause(&self, name: &str, paused: bool) -> Result<bool, BrokerError> {
        let name = name.to_owned();
        self.store.write(0, move |tx| tx.pause_entry(&name, paused)).await.map_err(StoreError::broker)
    }
}
