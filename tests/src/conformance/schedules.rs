//! What every store of schedules promises (`umbel::schedules`).

use std::{sync::Arc, time::Duration};

use umbel::{
    brokers::Broker,
    proto::{Millis, QueueName},
    scheduler::{
        beat::{Entry, Mark},
        lease::{Standing, Token},
        schedule::When,
    },
    schedules::{Answer, Candidate, Poll, Schedules, Step},
};

use super::{
    Setup, Stage,
    making::{LONG_LEASE, SHORT_LEASE, fetch, ids_of, message, scheduled, subscribe},
};
use crate::wait::{soon, until_async};

/// Makes one test of every case of the suite of schedules.
#[macro_export]
macro_rules! schedules_conformance {
    ($stage:ty) => {
        $crate::conformance_cases!(
            $stage,
            $crate::conformance::schedules,
            [
                one_candidate_leads_and_renews,
                a_silent_leaders_lease_ends,
                a_resigned_lease_is_free,
                a_restarted_node_is_another_candidate,
                former_leaders_are_refused,
                a_tick_happens_once_and_whole,
                a_tick_with_a_delay_waits_in_its_queue,
                a_tick_without_a_message_moves_the_mark,
                ticks_of_what_is_paused_or_gone_are_refused,
                a_batch_answers_each_tick,
                entries_are_kept_and_their_marks_survive_changes,
                a_resumed_entry_goes_on_from_now,
                an_entry_that_is_turned_on_goes_on_from_now,
                revisions_tell_of_changes,
                everything_survives,
                two_leaders_never_send_one_tick_twice,
            ]
        );
    };
}

fn schedules(broker: &dyn Broker) -> Arc<dyn Schedules> {
    broker.schedules().expect("this broker keeps schedules")
}

fn candidate(name: &str, lease: Duration) -> Candidate {
    Candidate::new(name.into(), lease)
}

fn entry(name: &str) -> Entry {
    Entry::new(name, "tests.echo", When::Every { every_ms: 1_000, relative: false })
}

fn step(name: &str, from: Millis, to: Millis, id: &str) -> Step {
    let mark = Mark { due: to, sent: Some(to), runs: 1, paused: false };
    Step { name: name.to_owned(), from, mark, message: Some(message("ticks", id)) }
}

async fn poll(schedules: &dyn Schedules, candidate: &Candidate) -> Poll {
    soon("a campaign", schedules.campaign(candidate)).await.unwrap()
}

async fn leads(schedules: &dyn Schedules, candidate: &Candidate) -> Token {
    match poll(schedules, candidate).await.standing {
        Standing::Leads(token) => token,
        follows => panic!("{candidate:?} {follows:?}"),
    }
}

async fn mark(schedules: &dyn Schedules, name: &str) -> Mark {
    let book = soon("the book", schedules.book()).await.unwrap();
    book.entries.iter().find(|kept| kept.entry.name == name).map(|kept| kept.mark.clone()).unwrap()
}

async fn tick(schedules: &dyn Schedules, candidate: &Candidate, token: Token, steps: Vec<Step>) -> Vec<Answer> {
    soon("ticks", schedules.tick(candidate, token, steps)).await.unwrap()
}

/// The ids that lie in the queue of ticks.
async fn sent(broker: &dyn Broker, count: usize) -> Vec<String> {
    let mut subscription = subscribe(broker, "reader", &["ticks"], LONG_LEASE).await;
    let deliveries = fetch(&mut subscription, count).await;
    let ids = ids_of(&deliveries);
    super::making::ack(broker, &deliveries).await;
    soon("closing", subscription.close()).await.unwrap();
    let left = broker.queues().await.unwrap().into_iter().find(|queue| queue.name == QueueName::from("ticks"));
    assert_eq!(left.map_or(0, |queue| queue.ready + queue.held), 0, "more than {count} were sent");
    ids
}

/// The first who asks leads, goes on leading, and the others are told who and for how long.
pub async fn one_candidate_leads_and_renews<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let (first, second) = (candidate("first", LONG_LEASE), candidate("second", LONG_LEASE));
    let token = leads(&*store, &first).await;
    let told = poll(&*store, &second).await;
    assert_eq!(told.leader.as_str(), "first");
    match told.standing {
        Standing::Follows { ends_in_ms } => assert!((1..=600_000).contains(&ends_in_ms), "{ends_in_ms}"),
        leads => panic!("{leads:?}"),
    }
    assert_eq!(leads(&*store, &first).await, token, "a renewal is no change of leader");
    assert_eq!(store.book().await.unwrap().leader.unwrap().as_str(), "first");
}

/// Who does not renew is followed by another, under a higher token.
pub async fn a_silent_leaders_lease_ends<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let (first, second) = (candidate("first", SHORT_LEASE), candidate("second", LONG_LEASE));
    let token = leads(&*store, &first).await;
    let next = until_async("the second leads", || async {
        match poll(&*store, &second).await.standing {
            Standing::Leads(token) => Some(token),
            Standing::Follows { .. } => None,
        }
    })
    .await;
    assert!(next > token, "{next:?} after {token:?}");
}

/// Nobody waits for the end of a lease that was given up; and only its holder can give it up.
pub async fn a_resigned_lease_is_free<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let (first, second) = (candidate("first", LONG_LEASE), candidate("second", LONG_LEASE));
    let token = leads(&*store, &first).await;
    store.resign(&second).await.unwrap();
    assert_eq!(leads(&*store, &first).await, token);
    store.resign(&first).await.unwrap();
    assert!(leads(&*store, &second).await > token);
}

/// Two lives of one node are two candidates.
pub async fn a_restarted_node_is_another_candidate<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let (before, after) = (candidate("node", LONG_LEASE), candidate("node", LONG_LEASE));
    leads(&*store, &before).await;
    assert!(matches!(poll(&*store, &after).await.standing, Standing::Follows { .. }));
}

/// Ticks under a token of the past change nothing, even of who leads again.
pub async fn former_leaders_are_refused<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(&*store, "e").await.due;
    let (first, second) = (candidate("first", LONG_LEASE), candidate("second", LONG_LEASE));
    let token = leads(&*store, &first).await;
    store.resign(&first).await.unwrap();
    let newer = leads(&*store, &second).await;
    let step = step("e", start, start + 1_000, "zombie");
    assert_eq!(tick(&*store, &first, token, vec![step.clone()]).await, [Answer::Deposed]);
    assert_eq!(tick(&*store, &first, newer, vec![step.clone()]).await, [Answer::Deposed], "a token is its candidate's");
    store.resign(&second).await.unwrap();
    let newest = leads(&*store, &first).await;
    assert_eq!(tick(&*store, &first, token, vec![step.clone()]).await, [Answer::Deposed]);
    assert_eq!(mark(&*store, "e").await.due, start);
    assert_eq!(tick(&*store, &first, newest, vec![step]).await, [Answer::Done]);
    assert_eq!(sent(&*broker, 1).await, ["zombie"]);
}

/// A tick that is asked for again, or by somebody who has an old mark, is told where the mark stands and sends nothing.
pub async fn a_tick_happens_once_and_whole<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(&*store, "e").await.due;
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    let first = step("e", start, start + 1_000, "a");
    assert_eq!(tick(&*store, &leader, token, vec![first.clone()]).await, [Answer::Done]);
    assert_eq!(tick(&*store, &leader, token, vec![first.clone()]).await, [Answer::Moved(first.mark.clone())]);
    assert_eq!(mark(&*store, "e").await, first.mark);
    assert_eq!(tick(&*store, &leader, token, vec![step("e", start + 1_000, start + 2_000, "b")]).await, [Answer::Done]);
    assert_eq!(sent(&*broker, 2).await, ["a", "b"]);
}

/// A countdown is a message that waits for its time.
pub async fn a_tick_with_a_delay_waits_in_its_queue<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(&*store, "e").await.due;
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    let late = Step { message: Some(scheduled("ticks", "late", super::making::now() + 400)), ..step("e", start, start + 1, "-") };
    assert_eq!(tick(&*store, &leader, token, vec![late]).await, [Answer::Done]);
    assert_eq!(sent(&*broker, 1).await, ["late"]);
}

/// What is skipped is decided all the same.
pub async fn a_tick_without_a_message_moves_the_mark<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(&*store, "e").await.due;
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    let back = Step { message: None, ..step("e", start, start - 5_000, "-") };
    assert_eq!(tick(&*store, &leader, token, vec![back.clone()]).await, [Answer::Done]);
    assert_eq!(mark(&*store, "e").await, back.mark, "a mark may also go back");
    assert!(broker.queues().await.unwrap().iter().all(|queue| queue.ready == 0));
}

/// A pause and a removal hold for ticks that are on their way.
pub async fn ticks_of_what_is_paused_or_gone_are_refused<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("paused"), entry("gone")]).await.unwrap();
    let starts = [mark(&*store, "paused").await.due, mark(&*store, "gone").await.due];
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    assert!(store.pause("paused", true).await.unwrap());
    assert!(!store.pause("nobody", true).await.unwrap());
    assert_eq!(store.remove(&["gone".to_owned(), "nobody".to_owned()]).await.unwrap(), 1);
    let steps = vec![step("paused", starts[0], starts[0] + 1, "a"), step("gone", starts[1], starts[1] + 1, "b"), step("nobody", 0, 1, "c")];
    assert_eq!(tick(&*store, &leader, token, steps).await, [Answer::Gone, Answer::Gone, Answer::Gone]);
    assert!(mark(&*store, "paused").await.paused);
    assert!(broker.queues().await.unwrap().iter().all(|queue| queue.ready == 0));
}

/// Ticks of one entry follow each other within a batch, and a bad one harms only itself.
pub async fn a_batch_answers_each_tick<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("a"), entry("b")]).await.unwrap();
    let (a, b) = (mark(&*store, "a").await.due, mark(&*store, "b").await.due);
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    let steps = vec![
        step("a", a, a + 1, "1"),
        step("b", b + 7, b + 8, "never"),
        step("a", a + 1, a + 2, "2"),
        step("nobody", 0, 1, "never"),
        step("b", b, b + 1, "3"),
    ];
    let answers = tick(&*store, &leader, token, steps).await;
    assert_eq!(answers, [Answer::Done, Answer::Moved(Mark::new(b)), Answer::Done, Answer::Gone, Answer::Done]);
    assert_eq!(sent(&*broker, 3).await, ["1", "2", "3"]);
}

/// An entry that is put again is changed, and goes on where it was.
pub async fn entries_are_kept_and_their_marks_survive_changes<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let before = super::making::now();
    store.put(vec![entry("b"), entry("a")]).await.unwrap();
    let book = store.book().await.unwrap();
    let names: Vec<&str> = book.entries.iter().map(|kept| kept.entry.name.as_str()).collect();
    assert_eq!((names, book.unreadable.len()), (vec!["a", "b"], 0));
    let new = &book.entries[0].mark;
    assert!((before - 1_000..=super::making::now() + 1_000).contains(&new.due) && new.runs == 0 && new.sent.is_none(), "{new:?}");
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    tick(&*store, &leader, token, vec![step("a", new.due, new.due + 9, "1")]).await;
    let changed = Entry { task: "tests.other".to_owned(), ..entry("a") };
    store.put(vec![changed.clone()]).await.unwrap();
    let book = store.book().await.unwrap();
    assert_eq!((&book.entries[0].entry, book.entries[0].mark.due, book.entries[0].mark.runs), (&changed, new.due + 9, 1));
    assert_eq!(store.remove(&["a".to_owned()]).await.unwrap(), 1);
    store.put(vec![entry("a")]).await.unwrap();
    assert_eq!(mark(&*store, "a").await.runs, 0, "a name that is used again begins anew");
}

/// An entry `e` that has run once and was due again a minute before it was made; when that was.
async fn overdue(store: &dyn Schedules) -> Millis {
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(store, "e").await.due;
    let leader = candidate("node", LONG_LEASE);
    let token = leads(store, &leader).await;
    tick(store, &leader, token, vec![step("e", start, start - 60_000, "1")]).await;
    start
}

/// What was due during a pause was not wanted.
pub async fn a_resumed_entry_goes_on_from_now<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let start = overdue(&*store).await;
    assert!(store.pause("e", false).await.unwrap());
    assert_eq!(mark(&*store, "e").await.due, start - 60_000, "it was not paused");
    store.pause("e", true).await.unwrap();
    store.pause("e", false).await.unwrap();
    let resumed = mark(&*store, "e").await;
    assert!(!resumed.paused && resumed.due >= start && resumed.runs == 1, "{resumed:?}");
}

/// Nor was what was due while it was turned off; every other change leaves its mark alone.
pub async fn an_entry_that_is_turned_on_goes_on_from_now<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let start = overdue(&*store).await;
    for enabled in [true, false, false] {
        store.put(vec![Entry { enabled, ..entry("e") }]).await.unwrap();
        assert_eq!(mark(&*store, "e").await.due, start - 60_000, "{enabled}");
    }
    store.put(vec![entry("e")]).await.unwrap();
    let on = mark(&*store, "e").await;
    assert!(on.due >= start && on.runs == 1, "{on:?}");
}

/// Whoever renews hears that entries have changed; ticks are no change.
pub async fn revisions_tell_of_changes<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    let leader = candidate("node", LONG_LEASE);
    let token = leads(&*store, &leader).await;
    let mut known = poll(&*store, &leader).await.revision;
    assert_eq!(store.book().await.unwrap().revision, known);
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(&*store, "e").await.due;
    for change in ["put", "pause", "resume", "remove"] {
        match change {
            "put" => store.put(vec![entry("e")]).await.unwrap(),
            "remove" => drop(store.remove(&["e".to_owned()]).await.unwrap()),
            change => drop(store.pause("e", change == "pause").await.unwrap()),
        }
        let now = poll(&*store, &leader).await.revision;
        assert_ne!(now, known, "{change}");
        known = now;
        if change == "put" {
            tick(&*store, &leader, token, vec![step("e", start, start + 1, "1")]).await;
            assert_eq!(poll(&*store, &leader).await.revision, known);
        }
    }
}

/// Entries, marks, pauses and tokens outlive everybody.
pub async fn everything_survives<S: Stage>() {
    let stage = S::fresh(Setup::default()).await;
    let store = schedules(&*stage.broker());
    store.put(vec![entry("a"), entry("b")]).await.unwrap();
    let start = mark(&*store, "a").await.due;
    let leader = candidate("node", SHORT_LEASE);
    let token = leads(&*store, &leader).await;
    tick(&*store, &leader, token, vec![step("a", start, start + 9, "1")]).await;
    store.pause("b", true).await.unwrap();
    let before = store.book().await.unwrap().entries;
    drop(store);
    let stage = stage.reopen().await;
    let store = schedules(&*stage.broker());
    assert_eq!(store.book().await.unwrap().entries, before);
    let other = candidate("other", LONG_LEASE);
    let next = until_async("another leads", || async {
        match poll(&*store, &other).await.standing {
            Standing::Leads(token) => Some(token),
            Standing::Follows { .. } => None,
        }
    })
    .await;
    assert!(next > token);
    assert_eq!(sent(&*stage.broker(), 1).await, ["1"]);
}

/// Goal: candidates that take the lease from each other in the middle of ticks send each tick once. Each of them goes on with what
/// it believes of mark and token until it is told otherwise.
pub async fn two_leaders_never_send_one_tick_twice<S: Stage>() {
    const ROUNDS: i64 = 120;
    let stage = S::fresh(Setup::default()).await;
    let broker = stage.broker();
    let store = schedules(&*broker);
    store.put(vec![entry("e")]).await.unwrap();
    let start = mark(&*store, "e").await.due;
    let mut racers = Vec::new();
    for number in 0..3 {
        let store = Arc::clone(&store);
        racers.push(tokio::spawn(async move {
            let me = candidate(&format!("racer{number}"), LONG_LEASE);
            let (mut token, mut at, mut rounds) = (Token(0), start, 0_u32);
            while at < start + ROUNDS {
                let id = format!("tick{}", at - start);
                match store.tick(&me, token, vec![step("e", at, at + 1, &id)]).await.unwrap().remove(0) {
                    Answer::Done => at += 1,
                    Answer::Moved(mark) => at = mark.due,
                    Answer::Gone => panic!("the entry is gone"),
                    Answer::Deposed => {
                        if let Standing::Leads(new) = store.campaign(&me).await.unwrap().standing {
                            token = new;
                        }
                        tokio::task::yield_now().await;
                    }
                }
                rounds += 1;
                if rounds % 7 == number {
                    store.resign(&me).await.unwrap();
                }
            }
            // So that the others need not wait for the end of the lease.
            store.resign(&me).await.unwrap();
        }));
    }
    for racer in racers {
        soon("a racer", racer).await.unwrap();
    }
    let wanted: Vec<String> = (0..ROUNDS).map(|round| format!("tick{round}")).collect();
    assert_eq!(sent(&*broker, wanted.len()).await, wanted);
}
