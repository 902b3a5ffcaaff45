//! How much work to take: credits.

/// How many messages a node may hold for `slots` slots: those running and `multiplier - 1` waiting behind each
/// (Celery's `worker_prefetch_multiplier`); at least one. A multiplier of zero is bounded by `max`.
pub fn credits(slots: u32, multiplier: u32, max: u32) -> u32 {
    let wanted = if multiplier == 0 { max } else { slots.saturating_mul(multiplier) };
    wanted.clamp(1, max.max(1))
}
