//! Messages that came too early for the node that has them.

use umbel_proto::{Invocation, Millis, QueueName, Timestamp, Value};

use super::run::route_back;
use crate::{Effect, Publish, Release};

/// The header of a message that has been in the durable schedule until its ETA: that ETA, in milliseconds. Whoever copies
/// headers into a message with another ETA has not scheduled that one.
const SCHEDULED: &str = "umbel_scheduled";

/// What follows when a message is not to run before `due` and will not be held until then. It was taken from `queue`, and
/// `crashes` executors have died under it.
///
/// One that waits for its ETA is sent anew, into the schedule, with a mark: from there on the broker's clock alone says when
/// its time has come. If its taker's clock had another say, every node whose clock is slow would put it back at once, until it
/// has been taken so often that it counts as poison; and nobody who only put a message back has failed to end it, so the new
/// one's takings are counted from the beginning. Any other wait puts back the message that is there.
pub fn later(invocation: &Invocation, due: Millis, crashes: u32, queue: &QueueName) -> Vec<Effect> {
    if crashes > 0 || invocation.headers.eta.as_ref().is_none_or(|eta| eta.millis() != due) {
        return vec![Effect::Release(Release::Requeue { due: Some(due), crashes })];
    }
    let mut again = invocation.clone();
    again.headers.other.insert(SCHEDULED.to_owned(), due.into());
    let publish = Publish { invocation: again, route: route_back(invocation, queue), due: Some(due) };
    vec![Effect::Publish(Box::new(publish)), Effect::Release(Release::Ack)]
}

/// The header of a message that has waited for its turn under a limit.
const WAITED: &str = "umbel_waited";

/// What follows when a limit lets a message start at `due` at the earliest. As for an ETA it is sent anew: waiting for a turn is
/// no failed attempt, however often. One that has killed an executor is put back instead, as its count would be lost.
pub fn postponed(invocation: &Invocation, due: Millis, crashes: u32, queue: &QueueName) -> Vec<Effect> {
    if crashes > 0 {
        return vec![Effect::Release(Release::Requeue { due: Some(due), crashes })];
    }
    let mut again = invocation.clone();
    again.headers.other.insert(WAITED.to_owned(), due.into());
    let publish = Publish { invocation: again, route: route_back(invocation, queue), due: Some(due) };
    vec![Effect::Publish(Box::new(publish)), Effect::Release(Release::Ack)]
}

/// Whether a message has waited for its turn.
pub fn has_waited(invocation: &Invocation) -> bool {
    invocation.headers.other.contains_key(WAITED)
}

/// Whether a message has waited for its ETA in the durable schedule.
pub(crate) fn is_scheduled(invocation: &Invocation) -> bool {
    let headers = &invocation.headers;
    let until = headers.other.get(SCHEDULED).and_then(Value::as_i64);
    until.is_some() && until == headers.eta.as_ref().map(Timestamp::millis)
}
