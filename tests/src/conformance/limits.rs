//! What whoever counts for limits must promise: turns in order, places that come free, one of a key, no second with too many
//! starts, and rules that everybody hears of.
//!
//! A case names the deliveries that ask, and `hold` makes sure that they are held as far as the implementation looks.

use std::sync::Arc;

use umbel::limits::{Ask, Done, LimitRule, Limits, Unused};
use umbel_proto::{Millis, TaskName};
use umbel_scheduler::{
    limits::{Rule, Turn},
    rate_limit::Rate,
};

use crate::wait::{soon, until_async};

/// Has a delivery held, or not any more.
pub type Hold = Box<dyn Fn(&str, bool) + Send + Sync>;

/// An implementation on the stage.
pub struct Stand {
    /// What is tested.
    pub limits: Arc<dyn Limits>,
    /// The same, as another node has it.
    pub other: Arc<dyn Limits>,
    /// Has a delivery held, or not any more.
    pub hold: Hold,
}

fn ask(limit: &str, rule: Rule, holder: &str, waited: bool) -> Ask {
    Ask { limit: limit.to_owned(), rule, holder: holder.to_owned(), task: format!("task-{holder}"), waited, ready: true }
}

async fn turn(limits: &dyn Limits, ask: Ask) -> (Millis, Turn) {
    let (now, mut turns) = soon("a turn", limits.turns(&[ask])).await.unwrap();
    (now, turns.remove(0))
}

fn rate(text: &str) -> Rule {
    Rule { rate: Rate::parse(text).unwrap(), ..Rule::default() }
}

/// All cases.
pub async fn run(stand: &Stand) {
    turns_come_one_after_the_other(stand).await;
    no_second_sees_more_than_the_rate(stand).await;
    unused_starts_come_back(stand).await;
    without_a_slot_nothing_is_booked(stand).await;
    places_come_free(stand).await;
    one_of_a_key(stand).await;
    rules_are_everybodys(stand).await;
}

async fn turns_come_one_after_the_other(stand: &Stand) {
    let rule = rate("1/m");
    assert_eq!(turn(&*stand.limits, ask("slow", rule, "1", false)).await.1, Turn::Now);
    let mut before = 50_000.0;
    for (holder, limits) in [("2", &stand.limits), ("3", &stand.other), ("4", &stand.limits)] {
        let Turn::Later(wait) = turn(&**limits, ask("slow", rule, holder, false)).await.1 else { panic!("{holder} has to wait") };
        assert!(wait > before, "{holder} comes after those before it: {wait}");
        before = wait + 50_000.0;
    }
    let (_, back) = turn(&*stand.other, ask("slow", rule, "2", true)).await;
    assert!(matches!(back, Turn::Later(wait) if wait < 61_000.0), "who comes back is not sent to the end: {back:?}");
    assert_eq!(turn(&*stand.limits, ask("other", rule, "5", false)).await.1, Turn::Now, "another limit is another one");
}

/// When it starts that has been given this turn at `now`, if it has a start.
fn start(turn: &Turn, now: Millis) -> Option<Millis> {
    match turn {
        Turn::Now => Some(now),
        Turn::At(at) => Some(*at),
        _ => None,
    }
}

/// Both nodes ask as fast as they can, for two and a half seconds of the clock that turns are given by.
async fn no_second_sees_more_than_the_rate(stand: &Stand) {
    let rule = rate("50/s");
    let mut starts: Vec<Millis> = Vec::new();
    let mut begun = None;
    loop {
        for limits in [&stand.limits, &stand.other] {
            let asks: Vec<Ask> = (0..3).map(|at| ask("fast", rule, &format!("f{at}"), true)).collect();
            let (now, turns) = soon("turns", limits.turns(&asks)).await.unwrap();
            starts.extend(turns.iter().filter_map(|turn| start(turn, now)));
            begun.get_or_insert(now);
        }
        let last = starts.last().copied().unwrap_or_default();
        if last > begun.unwrap_or_default() + 2_500 {
            break;
        }
    }
    let busiest = (0..starts.len()).map(|at| starts[at..].iter().take_while(|start| **start < starts[at] + 1_000).count()).max();
    assert!(busiest.unwrap_or_default() <= 50, "{busiest:?} starts in one second");
    assert!(starts.len() >= 100, "they start: {}", starts.len());
}

/// A start that was allowed and did not take place may be another's at once.
async fn unused_starts_come_back(stand: &Stand) {
    let rule = rate("5/m");
    let (at, first) = turn(&*stand.limits, ask("unused", rule, "1", false)).await;
    assert_eq!(first, Turn::Now);
    assert!(matches!(turn(&*stand.other, ask("unused", rule, "2", true)).await.1, Turn::Later(_)));
    let unused = Some(Unused { at, rate: rule.rate.unwrap() });
    stand.limits.done(&[Done { limit: "unused".to_owned(), holder: "1".to_owned(), ended: None, unused }]).await.unwrap();
    assert_eq!(turn(&*stand.other, ask("unused", rule, "2", true)).await.1, Turn::Now);
    // Where starts are counted, it is not counted any more.
    let rule = rate("10/s");
    let mut given: Vec<Millis> = Vec::new();
    while given.len() < 10 {
        let (now, turn) = turn(&*stand.limits, ask("window", rule, "w", true)).await;
        given.extend(start(&turn, now));
    }
    let last = given[9];
    let unused = Some(Unused { at: last, rate: rule.rate.unwrap() });
    stand.other.done(&[Done { limit: "window".to_owned(), holder: "w".to_owned(), ended: None, unused }]).await.unwrap();
    let (now, again) = until_async("another start", || async {
        let (now, turn) = turn(&*stand.other, ask("window", rule, "x", true)).await;
        Some((now, start(&turn, now)?))
    })
    .await;
    assert!(again <= last.max(now) + 1, "{again} in its stead, asked at {now}, which was {last}");
}

/// Whoever has no slot takes nothing from others, and is put off like them when its turn is far.
async fn without_a_slot_nothing_is_booked(stand: &Stand) {
    let slotless = |limit, rule, holder| Ask { ready: false, ..ask(limit, rule, holder, false) };
    let rule = Rule { concurrency: Some(1), unique: Some(60_000), ..rate("1/m") };
    (stand.hold)("s", true);
    assert!(matches!(turn(&*stand.limits, slotless("slots", rule, "none")).await.1, Turn::Soon(_)));
    assert_eq!(turn(&*stand.other, ask("slots", rule, "s", false)).await.1, Turn::Now, "the start and the place are left to others");
    let rule = rate("1/m");
    assert_eq!(turn(&*stand.limits, ask("slotless", rule, "1", false)).await.1, Turn::Now);
    let many = [slotless("slotless", rule, "2"), ask("slotless", rule, "3", false), slotless("slotless", rule, "4")];
    let (_, turns) = soon("turns", stand.other.turns(&many)).await.unwrap();
    let waits: Vec<f64> = turns.iter().map(|turn| if let Turn::Later(wait) = turn { *wait } else { 0.0 }).collect();
    assert!(waits[0] > 50_000.0 && waits[1] > waits[0] + 50_000.0 && waits[2] > waits[1] + 50_000.0, "{turns:?}");
}

async fn places_come_free(stand: &Stand) {
    let rule = Rule { concurrency: Some(2), ..Rule::default() };
    for holder in ["a", "b", "c"] {
        (stand.hold)(holder, true);
    }
    assert_eq!(turn(&*stand.limits, ask("places", rule, "a", false)).await.1, Turn::Now);
    assert_eq!(turn(&*stand.other, ask("places", rule, "b", false)).await.1, Turn::Now);
    assert_eq!(turn(&*stand.limits, ask("places", rule, "a", false)).await.1, Turn::Now, "it has its place already");
    assert!(matches!(turn(&*stand.other, ask("places", rule, "c", false)).await.1, Turn::Soon(_) | Turn::Later(_)));
    let done = Done { limit: "places".to_owned(), holder: "a".to_owned(), ended: None, unused: None };
    stand.other.done(&[done]).await.unwrap();
    assert_eq!(turn(&*stand.limits, ask("places", rule, "c", true)).await.1, Turn::Now);
}

async fn one_of_a_key(stand: &Stand) {
    let rule = Rule { unique: Some(60_000), ..Rule::default() };
    assert_eq!(turn(&*stand.limits, ask("only", rule, "x", false)).await.1, Turn::Now);
    assert_eq!(turn(&*stand.other, ask("only", rule, "y", false)).await.1, Turn::Duplicate("task-x".to_owned()));
    assert_eq!(turn(&*stand.other, ask("only", rule, "x", false)).await.1, Turn::Now, "it is taken again");
    let ended = |task: &str| Done { limit: "only".to_owned(), holder: "x".to_owned(), ended: Some(task.to_owned()), unused: None };
    stand.limits.done(&[ended("task-z")]).await.unwrap();
    assert_eq!(turn(&*stand.other, ask("only", rule, "y", false)).await.1, Turn::Duplicate("task-x".to_owned()));
    stand.limits.done(&[ended("task-x")]).await.unwrap();
    assert_eq!(turn(&*stand.other, ask("only", rule, "y", false)).await.1, Turn::Now);
    let short = Rule { unique: Some(20), ..Rule::default() };
    assert_eq!(turn(&*stand.limits, ask("short", short, "x", false)).await.1, Turn::Now);
    until_async("its time has passed", || async {
        (turn(&*stand.other, ask("short", short, "y", false)).await.1 == Turn::Now).then_some(())
    })
    .await;
}

async fn rules_are_everybodys(stand: &Stand) {
    let task = TaskName::from("app.call");
    let rule = LimitRule { rate: Some("100/m".to_owned()), key: Some("{tenant}".to_owned().try_into().unwrap()), ..LimitRule::default() };
    stand.limits.set_rule(&task, Some(&rule)).await.unwrap();
    assert_eq!(stand.other.rules().await.unwrap().get(&task), Some(&rule));
    stand.other.set_rule(&task, None).await.unwrap();
    assert!(stand.limits.rules().await.unwrap().is_empty());
}
