//! Channels that one call at a time has to itself: with confirms for what is sent alone, in transaction mode for what belongs together.

use std::sync::{Mutex, PoisonError};

use lapin::{Channel, options::ConfirmSelectOptions};

use super::Shared;
use crate::amqp::{error::AmqpError, link::answer};

/// How many idle channels of a kind are kept for the next calls.
const IDLE: usize = 4;

/// A channel for one call. Dropped, it is closed: one on which something has failed is not used again.
pub(super) struct Line {
    epoch: u64,
    pub(super) channel: Channel,
}

/// Idle channels of one kind.
#[derive(Default)]
pub(super) struct Lines(Mutex<Vec<Line>>);

impl Lines {
    /// One on the connection of that number, if there is any.
    fn take(&self, epoch: u64) -> Option<Line> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|line| line.epoch == epoch && line.channel.status().connected());
        idle.pop()
    }

    /// Keeps one on which nothing is under way.
    pub(super) fn keep(&self, line: Line) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if line.channel.status().connected() && idle.len() < IDLE {
            idle.push(line);
        }
    }
}

impl Shared {
    /// A channel with publisher confirms.
    pub(super) async fn line(&self) -> Result<Line, AmqpError> {
        let live = self.link.live().await?;
        if let Some(line) = self.lines.take(live.epoch) {
            return Ok(line);
        }
        let channel = live.channel().await?;
        answer("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Line { epoch: live.epoch, channel })
    }

    /// A channel in transaction mode.
    pub(super) async fn transactor(&self) -> Result<Line, AmqpError> {
        let live = self.link.live().await?;
        if let Some(line) = self.transactors.take(live.epoch) {
            return Ok(line);
        }
        let channel = live.channel().await?;
        answer("beginning transactions", channel.tx_select()).await?;
        Ok(Line { epoch: live.epoch, channel })
    }
}
