//! Limits, revokes and room.

use super::*;

/// Reports that it runs, then waits for ever; `trap` says what it does on SIGTERM.
fn waits(trap: &str, options: &str) -> CommandExecutor {
    let text = format!("{trap}\necho '{{\"meta\": 1}}' >&$UMBEL_PROGRESS_FD\nwhile :; do sleep 1000 & wait $!; done");
    script(&text, options)
}

/// The outcome when `order` comes while the command runs.
async fn ordered(executor: &CommandExecutor, order: Order, limits: TimeLimit) -> Outcome {
    let mut given = job(executor, &[], &[]);
    given.job.limits = limits;
    let running = run(executor, given.job);
    let give = async {
        reported(&mut given.progress).await;
        given.orders.send_replace(order);
    };
    tokio::join!(running, give).0
}

#[tokio::test]
async fn the_soft_limit_is_sigterm() {
    let none = TimeLimit::default();
    let error = failure(ordered(&waits("", ""), Order::Hurry, none).await);
    assert_eq!(error.exc_type, "SoftTimeLimitExceeded");
    let value = ordered(&waits("trap 'echo saved; exit 0' TERM", ""), Order::Hurry, none).await;
    assert_eq!(success(value), Value::from("saved"), "a command that uses the time it has left has done its work");
    let error = failure(ordered(&waits("trap '' TERM", "kill_grace = \"20ms\""), Order::Hurry, none).await);
    assert_eq!(error.exc_type, "SoftTimeLimitExceeded", "without a hard limit the grace is one");
}

#[tokio::test]
async fn the_hard_limit_is_sigkill() {
    let limits = TimeLimit { hard_secs: Some(0.2), soft_secs: None };
    let executor = waits("trap '' TERM", "");
    let mut given = job(&executor, &[], &[]);
    given.job.limits = limits;
    assert_eq!(run(&executor, given.job).await, Outcome::TimeLimitExceeded { limit_secs: 0.2 });
    // A deadline in the past, and the order that comes with it.
    let mut given = job(&executor, &[], &[]);
    given.job.limits = limits;
    given.job.deadline = Some(1);
    given.orders.send_replace(Order::Terminate);
    assert_eq!(run(&executor, given.job).await, Outcome::TimeLimitExceeded { limit_secs: 0.2 });
    // A command that ignored the soft limit has until the hard one.
    let limits = TimeLimit { hard_secs: Some(0.5), soft_secs: Some(0.1) };
    let ended = ordered(&waits("trap '' TERM", "kill_grace = 0"), Order::Hurry, limits).await;
    assert_eq!(ended, Outcome::TimeLimitExceeded { limit_secs: 0.5 });
}

#[tokio::test]
async fn a_revoke_ends_it() {
    let none = TimeLimit::default();
    let revoked = |signal| Outcome::Revoked { terminated: true, signal: Some(signal) };
    assert_eq!(ordered(&waits("", ""), Order::Terminate, none).await, revoked(15));
    assert_eq!(ordered(&waits("trap '' TERM", "kill_grace = \"20ms\""), Order::Terminate, none).await, revoked(9));
    assert_eq!(ordered(&waits("trap 'exit 0' TERM", ""), Order::Terminate, none).await, revoked(15));
}

#[tokio::test]
async fn a_drain_lets_it_finish() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let text = format!("echo '{{\"meta\": 1}}' >&$UMBEL_PROGRESS_FD; cat {fifo:?}");
    let executor = script(&text, "");
    let mut given = job(&executor, &[], &[]);
    let give = async {
        reported(&mut given.progress).await;
        given.orders.send_replace(Order::Drain);
        tokio::task::spawn_blocking(move || std::fs::write(fifo, "finished")).await.unwrap().unwrap();
    };
    let (outcome, ()) = tokio::join!(run(&executor, given.job), give);
    assert_eq!(success(outcome), Value::from("finished"));
}

/// The second of two waits for the first, and can be revoked while it does, without ever having started.
#[tokio::test]
async fn room_of_its_own() {
    let executor = waits("", "concurrency = 1");
    let (mut first, second) = (job(&executor, &[], &[]), job(&executor, &[], &[]));
    let mut second_progress = second.progress;
    let give = async {
        reported(&mut first.progress).await;
        second.orders.send_replace(Order::Terminate);
    };
    let both = async {
        tokio::join!(run(&executor, first.job), async {
            // Not before the first has the room.
            let outcome = run(&executor, second.job);
            give.await;
            let outcome = outcome.await;
            first.orders.send_replace(Order::Terminate);
            outcome
        })
    };
    let (first, second) = both.await;
    assert_eq!(second, Outcome::Revoked { terminated: true, signal: None });
    assert!(second_progress.recv().await.is_none(), "it never ran");
    assert_eq!(first, Outcome::Revoked { terminated: true, signal: Some(15) });
}
