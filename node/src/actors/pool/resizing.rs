//! More or fewer slots while the pool runs (`pool_grow`, `pool_shrink`), and other slots in their place (`pool_restart`).
//!
//! A seat keeps its number for ever, because deadlines and slots know it by that. A pool that shrinks retires the seats with the
//! highest numbers: an idle one at once, a busy one when its task has ended. A pool that grows takes them back first.

use std::sync::atomic::Ordering;

use ractor::ActorProcessingErr;

use super::{Seat, State, runs::Work};

impl State {
    /// The number of slots it has, those aside that only finish what they run.
    pub(super) fn slots(&self) -> usize {
        self.seats.iter().filter(|seat| !seat.retired).count()
    }

    /// The processes of its slots.
    pub(super) fn processes(&self) -> Vec<u32> {
        let process = |seat: &Seat| seat.process.as_ref().map_or(0, |process| process.load(Ordering::Relaxed));
        let here = std::process::id();
        self.seats.iter().filter(|seat| !seat.retired).map(process).map(|process| if process == 0 { here } else { process }).collect()
    }

    /// The devices of its slots, where they have any.
    pub(super) fn devices(&self) -> Vec<String> {
        let stays = (0..self.seats.len()).filter(|index| !self.seats[*index].retired);
        stays.filter_map(|index| Some(self.device(index)?.name.to_string())).collect()
    }

    /// Has `slots` slots from now on; at least one.
    pub(super) async fn resize(&mut self, slots: usize) -> Result<(), ActorProcessingErr> {
        let slots = slots.max(1);
        for index in 0..self.seats.len() {
            let retire = index >= slots;
            if std::mem::replace(&mut self.seats[index].retired, retire) == retire {
                continue;
            }
            match (retire, &self.seats[index].work) {
                (true, Work::None) => self.close(index),
                (true, _) => {}
                // One that has not been closed yet goes on.
                (false, _) if self.seats[index].actor.is_some() => {}
                (false, _) => self.open_slot(index).await?,
            }
        }
        while self.seats.len() < slots {
            self.seats.push(Seat::default());
            self.open_slot(self.seats.len() - 1).await?;
        }
        tracing::info!(executor = self.executor.kind(), slots, "the pool has another size");
        self.assign();
        Ok(())
    }

    /// Puts other slots in the place of all of them: of idle ones at once, of busy ones when their tasks have ended.
    pub(super) async fn renew(&mut self) -> Result<(), ActorProcessingErr> {
        for index in 0..self.seats.len() {
            let seat = &mut self.seats[index];
            if seat.retired {
                continue;
            }
            if matches!(seat.work, Work::None) {
                self.close(index);
                self.open_slot(index).await?;
            } else {
                seat.renew = true;
            }
        }
        Ok(())
    }

    /// A seat has nothing to do any more.
    pub(super) fn free(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        if seat.retired {
            self.close(index);
        } else if std::mem::take(&mut seat.renew) {
            self.close(index);
            self.replace(index, std::time::Duration::ZERO);
        } else {
            self.idle.push(index);
        }
    }

    /// Ends an idle slot in peace.
    fn close(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        seat.open = false;
        seat.process = None;
        if let Some(actor) = seat.actor.take() {
            self.by_actor.remove(&actor.get_id());
            actor.stop(Some("its seat was retired".to_owned()));
        }
        self.idle.retain(|idle| *idle != index);
    }
}
