//! What a node tells the others about itself by gossip.
//!
//! Only Umbel reads it, so it goes through [`codec::record`](crate::codec::record). A card of another version is refused with
//! an error that names both; its sender is then shown as a node that is there and says nothing.

use serde::{Deserialize, Serialize};

use crate::{DecodeError, EncodeError, NodeId, QueueName, codec::record};

/// The shape of [`NodeCard`]; any change of its fields is another one.
const VERSION: u8 = 1;

/// A node's card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeCard {
    /// The name of the node.
    pub node: NodeId,
    /// Grows at each of its starts, so that an old card never hides a newer one.
    pub generation: u64,
    /// Its roles.
    pub roles: Vec<String>,
    /// The queues it consumes.
    pub queues: Vec<QueueName>,
    /// Tasks it can run at once.
    pub slots: u32,
    /// Tasks it runs now.
    pub busy: u32,
    /// Tasks it has taken and not begun.
    pub backlog: u32,
    /// The share of its processors in use, from 0 to 1.
    pub cpu_load: f32,
    /// The share of its memory in use, from 0 to 1.
    pub memory_load: f32,
    /// The version of its program.
    pub version: String,
    /// Whether it takes no more work.
    pub draining: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> NodeCard {
        NodeCard {
            node: NodeId::from("umbel@a"),
            generation: 3,
            roles: vec!["cpu".to_owned()],
            queues: vec![QueueName::from("celery")],
            slots: 8,
            busy: 2,
            backlog: 1,
            cpu_load: 0.5,
            memory_load: 0.25,
            version: "0.1.0".to_owned(),
            draining: false,
        }
    }

    #[test]
    fn a_card_is_read_as_it_was_written() {
        let bytes = card().encode().unwrap();
        assert_eq!(NodeCard::decode(&bytes).unwrap(), card());
    }

    #[test]
    fn another_version_and_damage_are_refused() {
        let mut bytes = card().encode().unwrap();
        assert!((0..bytes.len()).all(|end| NodeCard::decode(&bytes[..end]).is_err()));
        bytes[0] = 2;
        assert!(NodeCard::decode(&bytes).unwrap_err().reason.contains("record version 2, this version reads 1"));
    }
}
