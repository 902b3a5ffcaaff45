//! What is promised of jobs that a slot is handed behind the one it runs. A slot that takes none keeps these promises by leaving
//! them alone.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::Arc,
};

use tokio::sync::mpsc;
use umbel::executors::{Executor, Given, HAND_MAX, Hand, Handed, Order, Told};
use umbel_proto::{Outcome, Value};

use super::{Ends, job, open, still_adds, terminated, value};
use crate::wait::soon;

/// A job that adds, with the number of its run.
fn adding(executor: &dyn Executor, run: u64) -> (Given, Ends) {
    let (job, ends) = job(executor, "conformance.add", &[Value::Int(i64::try_from(run).expect("small")), Value::Int(1)]);
    (Given { run, job }, ends)
}

/// Hands a slot some that add, and keeps their far ends.
fn hand(executor: &dyn Executor, to: &mpsc::Sender<Handed>, runs: std::ops::Range<u64>) -> Vec<Ends> {
    let jobs = runs.map(|run| adding(executor, run));
    jobs.map(|(given, ends)| to.try_send(Handed::Job(Box::new(given))).map(|()| ends).expect("room")).collect()
}

/// The outcomes of runs in their order, with those that came back.
#[derive(Default)]
struct Heard {
    begun: Vec<u64>,
    ended: Vec<(u64, Outcome)>,
    returned: Vec<u64>,
}

impl Heard {
    fn take(&mut self, told: Told) {
        match told {
            Told::Began(run) => self.begun.push(run),
            Told::Ended { run, outcome, .. } => self.ended.push((run, *outcome)),
            Told::Returned(runs) => self.returned.extend(runs),
        }
    }

    /// Hears of so many that came back while the slot works.
    async fn returned(&mut self, told: &mut mpsc::UnboundedReceiver<Told>, count: usize) {
        while self.returned.len() < count {
            let news = soon("what has not begun to come back", told.recv()).await;
            self.take(news.expect("the slot works"));
        }
    }

    fn rest(&mut self, told: &mut mpsc::UnboundedReceiver<Told>) {
        while let Ok(news) = told.try_recv() {
            self.take(news);
        }
    }
}

/// Everything that is handed ahead begins after what is before it, and ends once, or is left; and one that can take it does.
pub async fn each_job_that_is_handed_ahead_runs_once_or_is_left(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let mut waiting: VecDeque<u64> = (0..200).collect();
    let (mut ended, mut begun) = (Vec::new(), 0);
    while let Some(first) = waiting.pop_front() {
        let (to_run, _ends) = adding(&*executor, first);
        let (hand_end, to, mut told) = Hand::new();
        let behind = waiting.len().min(HAND_MAX);
        let runs: Vec<u64> = waiting.drain(..behind).collect();
        let _more = hand(&*executor, &to, first + 1..first + 1 + behind as u64);
        soon("the work to be done", slot.work(to_run, hand_end)).await.expect("a slot that lives");
        let mut heard = Heard::default();
        heard.rest(&mut told);
        let expected: Vec<u64> = (first..).take(heard.ended.len()).collect();
        assert_eq!(heard.ended.iter().map(|(run, _)| *run).collect::<Vec<_>>(), expected, "in their order");
        assert_eq!(heard.begun, expected[1..], "what is handed ahead tells that it begins");
        for (run, outcome) in heard.ended {
            assert_eq!(value(outcome), Value::Int(i64::try_from(run).expect("small") + 1));
            assert!(!heard.returned.contains(&run), "{run} ended and came back");
            ended.push(run);
        }
        begun += heard.begun.len();
        runs.into_iter().filter(|run| !ended.contains(run)).rev().for_each(|run| waiting.push_front(run));
    }
    assert_eq!(ended, (0..200).collect::<Vec<_>>());
    assert_eq!(begun > 0, slot.takes_ahead(), "{begun} began by themselves");
}

/// What waits behind a long task comes back, when it is called back and by itself, and the task does not notice.
pub async fn what_has_not_begun_comes_back(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let takes_ahead = slot.takes_ahead();
    let (first, mut ends) = job(&*executor, "conformance.wait", &[]);
    let (hand_end, to, mut told) = Hand::new();
    let (worked, mut heard) = tokio::join!(soon("the work to be done", slot.work(Given { run: 0, job: first }, hand_end)), async {
        let mut heard = Heard::default();
        ends.waiting().await;
        if takes_ahead {
            let _ends = hand(&*executor, &to, 1..4);
            to.try_send(Handed::Return).expect("room");
            heard.returned(&mut told, 3).await;
            let _more = hand(&*executor, &to, 4..9);
            heard.returned(&mut told, 8).await;
        }
        assert!(heard.ended.is_empty());
        ends.order(Order::Terminate);
        heard
    });
    worked.expect("a slot that lives");
    heard.rest(&mut told);
    assert_eq!(heard.returned, if takes_ahead { (1..9).collect() } else { Vec::new() });
    assert_eq!(heard.begun, Vec::<u64>::new());
    assert!(matches!(&heard.ended[..], [(0, outcome)] if matches!(outcome, Outcome::Revoked { .. })), "{:?}", heard.ended);
    still_adds(&*executor, slot.as_mut()).await;
}

/// Whatever is called back, or ended by force, at whatever moment: each job ends once, or comes back and has not run. Method: everything is
/// called back again and again while jobs run, what comes back is handed once more, and some are ended by force as they begin. A slot
/// that mistook one for another would wait for one that never ends.
pub async fn what_is_called_back_has_not_run(executor: Arc<dyn Executor>) {
    const JOBS: u64 = 3000;
    let mut slot = open(&*executor).await;
    let mut waiting: VecDeque<u64> = (0..JOBS).collect();
    let mut ended = BTreeMap::new();
    while let Some(first) = waiting.pop_front() {
        let takes_ahead = slot.takes_ahead();
        let (to_run, ends) = adding(&*executor, first);
        let (hand_end, to, mut told) = Hand::new();
        let mut there = BTreeMap::from([(first, ends)]);
        let mut take = |told: Told, waiting: &mut VecDeque<u64>| {
            match told {
                // It may have ended by now.
                Told::Began(run) if run % 100 == 99 => drop(there[&run].orders.send(Order::Terminate)),
                Told::Began(_) => {}
                Told::Ended { run, outcome, .. } => {
                    assert!(there.remove(&run).is_some(), "{run} ended and was not there");
                    assert!(ended.insert(run, *outcome).is_none(), "{run} ended twice");
                }
                Told::Returned(runs) => {
                    for run in runs.into_iter().rev() {
                        assert!(there.remove(&run).is_some(), "{run} came back and was not there");
                        waiting.push_front(run);
                    }
                }
            }
            while takes_ahead && there.len() <= HAND_MAX / 2 {
                let Some(run) = waiting.pop_front() else { break };
                let (given, ends) = adding(&*executor, run);
                if to.try_send(Handed::Job(Box::new(given))).is_err() {
                    waiting.push_front(run);
                    break;
                }
                there.insert(run, ends);
            }
            let _ = to.try_send(Handed::Return);
        };
        take(Told::Returned(Vec::new()), &mut waiting);
        let worked = soon("all that has begun to end", async {
            let mut work = pin!(slot.work(to_run, hand_end));
            loop {
                tokio::select! {
                    biased;
                    Some(news) = told.recv() => take(news, &mut waiting),
                    worked = &mut work => break worked,
                }
            }
        });
        worked.await.expect("a slot that lives");
        while let Ok(news) = told.try_recv() {
            take(news, &mut waiting);
        }
        there.into_keys().rev().for_each(|run| waiting.push_front(run));
    }
    assert_eq!(ended.len() as u64, JOBS);
    for (run, outcome) in ended {
        match outcome {
            Outcome::Revoked { .. } => assert_eq!(run % 100, 99, "{run} was not told to end"),
            outcome => assert_eq!(value(outcome), Value::Int(i64::try_from(run).expect("small") + 1)),
        }
    }
    still_adds(&*executor, slot.as_mut()).await;
}

/// A run that is ended by force takes no other along: those behind it come back, or are left.
pub async fn an_end_by_force_spares_what_has_not_begun(executor: Arc<dyn Executor>) {
    let mut slot = open(&*executor).await;
    let (first, mut ends) = job(&*executor, "conformance.stubborn", &[]);
    let (hand_end, to, mut told) = Hand::new();
    let (worked, _more) = tokio::join!(soon("the work to be done", slot.work(Given { run: 0, job: first }, hand_end)), async {
        ends.waiting().await;
        let more = hand(&*executor, &to, 1..6);
        ends.order(Order::Terminate);
        more
    });
    worked.expect("a slot that lives");
    let mut heard = Heard::default();
    heard.rest(&mut told);
    let [(0, outcome)] = &heard.ended[..] else { panic!("one has ended, and not {:?}", heard.ended) };
    terminated(outcome);
    assert_eq!(heard.begun, Vec::<u64>::new());
    still_adds(&*executor, slot.as_mut()).await;
}
