//! How busy the machine is, from `/proc`.

use std::fs;

/// What was counted last.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    busy: u64,
    total: u64,
}

impl Sampler {
    /// The share of the processors in use since the last look, and of the memory now, in percent. Zero where the system does
    /// not say. Two short reads of memory that the kernel keeps: no I/O to wait for.
    pub(crate) fn look(&mut self) -> (u8, u8) {
        let processors = fs::read_to_string("/proc/stat").ok().and_then(|stat| cpu(&stat)).map_or(0, |(busy, total)| {
            let share = percent(busy.saturating_sub(self.busy), total.saturating_sub(self.total));
            (self.busy, self.total) = (busy, total);
            share
        });
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|info| memory(&info)).unwrap_or(0);
        (processors, memory)
    }
}

/// Busy and all ticks of `/proc/stat`.
fn cpu(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are part of user.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|number| number.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    Some((total - idle, total))
}

fn memory(info: &str) -> Option<u8> {
    let number =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').split_whitespace().next()?.parse().ok());
    let (total, available): (u64, u64) = (number("MemTotal")?, number("MemAvailable")?);
    Some(percent(total.saturating_sub(available), total))
}

/// In steps of five: a load that changes by less is no news.
fn percent(part: u64, whole: u64) -> u8 {
    if whole == 0 {
        return 0;
    }
    let share = (part.saturating_mul(100) / whole).min(100);
    u8::try_from((share + 2) / 5 * 5).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        assert_eq!(cpu("cpu  10 0 10 60 20 0 0 0 5 0\ncpu0 1"), Some((20, 100)));
        assert_eq!(memory("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n"), Some(75));
        assert_eq!((percent(7, 100), percent(98, 100), percent(1, 0)), (5, 100, 0));
        let mut sampler = Sampler::default();
        assert!(sampler.look().0 <= 100);
    }
}
