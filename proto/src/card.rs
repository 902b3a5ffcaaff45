//! What a node tells the others about itself by gossip.
//!
//! Only Umbel reads it, so it goes through [`codec::record`](crate::codec::record). A card of another version is refused with
//! an error that names both; its sender is then shown as a node that is there and says nothing. What changes all the time is a
//! record of its own, [`NodeLoad`]: gossip sends what has changed, and a name does not.

use serde::{Deserialize, Serialize};

use crate::{DecodeError, EncodeError, Millis, NodeId, QueueName, codec::record};

/// The shape of [`NodeCard`]; any change of its fields is another one.
const VERSION: u8 = 1;

/// The shape of [`NodeLoad`].
const LOAD_VERSION: u8 = 1;

/// A node's card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// The name of the node.
    pub node: NodeId,
    /// When it started; grows at each of its starts, so that an old card never hides a newer one.
    pub generation: Millis,
    /// Its roles.
    pub roles: Vec<String>,
    /// The queues it consumes.
    pub queues: Vec<QueueName>,
    /// The version of its program.
    pub version: String,
    /// The machine it runs on.
    pub host: String,
    /// Where its HTTP API answers, as `host:port`.
    pub http: Option<String>,
}

/// How much a node has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Tasks it can run at once.
    pub slots: u32,
    /// Tasks it runs now.
    pub busy: u32,
    /// Tasks it has taken and not begun.
    pub backlog: u32,
    /// The share of its processors in use, in percent.
    pub cpu_percent: u8,
    /// The share of its memory in use, in percent.
    pub memory_percent: u8,
    /// Whether it takes no more work.
    pub draining: bool,
    /// Whether it has said farewell: what is not heard of it any more is no failure.
    pub leaving: bool,
}

impl NodeCard {
    /// Writes the card.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        record::encode(VERSION, self)
    }

    /// Reads a card.
    ///
    /// # Errors
    /// When the bytes are of another version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        record::decode(VERSION, bytes).map_err(|error| error.within("node card"))
    }
}

impl NodeLoad {
    /// Writes the load.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        record::encode(LOAD_VERSION, self)
    }

    /// Reads a load.
    ///
    /// # Errors
    /// When the bytes are of another version or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        record::decode(LOAD_VERSION, bytes).map_err(|error| error.within("node load"))
    }

    /// How many more tasks it could begin at once.
    pub fn idle(&self) -> u32 {
        if self.draining { 0 } else { self.slots.saturating_sub(self.busy.saturating_add(self.backlog)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> NodeCard {
        NodeCard {
            node: NodeId::from("umbel@a"),
            generation: 3,
            roles: vec!["cpu".to_owned()],
            queues: vec![QueueName::from("celery")],
            version: "0.1.0".to_owned(),
            host: "a".to_owned(),
            http: Some("127.0.0.1:5555".to_owned()),
        }
    }

    #[test]
    fn a_card_is_read_as_it_was_written() {
        let bytes = card().encode().unwrap();
        assert_eq!(NodeCard::decode(&bytes).unwrap(), card());
        let load = NodeLoad { slots: 8, busy: 2, backlog: 1, cpu_percent: 50, memory_percent: 25, ..NodeLoad::default() };
        let bytes = load.encode().unwrap();
        assert_eq!(NodeLoad::decode(&bytes).unwrap(), load);
        assert!(bytes.len() <= 8, "a load is sent all the time: {} bytes", bytes.len());
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        let mut bytes = card().encode().unwrap();
        assert!((0..bytes.len()).all(|end| NodeCard::decode(&bytes[..end]).is_err()));
        bytes[0] = 2;
        assert!(NodeCard::decode(&bytes).unwrap_err().reason.contains("record version 2, this version reads 1"));
    }

    #[test]
    fn idle_is_what_could_begin() {
        let load = NodeLoad { slots: 8, busy: 2, backlog: 1, ..NodeLoad::default() };
        assert_eq!(load.idle(), 5);
        assert_eq!(NodeLoad { draining: true, ..load }.idle(), 0);
        assert_eq!(NodeLoad { backlog: 100, ..load }.idle(), 0);
    }
}
