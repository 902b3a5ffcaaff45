//! Orders from remote control: about the tasks the node has, and about the room for them.
//!
//! They come here because the supervisor alone knows who is alive. It passes them on and waits for nobody: what takes time is a
//! task that answers the asker.

use ractor::RpcReplyPort;
use umbel_proto::TaskId;

use super::{
    super::{
        cast,
        gate::GateMsg,
        held::{HeldTask, Which},
        pool::PoolMsg,
        reply,
        report::Phase,
    },
    State,
    asking::ask,
};

/// The most slots a pool may be told to have.
const SLOTS_MAX: usize = 10_000;

/// What the node is told.
pub(crate) enum Order {
    /// Have so many slots more (or fewer) in each pool; at least one stays.
    Resize { by: i64 },
    /// The bounds of pools whose size follows their work are others now.
    Scale,
    /// Put other slots in the place of all.
    Renew,
    /// Say which tasks the node has: those that run, that wait, that wait for their time.
    Held(RpcReplyPort<Vec<HeldTask>>),
    /// End tasks and say which.
    Terminate { which: Which, signal: i32, port: RpcReplyPort<Vec<TaskId>> },
}

impl State {
    pub(super) fn order(&mut self, order: Order) {
        let alive = self.alive.clone();
        match order {
            Order::Resize { by } => self.resize(|slots| slots.saturating_add_signed(isize::try_from(by).unwrap_or(0))),
            Order::Scale => self.bounds_changed(),
            Order::Renew => alive.pools.iter().flatten().for_each(|pool| cast(pool, PoolMsg::Renew)),
            Order::Held(port) => {
                crate::task::spawn(async move {
                    let pools = alive.pools.iter().map(|pool| ask(pool.as_ref(), PoolMsg::Held));
                    let (pools, gate) = tokio::join!(futures::future::join_all(pools), ask(alive.gate.as_ref(), GateMsg::Held));
                    reply(port, pools.into_iter().chain([gate]).flatten().flatten().collect());
                });
            }
            Order::Terminate { which, signal, port } => {
                crate::task::spawn(async move {
                    let which = &which;
                    let pools = alive
                        .pools
                        .iter()
                        .map(|pool| ask(pool.as_ref(), move |port| PoolMsg::Terminate { which: which.clone(), signal, port }));
                    reply(port, futures::future::join_all(pools).await.into_iter().flatten().flatten().collect());
                });
            }
        }
    }

    /// Has the pools have the sizes that are written here.
    pub(super) fn tell_sizes(&self) {
        for (pool, slots) in self.alive.pools.iter().zip(&self.slots) {
            if let Some(pool) = pool {
                cast(pool, PoolMsg::Resize(*slots));
            }
        }
    }

    /// Gives each pool another size, now and whenever it is started again.
    fn resize(&mut self, size: impl Fn(usize) -> usize) {
        if self.phase == Phase::Draining {
            return;
        }
        for slots in &mut self.slots {
            *slots = size(*slots).clamp(1, SLOTS_MAX);
        }
        self.tell_sizes();
        self.shared.credits.resize(u32::try_from(self.slots.iter().sum::<usize>()).unwrap_or(u32::MAX));
    }
}
