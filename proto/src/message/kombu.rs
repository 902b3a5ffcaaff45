//! The envelope in a Redis list.
