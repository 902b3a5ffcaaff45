//! Remote control, from both ends: the commands there are ([`table`]), asking nodes and Celery workers ([`ask`]), and reading a
//! command line into a request ([`words`]). What a node answers is in `actors/control`.

pub mod ask;
pub mod table;
pub mod words;

/// The exchange that commands go to, of the application `celery` (`control_exchange`, wire contract §6).
pub const EXCHANGE: &str = "celery.pidbox";

/// The exchange that answers go to.
pub const REPLY_EXCHANGE: &str = "reply.celery.pidbox";

/// The exchange of events (`event_exchange`, wire contract §7).
pub const EVENT_EXCHANGE: &str = "celeryev";
