//! Names and ids as types, so that a queue is never passed where a task id is wanted.
//!
//! All of them are text of Celery's choosing (ids usually are UUIDs, but nothing in Celery requires it) behind an `Arc`,
//! so that a clone costs a counter.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
        impl From<&String> for $name {
            fn from(text: &String) -> Self {
                Self(text.as_str().into())
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_id! {
    /// The id of one task, the same through all of its retries.
    TaskId
}
text_id! {
    /// The registered name of a task, such as `proj.tasks.add`.
    TaskName
}
text_id! {
    /// The name of a queue.
    QueueName
}
text_id! {
    /// The name of a node, such as `celery@host`.
    NodeId
}
text_id! {
    /// The id of a group, which is also the id of the chord whose header it is.
    GroupId
}
text_id! {
    /// What a broker calls one delivery of a message.
    DeliveryTag
}

impl TaskId {
    /// An id that anybody who knows `parent` and `label` works out again: the UUID v5 of the two.
    ///
    /// Successors get their ids this way, so that a task that must run again after a crash sends the same ones, and the
    /// second sending can be recognised.
    pub fn derive(parent: &str, label: &str) -> Self {
        Self::from(derive(parent, label))
    }
}

impl GroupId {
    /// As [`TaskId::derive`].
    pub fn derive(parent: &str, label: &str) -> Self {
        Self::from(derive(parent, label))
    }
}

fn derive(parent: &str, label: &str) -> String {
    let namespace = Uuid::parse_str(parent).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, parent.as_bytes()));
    Uuid::new_v5(&namespace, label.as_bytes()).to_string()
}
