//! Asking every actor for its report.

use std::time::Duration;

use ractor::{ActorRef, Message, RpcReplyPort, rpc::CallResult};

use super::{
    super::{
        aggregator::AggregatorMsg,
        beat::BeatMsg,
        beside::Side,
        consumer::ConsumerMsg,
        gate::GateMsg,
        pool::PoolMsg,
        reply,
        report::{CreditReport, GossipReport, NodeReport},
    },
    State,
};
use crate::facts::Kind;

/// How long an actor may take to answer: the control plane answers within a second, whatever the pool does.
const PATIENCE: Duration = Duration::from_millis(800);

impl State {
    /// Reports, without waiting for anybody here.
    pub(super) fn report(&self, port: RpcReplyPort<NodeReport>) {
        let shared = &self.shared;
        let offer = *shared.credits.offer.borrow();
        let mut report = NodeReport {
            node: shared.node.clone(),
            phase: self.phase,
            started: self.started,
            queues: shared.queues.borrow().clone(),
            broker: shared.links.broker.now(),
            ledger: shared.links.ledger.now(),
            credits: CreditReport { total: shared.credits.total(), in_use: shared.credits.in_use(), offered: offer.messages },
            why: offer.why.words(),
            restarts: self.restarts.iter().map(|(part, count)| (*part, *count)).chain(self.beside.restarts()).collect(),
            gossip: shared.gossip.as_ref().map(|port| GossipReport { address: port.advertised, traffic: port.traffic() }),
            beat: None,
            facts: Kind::ALL.map(|kind| (kind.as_str(), shared.facts.counters().total(kind))).into(),
            consumer: None,
            gate: None,
            pools: Vec::new(),
            aggregator: None,
        };
        let alive = self.alive.clone();
        let beat: Option<ActorRef<BeatMsg>> = self.beside.actor(Side::Beat).map(ActorRef::from);
        crate::task::spawn(async move {
            let pools = alive.pools.iter().map(|pool| ask(pool.as_ref(), PoolMsg::Report));
            let (consumer, gate, aggregator, beat, pools) = tokio::join!(
                ask(alive.consumer.as_ref(), ConsumerMsg::Report),
                ask(alive.gate.as_ref(), GateMsg::Report),
                ask(alive.aggregator.as_ref(), AggregatorMsg::Report),
                ask(beat.as_ref(), BeatMsg::Report),
                futures::future::join_all(pools),
            );
            report.consumer = consumer;
            report.gate = gate;
            report.pools = pools;
            report.aggregator = aggregator;
            report.beat = beat;
            reply(port, report);
        });
    }
}

pub(super) async fn ask<M: Message, R: Send + 'static>(
    actor: Option<&ActorRef<M>>,
    question: impl FnOnce(RpcReplyPort<R>) -> M,
) -> Option<R> {
    match actor?.call(question, Some(PATIENCE)).await {
        Ok(CallResult::Success(report)) => Some(report),
        _ => None,
    }
}
