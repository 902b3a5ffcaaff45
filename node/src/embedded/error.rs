//! What can go wrong with the store.

use std::path::PathBuf;

use thiserror::Error;

use crate::{backends::BackendError, brokers::BrokerError, ledgers::LedgerError};

/// What the store is called in errors, metrics and tables.
pub(crate) const KIND: &str = "embedded";

/// Why a store file cannot be opened. The file is as it was.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another store of this one, has it open.
    #[error("the store {path} is in use by another process; stop that node, or give this one a store of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version of Umbel.
    #[error(
        "the store {path} has format {found} and this version reads up to {known}; use the version of Umbel that wrote it, or a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// It is a file of something else.
    #[error("{path} is not a store of Umbel ({reason}); name another path")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How one can tell.
        reason: String,
    },
    /// It is a store whose content has been changed or cut off.
    #[error("the store {path} is damaged: {reason}; restore it from a backup, or move it away and start with an empty one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refuses.
    #[error(
        "cannot open the store {path}: {reason}; check that the directory exists, that this user may write to it and that the disk is not full"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

/// Why an operation was not carried out.
#[derive(Debug, Clone, Error)]
pub(crate) enum StoreError {
    /// The disk does not work now. The whole transaction is undone, or nobody knows; asking again may help.
    #[error("{0}")]
    Unavailable(String),
    /// This one operation cannot be carried out, now or later. It has changed nothing.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    pub(crate) fn broker(self) -> BrokerError {
        match self {
            Self::Unavailable(reason) => BrokerError::Unavailable { kind: KIND, reason },
            Self::Refused(reason) => BrokerError::Refused { kind: KIND, reason },
        }
    }

    pub(crate) fn backend(self) -> BackendError {
        match self {
            Self::Unavailable(reason) => BackendError::Unavailable { kind: KIND, reason },
            Self::Refused(reason) => BackendError::Refused { kind: KIND, reason },
        }
    }

    pub(crate) fn ledger(self) -> LedgerError {
        match self {
            Self::Unavailable(reason) => LedgerError::Unavailable { kind: KIND, reason },
            Self::Refused(reason) => LedgerError::Refused { kind: KIND, reason },
        }
    }
}

macro_rules! unavailable {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Unavailable(error.to_string())
            }
        }
    )*};
}

unavailable!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

impl From<umbel_proto::DecodeError> for StoreError {
    fn from(error: umbel_proto::DecodeError) -> Self {
        Self::Refused(format!("the store holds what cannot be read: {error}"))
    }
}

impl From<umbel_proto::EncodeError> for StoreError {
    fn from(error: umbel_proto::EncodeError) -> Self {
        Self::Refused(error.to_string())
    }
}
