//! Another beat that leaves no mark, told by its rhythm.
//!
//! Celery marks the messages of its beat from 5.7 on; what older ones send looks like any call. But it is a call that this cluster's
//! schedule has as well, it comes from one process, and as often: the times between its messages are those between this cluster's
//! own. Who calls by hand, or when users ask for it, does not come like that. What is compared is what one node receives; where
//! many nodes share a queue, each sees a part, and no rhythm.

use std::collections::{BTreeMap, VecDeque};

use umbel_proto::Millis;

/// How many distances have to be the same.
const DISTANCES: usize = 4;

/// How many times are kept: one more distance, because the two may be one apart.
const TIMES: usize = DISTANCES + 2;

/// Calls that are kept in mind, and processes that make the same one. What is beyond is not looked at.
const CALLS_MAX: usize = 1_000;
const ORIGINS_MAX: usize = 16;

/// The shortest difference that is one, in milliseconds: messages wait for each other.
const DIFFERENCE_MS: Millis = 100;

/// When calls came that this cluster's beat makes.
#[derive(Debug, Clone, Default)]
pub struct Rhythms(BTreeMap<String, Calls>);

#[derive(Debug, Clone, Default)]
struct Calls {
    own: VecDeque<Millis>,
    others: BTreeMap<String, VecDeque<Millis>>,
}

impl Rhythms {
    /// This cluster's beat has made a call; `call` stands for the task and its arguments.
    pub fn own(&mut self, call: &str, at: Millis) {
        if self.0.len() < CALLS_MAX || self.0.contains_key(call) {
            note(&mut self.0.entry(call.to_owned()).or_default().own, at);
        }
    }

    /// Somebody has, in the process `origin`. Whether that seems to be another beat.
    pub fn other(&mut self, call: &str, origin: &str, at: Millis) -> bool {
        // What this cluster's beat does not send, another may.
        let Some(calls) = self.0.get_mut(call) else { return false };
        if calls.others.len() >= ORIGINS_MAX && !calls.others.contains_key(origin) {
            return false;
        }
        let times = calls.others.entry(origin.to_owned()).or_default();
        note(times, at);
        is_same(&calls.own, times)
    }
}

fn note(times: &mut VecDeque<Millis>, at: Millis) {
    if times.len() == TIMES {
        times.pop_front();
    }
    times.push_back(at);
}

fn is_same(own: &VecDeque<Millis>, other: &VecDeque<Millis>) -> bool {
    let (own_distances, other_distances) = (distances(own), distances(other));
    let (Some(last), Some(own_last), Some(usual)) = (other.back(), own.back(), own_distances.last()) else { return false };
    if other_distances.len() < DISTANCES || last - own_last > 2 * usual + DIFFERENCE_MS {
        return false;
    }
    let newest = &other_distances[other_distances.len() - DISTANCES..];
    let near = |(one, two): (&Millis, &Millis)| (one - two).abs() <= (one / 10).max(DIFFERENCE_MS);
    own_distances.windows(DISTANCES).any(|own| own.iter().zip(newest).all(near))
}

fn distances(times: &VecDeque<Millis>) -> Vec<Millis> {
    times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Millis = 3_600_000;

    /// How many of `others` it takes until they seem to be another beat's.
    fn noticed(own: &[Millis], others: &[Millis]) -> Option<usize> {
        let mut all: Vec<(Millis, bool)> = own.iter().map(|at| (*at, true)).chain(others.iter().map(|at| (*at, false))).collect();
        all.sort_unstable();
        let (mut rhythms, mut count) = (Rhythms::default(), 0);
        for (at, is_own) in all {
            if is_own {
                rhythms.own("t(1)", at);
                continue;
            }
            count += 1;
            if rhythms.other("t(1)", "gen7@old", at) {
                return Some(count);
            }
        }
        None
    }

    /// Goal: a beat with the same entry is noticed, whether it sends at the same moments or between them, and drifts a little.
    #[test]
    fn the_same_rhythm_is_noticed() {
        let hours: Vec<Millis> = (0..12).map(|hour| hour * HOUR).collect();
        let between: Vec<Millis> = (0..12).map(|hour| hour * HOUR + HOUR / 3 + hour * 5).collect();
        assert!(noticed(&hours, &between).is_some_and(|count| count <= 6));
        let wall: Vec<Millis> = (0..12).flat_map(|day| [24 * day * HOUR + 9 * HOUR, 24 * day * HOUR + 17 * HOUR]).collect();
        let near: Vec<Millis> = wall.iter().enumerate().map(|(at, time)| time + if at % 3 == 0 { -40 } else { 30 }).collect();
        assert!(noticed(&wall, &near).is_some_and(|count| count <= 6));
    }

    /// Goal: calls that come as they come, calls of what is not scheduled, and a beat that took over are none.
    #[test]
    fn other_rhythms_are_not() {
        let hours: Vec<Millis> = (0..40).map(|hour| hour * HOUR).collect();
        let mut state = 7_u64;
        let random = (0..200).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as Millis % (40 * HOUR)
        });
        assert_eq!(noticed(&hours, &random.collect::<Vec<_>>()), None);
        assert_eq!(noticed(&[], &hours), None);
        let later: Vec<Millis> = (40..60).map(|hour| hour * HOUR + HOUR / 2).collect();
        assert_eq!(noticed(&hours[..20], &later), None);
    }

    /// Goal: what is kept is bounded.
    #[test]
    fn nothing_grows_for_ever() {
        let mut rhythms = Rhythms::default();
        for number in 0..3 * CALLS_MAX as Millis {
            rhythms.own(&number.to_string(), number);
            rhythms.other("0", &number.to_string(), number);
        }
        assert_eq!((rhythms.0.len(), rhythms.0["0"].others.len()), (CALLS_MAX, ORIGINS_MAX));
    }
}
