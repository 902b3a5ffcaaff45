//! Gossip, as an actor: keeps its driver alive.
//!
//! **What it owns.** The task that gossips ([`crate::gossip::driver`]), for as long as it lives. The port below it and the view
//! above it outlive it. **Who sends to it.** Its driver, by ending. **What it sends on.** Nothing: the view is published through
//! a watch. **What bounds it.** The driver's own bounds; its mailbox holds one message.
//!
//! **When it dies**, it alone is started again (one_for_one), and the pipeline takes no notice. Until it is back the view stays
//! as it was, and others will see this node as not heard.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, cast};
use crate::gossip::driver;

/// The actor.
pub(crate) struct Gossip;

/// What it is told.
pub(crate) enum GossipMsg {
    /// The driver has ended.
    Ended(String),
}

pub(crate) struct State {
    _driving: AbortOnDropHandle<()>,
}

impl Actor for Gossip {
    type Msg = GossipMsg;
    type State = State;
    type Arguments = Arc<Shared>;

    async fn pre_start(&self, myself: ActorRef<GossipMsg>, shared: Arc<Shared>) -> Result<State, ActorProcessingErr> {
        let driving = crate::task::spawn(async move {
            let run = crate::task::spawn(async move { driver::run(&shared).await });
            let run = AbortOnDropHandle::new(run);
            let why = match run.await {
                Ok(Ok(())) => "the driver ended".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(error) => error.to_string(),
            };
            cast(&myself, GossipMsg::Ended(why));
        });
        Ok(State { _driving: AbortOnDropHandle::new(driving) })
    }

    async fn handle(&self, _: ActorRef<GossipMsg>, message: GossipMsg, _: &mut State) -> Result<(), ActorProcessingErr> {
        match message {
            GossipMsg::Ended(why) => Err(why.into()),
        }
    }
}
