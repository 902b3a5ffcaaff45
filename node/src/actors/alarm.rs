//! One timer per actor.
//!
//! The actor keeps its deadlines sorted and tells its alarm the earliest. The alarm is one task for the actor's whole life
//! (ractor's `send_after` would be one per deadline), and it ends when the actor does.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

/// Rings when its time has come.
#[derive(Debug)]
pub(crate) struct Alarm {
    set: Option<Instant>,
    next: watch::Sender<Option<Instant>>,
    _task: AbortOnDropHandle<()>,
}

impl Alarm {
    /// An alarm that calls `ring`, once for each time it was set. The one who is rung says so with [`Alarm::rung`].
    pub(crate) fn new(ring: impl Fn() + Send + 'static) -> Self {
        let (next, mut set) = watch::channel(None);
        let task = crate::task::spawn(async move {
            loop {
                let at = *set.borrow_and_update();
                let changed = match at {
                    None => set.changed().await,
                    Some(at) => tokio::select! {
                        changed = set.changed() => changed,
                        () = sleep_until(at) => {
                            ring();
                            set.changed().await
                        }
                    },
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Self { set: None, next, _task: AbortOnDropHandle::new(task) }
    }

    /// Rings at `at`, or not at all. What it was set to before is forgotten.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        if self.set != at {
            self.set = at;
            self.next.send_replace(at);
        }
    }

    /// It has rung: setting it to the same time again means something.
    pub(crate) fn rung(&mut self) {
        self.set = None;
        self.next.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    /// Goal: an alarm rings at the earliest time it was last set to, and again when it is set again.
    #[tokio::test(start_paused = true)]
    async fn rings_once_for_each_setting() {
        let (sender, mut rung) = mpsc::unbounded_channel();
        let mut alarm = Alarm::new(move || sender.send(Instant::now()).unwrap());
        let start = Instant::now();
        alarm.set(Some(start + Duration::from_secs(60)));
        alarm.set(Some(start + Duration::from_secs(5)));
        assert_eq!(rung.recv().await.unwrap().duration_since(start).as_secs(), 5);
        alarm.rung();
        alarm.set(Some(start));
        rung.recv().await.unwrap();
        alarm.rung();
        alarm.set(None);
        assert!(tokio::time::timeout(Duration::from_secs(600), rung.recv()).await.is_err());
    }
}
