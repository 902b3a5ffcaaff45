//! rest_for_one, written once: when one of a line of children dies, exactly those upstream of it, which hold its address,
//! are ended as well, and all of them are started again, downstream first, after the delay that a restart meter sets.
//!
//! Pure bookkeeping: it neither spawns nor kills. `P` names a part of the line, `H` is the handle to the one that plays it.

use umbel_proto::Millis;
use umbel_scheduler::restart::{Restart, RestartMeter};

/// A part of the line.
pub(crate) trait Part: Copy + PartialEq {
    /// How far downstream it is; 0 holds nobody's address. Parts of one stage do not know each other.
    fn stage(self) -> usize;
}

/// The line.
#[derive(Debug)]
pub(crate) struct RestForOne<P, H> {
    /// All parts, downstream first.
    parts: Vec<Seat<P, H>>,
    meter: RestartMeter,
}

#[derive(Debug)]
struct Seat<P, H> {
    part: P,
    handle: Option<H>,
}

/// What a death comes to.
#[derive(Debug)]
pub(crate) struct Fallen<P, H> {
    /// Who died.
    pub(crate) part: P,
    /// Those to be ended with it.
    pub(crate) others: Vec<(P, H)>,
    /// When to start them all again.
    pub(crate) restart: Restart,
}

impl<P: Part, H: PartialEq> RestForOne<P, H> {
    /// A line of `parts`, downstream first, nobody alive yet.
    pub(crate) fn new(parts: impl IntoIterator<Item = P>, meter: RestartMeter) -> Self {
        let parts: Vec<_> = parts.into_iter().map(|part| Seat { part, handle: None }).collect();
        debug_assert!(parts.is_sorted_by_key(|seat| seat.part.stage()), "downstream first");
        Self { parts, meter }
    }

    /// `part` is played by `handle` from now on.
    pub(crate) fn started(&mut self, part: P, handle: H) {
        if let Some(seat) = self.parts.iter_mut().find(|seat| seat.part == part) {
            seat.handle = Some(handle);
        }
    }

    /// The parts nobody plays, in the order to start them.
    pub(crate) fn missing(&self) -> Vec<P> {
        self.parts.iter().filter(|seat| seat.handle.is_none()).map(|seat| seat.part).collect()
    }

    /// Whether anybody is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(|seat| seat.handle.is_none())
    }

    /// Takes the one with this handle out, as it has ended the way it should; `None` if it plays no part any more.
    pub(crate) fn ended(&mut self, handle: &H) -> Option<P> {
        let seat = self.parts.iter_mut().find(|seat| seat.handle.as_ref() == Some(handle))?;
        seat.handle = None;
        Some(seat.part)
    }

    /// The one with this handle died. `None` if it plays no part any more: those ended with another are not counted again.
    pub(crate) fn died(&mut self, handle: &H, now: Millis) -> Option<Fallen<P, H>> {
        let part = self.ended(handle)?;
        let others = self
            .parts
            .iter_mut()
            .filter(|seat| seat.part.stage() > part.stage())
            .filter_map(|seat| Some((seat.part, seat.handle.take()?)))
            .collect();
        Some(Fallen { part, others, restart: self.meter.died(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Stage(usize, char);

    impl Part for Stage {
        fn stage(self) -> usize {
            self.0
        }
    }

    fn line() -> RestForOne<Stage, u32> {
        let parts = [Stage(0, 'a'), Stage(1, 'p'), Stage(1, 'q'), Stage(2, 'g'), Stage(3, 'c')];
        let mut line = RestForOne::new(parts, RestartMeter::new(10, 60_000));
        for (handle, part) in (1..).zip(parts) {
            line.started(part, handle);
        }
        line
    }

    /// Goal: exactly those upstream of the dead one go with it; siblings and those downstream stay.
    #[test]
    fn ends_exactly_those_upstream() {
        for (dead, others, missing) in
            [(1, vec![2, 3, 4, 5], "apqgc"), (2, vec![4, 5], "pgc"), (3, vec![4, 5], "qgc"), (4, vec![5], "gc"), (5, vec![], "c")]
        {
            let mut line = line();
            let fallen = line.died(&dead, 0).unwrap();
            assert_eq!(fallen.others.iter().map(|(_, handle)| *handle).collect::<Vec<_>>(), others, "{dead} died");
            assert_eq!(line.missing().iter().map(|part| part.1).collect::<String>(), missing, "{dead} died");
        }
    }

    /// Goal: the news that somebody has ended who was ended on purpose is no death.
    #[test]
    fn counts_each_death_once() {
        let mut line = line();
        line.died(&4, 0).unwrap();
        assert!(line.died(&5, 0).is_none());
        assert!(line.died(&4, 0).is_none());
        line.started(Stage(3, 'c'), 9);
        assert!(line.died(&5, 0).is_none());
        assert_eq!(line.died(&9, 0).unwrap().part, Stage(3, 'c'));
    }
}
