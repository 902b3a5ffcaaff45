//! Sending other tasks from inside of one.

use thiserror::Error;
use umbel_proto::{ResultTuple, Signature};

use super::Context;
use crate::client::{AsyncResult, Client, ClientError};

/// What a task has sent: a result that others can wait for.
///
/// There is no way to wait for it here. A task that waits for another occupies a slot the other may need; that is how
/// clusters stop. Send what is to follow as a callback, or end with [`Context::replace`].
#[derive(Debug, Clone)]
pub struct Sent {
    result: AsyncResult,
}

/// Why a task could not send another.
#[derive(Debug, Error)]
pub enum SendError {
    /// The run is on no node (a test, or an executor used by itself).
    #[error("this run has no client: its executor is on no node")]
    Detached,
    /// The client could not.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Context {
    /// What the node's tasks send others with; `None` where the executor is on no node.
    ///
    /// What is sent with it directly begins a workflow of its own; [`Context::send`] makes it part of this one.
    pub fn client(&self) -> Option<&Client> {
        self.0.client.as_ref()
    }

    /// Sends `signature` as a child of this task: its root is this task's, and it is listed among this task's children.
    /// The task does not wait for it, and its failure is its own.
    ///
    /// A run that is repeated after a crash sends again, under another id; give the signature a `task_id` made from this
    /// task's to be recognised.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, signature: Signature) -> Result<Sent, SendError> {
        let client = self.0.client.as_ref().ok_or(SendError::Detached)?;
        let result = client.submit_from(&signature, self).await?;
        let mut children = self.0.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        children.push(result.tuple().clone());
        drop(children);
        Ok(Sent { result })
    }

    pub(crate) fn priority(&self) -> Option<u8> {
        self.0.invocation.properties.priority
    }
}

impl Sent {
    /// The id of what was sent; of a chain its last step's.
    pub fn id(&self) -> &str {
        self.result.id()
    }

    /// The whole result as ids, to be returned or stored.
    pub fn tuple(&self) -> &ResultTuple {
        self.result.tuple()
    }
}
