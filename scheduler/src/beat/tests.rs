//! Entries, policies, clocks that jump, and leaders that change under way.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use umbel_proto::{Map, QueueName, TaskName, Value};

use super::*;
use crate::{
    Settings, TaskSpec,
    canvas::Specs,
    lease::{Change, Leadership, Standing as Leads, Token},
    schedule::When,
};

const SECOND: Millis = 1_000;

fn every(name: &str, every_ms: Millis) -> Entry {
    Entry::new(name, "proj.tick", When::Every { every_ms, relative: false })
}

fn beat_of(entry: Entry, mark: Mark, now: Millis) -> Beat {
    let mut beat = Beat::default();
    let schedule = entry.schedule(TimeZone::UTC).unwrap();
    beat.put(Arc::new(entry), schedule, mark, now);
    beat
}

/// What is due, and the marks afterwards as if all of it were carried out.
fn carry_out(beat: &mut Beat, now: Millis) -> Vec<(Millis, Action)> {
    let ticks = beat.take(now, 1_000);
    for tick in &ticks {
        beat.moved(&tick.entry.name, tick.mark.clone(), now);
    }
    ticks.iter().map(|tick| (tick.to(), tick.action)).collect()
}

#[test]
fn due_times_follow_from_due_times() {
    let mut beat = beat_of(every("a", SECOND), Mark::new(0), 0);
    assert_eq!(beat.next_at(), Some(1_000));
    assert_eq!(carry_out(&mut beat, 999), []);
    assert_eq!(carry_out(&mut beat, 1_700), [(1_000, Action::Send)]);
    assert_eq!(beat.next_at(), Some(2_000));
    assert_eq!(beat.take(2_000, 10).len(), 1);
    assert_eq!((beat.next_at(), beat.take(9_000, 10).len()), (None, 0), "what is in flight is not taken twice");
    beat.failed("a", 9_500);
    assert_eq!(beat.next_at(), Some(9_500));
}

#[test]
fn an_outage_is_caught_up_with_as_the_entry_says() {
    let missed = |catch_up, now| {
        let entry = Entry { catch_up, ..every("a", 10 * SECOND) };
        carry_out(&mut beat_of(entry, Mark::new(0), now), now)
    };
    assert_eq!(missed(CatchUp::One, 65 * SECOND), [(60 * SECOND, Action::Send)]);
    assert_eq!(missed(CatchUp::Skip, 65 * SECOND), [(60 * SECOND, Action::Send)], "five seconds late is not missed");
    let rare = Entry { catch_up: CatchUp::Skip, ..every("a", 60 * SECOND) };
    assert_eq!(carry_out(&mut beat_of(rare, Mark::new(0), 0), 95 * SECOND), [(60 * SECOND, Action::Skip)]);
    let all = |window_ms| CatchUp::All { window_ms };
    let sent = |times: &[Millis]| times.iter().map(|time| (time * SECOND, Action::Send)).collect::<Vec<_>>();
    assert_eq!(missed(all(3_600_000), 35 * SECOND), sent(&[10, 20, 30]));
    assert_eq!(missed(all(25 * SECOND), 65 * SECOND), sent(&[40, 50, 60]), "what is older than the window is missed");
    assert_eq!(missed(all(SECOND), 65 * SECOND), [(60 * SECOND, Action::Skip)]);
    assert_eq!(missed(all(i64::MAX / 4), 5_000 * SECOND).len(), TICKS_MAX, "the rest comes with the next look");
}

#[test]
fn an_entry_begins_ends_and_is_over() {
    let entry = Entry { starts: Some(30 * SECOND), ends: Some(50 * SECOND), ..every("a", 10 * SECOND) };
    let mut beat = beat_of(entry, Mark::new(0), 0);
    let mut sent = Vec::new();
    for now in 0..100 {
        sent.extend(carry_out(&mut beat, now * SECOND).into_iter().map(|(at, _)| at / SECOND));
    }
    assert_eq!((sent, beat.next_at()), (vec![30, 40, 50], None));
    let once = Entry { one_off: true, ..every("a", 10 * SECOND) };
    let mut beat = beat_of(once.clone(), Mark::new(0), 0);
    assert_eq!(carry_out(&mut beat, 35 * SECOND), [(30 * SECOND, Action::Send)]);
    assert_eq!(beat.next_at(), None);
    let clocked = Entry { when: When::Clocked { at: 5 * SECOND }, ..once };
    let mut beat = beat_of(clocked, Mark::new(0), 0);
    assert_eq!(carry_out(&mut beat, 6 * SECOND), [(5 * SECOND, Action::Send)]);
    for off in [Entry { enabled: false, ..every("a", SECOND) }, every("b", SECOND)] {
        let mark = Mark { paused: off.enabled, ..Mark::new(0) };
        assert_eq!(beat_of(off, mark, 0).next_at(), None);
    }
}

#[test]
fn jitter_is_the_same_for_everybody() {
    let entry = Entry { jitter_ms: 5 * SECOND, ..every("a", 10 * SECOND) };
    let looks: Vec<Millis> =
        (0..20).map(|round| round * 10 * SECOND).map(|now| beat_of(entry.clone(), Mark::new(now), now).next_at().unwrap()).collect();
    for (round, at) in (1..).zip(&looks) {
        assert!((0..=5 * SECOND).contains(&(at - round * 10 * SECOND)), "{at}");
    }
    let distinct: BTreeSet<Millis> = looks.iter().map(|at| at % (10 * SECOND)).collect();
    assert!(distinct.len() > 15, "{distinct:?}");
    let mut beat = beat_of(entry, Mark::new(0), 0);
    assert_eq!((carry_out(&mut beat, looks[0] - 1), carry_out(&mut beat, looks[0])), (vec![], vec![(10 * SECOND, Action::Send)]));
}

/// Goal: a clock that is put back stops nothing: distances go on from now, times of the wall clock are not gone through again.
#[test]
fn clocks_may_jump() {
    let (now, hour) = (1_800_000_000_000, 3_600 * SECOND);
    let mut beat = beat_of(every("a", 10 * SECOND), Mark::new(now), now);
    assert_eq!(carry_out(&mut beat, now + hour), [(now + hour, Action::Send)], "forward: as after an outage");
    assert_eq!(carry_out(&mut beat, now + hour - SECOND), [], "a second is no jump");
    assert_eq!(carry_out(&mut beat, now), [(now, Action::Rewind)]);
    assert_eq!(carry_out(&mut beat, now + 10 * SECOND), [(now + 10 * SECOND, Action::Send)]);

    let minutely = Entry { when: When::Crontab { fields: "* * * * *".parse().unwrap() }, ..every("a", SECOND) };
    let mut beat = beat_of(minutely, Mark::new(now), now);
    carry_out(&mut beat, now + hour);
    assert_eq!(carry_out(&mut beat, now + 60 * SECOND), [], "that hour has been");
    assert_eq!(carry_out(&mut beat, now + hour + 60 * SECOND), [(now + hour + 60 * SECOND, Action::Send)]);
    assert_eq!(carry_out(&mut beat, now - 24 * hour), [(now - 24 * hour, Action::Rewind)], "a day was a mistake");
}

#[derive(Debug)]
struct Nothing;

impl Specs for Nothing {
    fn spec(&self, _: &TaskName) -> Option<&TaskSpec> {
        None
    }
}

#[test]
fn a_tick_is_a_message_of_its_own_id() {
    let mut entry = every("nightly", SECOND);
    entry.args = vec![Value::Int(2)];
    entry.options = Map::from_iter([
        ("headers".to_owned(), Value::Map(Map::from_iter([("x".to_owned(), Value::Int(1))]))),
        ("expires".to_owned(), Value::Int(60)),
    ]);
    let mut beat = beat_of(entry.clone(), Mark::new(0), 0);
    let tick = beat.take(SECOND, 1).remove(0);
    let queue = QueueName::from("proj.beat");
    let settings = Settings::default();
    let sending = Sending { settings: &settings, specs: &Nothing, queue: Some(&queue) };
    let message = sending.message(&tick, SECOND).unwrap().unwrap();
    let headers = &message.invocation.headers;
    assert_eq!((headers.id.clone(), message.route.queue.as_str()), (tick_id("nightly", SECOND), "proj.beat"));
    assert_eq!(headers.expires.as_ref().map(umbel_proto::Timestamp::millis), Some(61 * SECOND));
    let other = [("x", Value::Int(1)), ("celery_beat_task", Value::Bool(true)), ("periodic_task_name", Value::from("nightly"))];
    for (name, value) in other {
        assert_eq!(headers.other.get(name), Some(&value), "{name}");
    }
    assert_ne!(tick.id(), tick_id("nightly", 2 * SECOND));
    entry.options.insert("queue".to_owned(), Value::from("own"));
    let tick = Tick { entry: Arc::new(entry.clone()), ..tick };
    assert_eq!(sending.message(&tick, 0).unwrap().unwrap().route.queue.as_str(), "own");
    let text = serde_json::to_string(&entry).unwrap();
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry, "{text}");
}

/// What a store does, in one step each.
#[derive(Default)]
struct Store {
    holder: Option<usize>,
    ends: Millis,
    token: u64,
    marks: BTreeMap<String, Mark>,
    sent: BTreeMap<String, Vec<Millis>>,
}

impl Store {
    fn campaign(&mut self, who: usize, lease_ms: Millis, now: Millis) -> Leads {
        if self.holder != Some(who) || now >= self.ends {
            if self.holder.is_some() && now < self.ends {
                return Leads::Follows { ends_in_ms: self.ends - now };
            }
            self.token += 1;
            self.holder = Some(who);
        }
        self.ends = now + lease_ms;
        Leads::Leads(Token(self.token))
    }

    fn tick(&mut self, token: Token, tick: &Tick, now: Millis) -> Option<Mark> {
        if token.0 != self.token || now >= self.ends {
            return None;
        }
        let mark = self.marks.get_mut(&tick.entry.name).unwrap();
        if mark.due == tick.from {
            mark.clone_from(&tick.mark);
            if tick.action == Action::Send {
                self.sent.entry(tick.entry.name.clone()).or_default().push(tick.to());
            }
        }
        Some(mark.clone())
    }
}

proptest! {
    /// Goal: three nodes that crash, pause and lose answers at any moment send every due time of every entry exactly once.
    #[test]
    fn every_due_time_once(steps in prop::collection::vec((0..3_usize, 0..900_i64, 0..8_u8), 1..400)) {
        const LEASE: Millis = 1_500;
        let all = CatchUp::All { window_ms: 3_600_000 };
        let entries = [Entry { catch_up: all, ..every("a", SECOND) }, Entry { catch_up: all, ..every("b", 3_700) }];
        let mut store = Store::default();
        for entry in &entries {
            store.marks.insert(entry.name.clone(), Mark::new(0));
        }
        let fresh = |now| (Leadership::new(LEASE, now), Beat::default());
        let mut nodes = [fresh(0), fresh(0), fresh(0)];
        let mut now = 0;
        for (who, pause, fate) in steps {
            now += pause;
            if fate == 0 {
                nodes[who] = fresh(now);
                continue;
            }
            let (leadership, beat) = &mut nodes[who];
            if now >= leadership.ask_at() {
                let standing = store.campaign(who, LEASE, now);
                if let Change::Elected(_) = leadership.answered(now, now, standing) {
                    *beat = Beat::default();
                    for entry in &entries {
                        let mark = store.marks[&entry.name].clone();
                        beat.put(Arc::new(entry.clone()), entry.schedule(TimeZone::UTC).unwrap(), mark, now);
                    }
                }
            }
            let Some(token) = leadership.token(now) else { continue };
            for tick in beat.take(now, 50) {
                // A pause in the middle of it.
                let at = if fate == 1 { now + 2_000 } else { now };
                match store.tick(token, &tick, at) {
                    // The answer is lost: it is asked again later.
                    Some(_) if fate == 2 => beat.failed(&tick.entry.name, now),
                    Some(mark) => beat.moved(&tick.entry.name, mark, now),
                    None => {
                        leadership.refused(now);
                        break;
                    }
                }
            }
        }
        for entry in &entries {
            let When::Every { every_ms, .. } = entry.when else { unreachable!() };
            let sent = store.sent.get(&entry.name).cloned().unwrap_or_default();
            let wanted: Vec<Millis> = (1..=sent.len() as i64).map(|round| round * every_ms).collect();
            prop_assert_eq!(&sent, &wanted, "{}", entry.name);
            let mark = &store.marks[&entry.name];
            prop_assert_eq!((mark.due, mark.runs), (sent.last().copied().unwrap_or(0), sent.len() as u64));
        }
    }
}
