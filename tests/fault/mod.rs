//! What goes wrong on purpose: nodes that are killed.

mod crash;
