//! What the last node leaves behind when it ends in peace: messages that wait for their time, in their queues.
//!
//! Celery restores such messages when a worker stops, because its workers hold them; here they are in a schedule that only nodes look
//! at. Whoever goes back to Celery's workers, or counts messages to know whether a node is wanted, finds them where Celery has them.
//! The next node puts them into the schedule again as it takes them.

use umbel_proto::QueueName;

use super::Shared;
use crate::redis::{answer, error::RedisError, script::Script};

static LEAVE: Script = Script::new(
    "leave",
    concat!(
        include_str!("../../redis/scripts/pulse.lua"),
        include_str!("../../redis/scripts/takes.lua"),
        include_str!("../../redis/scripts/leave.lua")
    ),
);

/// How many messages are looked at in one step.
const SLICE: i64 = 500;

/// How many are put back: the next node takes each of them once more, and others wait meanwhile.
const MOST: i64 = 100_000;

impl Shared {
    /// Puts what waits for its time back into its queues, if no node is left.
    pub(super) async fn leave_schedules(&self) -> Result<(), RedisError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys.schedules()).arg(0).arg(-1);
        let queues: Vec<String> = self.link.query(&command).await?;
        let mut back = 0;
        for queue in queues {
            match self.leave_schedule(&QueueName::from(queue), MOST - back).await? {
                Some(count) => back += count,
                None => break,
            }
        }
        if back >= MOST {
            tracing::warn!(
                back,
                "more messages wait for their time than the last node puts back into their queues; Celery's workers do not see the rest"
            );
        } else if back > 0 {
            tracing::info!(back, "the last node has ended: messages that wait for their time are in their queues");
        }
        Ok(())
    }

    /// The same for one queue; `None` when there is a node.
    async fn leave_schedule(&self, queue: &QueueName, most: i64) -> Result<Option<i64>, RedisError> {
        let (mut back, mut stay) = (0, 0);
        while back < most {
            let mut call = LEAVE.call(4);
            call.arg(self.keys.leases()).arg(self.keys.pulse()).arg(self.keys.due(queue)).arg(self.keys.scheduled(queue));
            call.arg(SLICE).arg(stay);
            let answer = answer::list(self.link.script(&LEAVE, &call).await?, "a schedule that is left")?;
            let (Some(looked), Some(stays)) = (answer::int(answer.first()), answer::int(answer.get(1))) else { return Ok(None) };
            back += looked - stays;
            stay += stays;
            if looked < SLICE {
                break;
            }
        }
        Ok(Some(back))
    }
}
