//! Benches: one JSON line each.

fn main() {}
