//! How much work to take: credits.

/// How many messages a node may hold for `slots` slots: those running and `multiplier - 1` waiting behind each
/// (Celery's `worker_prefetch_multiplier`); at least one. A multiplier of zero is bounded by `max`.
pub fn credits(slots: u32, multiplier: u32, max: u32) -> u32 {
    let wanted = if multiplier == 0 { max } else { slots.saturating_mul(multiplier) };
    wanted.clamp(1, max.max(1))
}

#[cfg(test)]
mod tests {
    use super::credits;

    #[test]
    fn at_least_one_and_never_more_than_the_bound() {
        assert_eq!(credits(4, 4, 1_000), 16);
        assert_eq!(credits(4, 1, 1_000), 4);
        assert_eq!(credits(4, 0, 1_000), 1_000, "without a multiplier only the bound holds");
        assert_eq!(credits(0, 4, 1_000), 1);
        assert_eq!(credits(u32::MAX, 4, 1_000), 1_000);
        assert_eq!(credits(4, 4, 0), 1);
    }
}
