//! The state of beat, and what it does about what it is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ractor::ActorRef;
use serde::Serialize;
use tokio::{sync::broadcast, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Millis, NodeId};
use umbel_scheduler::{
    beat::{Action, Beat as Agenda, Entry, Source, Tick},
    lease::{Change, Leadership, Token},
};

use super::{
    BeatMsg, BeatOptions, BeatSeat, Foreign, Sent, foreign,
    tables::{self, Following, Looked},
    work::{self, Asked, Carried, Declared, Loaded, Outbox, Understood},
};
use crate::{
    actors::{Shared, alarm::Alarm, cast, chance::Backoff},
    schedules::{Answer, Candidate, Schedules, TICKS_MAX},
};

/// How long an entry of which nothing is known waits before it is looked at again, in milliseconds.
const AGAIN_MS: Millis = 1_000;

/// How long another beat is not spoken of again, in milliseconds.
const FOREIGN_AGAIN_MS: Millis = 600_000;

/// What beat says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BeatReport {
    /// Whether this node leads.
    pub leads: bool,
    /// Who does, as far as this node was told.
    pub leader: Option<NodeId>,
    /// Under which token it leads.
    pub token: Option<u64>,
    /// How many entries there are; known to the leader.
    pub entries: usize,
    /// When the next of them is due.
    pub next: Option<Millis>,
    /// When this node sent the last one.
    pub last_tick: Option<Millis>,
    /// How long after its due time that was, in milliseconds.
    pub lag_ms: Option<Millis>,
    /// How many it has sent.
    pub sent: u64,
    /// How many were missed for good, as their policy has it.
    pub skipped: u64,
    /// How often it became leader.
    pub elected: u64,
    /// Entries that cannot be understood, and why.
    pub broken: BTreeMap<String, String>,
    /// A beat of Celery's that sends beside this cluster's, as last noticed here.
    pub foreign: Option<Foreign>,
    /// Why the store does not answer, while it does not.
    pub outage: Option<String>,
    /// Why the tables of django-celery-beat do not, likewise. What they said last goes on.
    pub tables_outage: Option<String>,
    /// Whether entries come from such tables, while this node leads.
    pub reads_tables: bool,
}

pub(crate) struct State {
    pub(super) schedules: Arc<dyn Schedules>,
    pub(super) candidate: Candidate,
    shared: Arc<Shared>,
    options: BeatOptions,
    sent: broadcast::Sender<Sent>,
    myself: ActorRef<BeatMsg>,
    alarm: Alarm,
    /// Where the clock that never goes back began.
    began: Instant,
    leadership: Leadership,
    agenda: Agenda,
    /// The store's time and when it was told.
    clock: Option<(Millis, Instant)>,
    /// The revision of what is in the agenda; `None` while nothing is.
    revision: Option<u64>,
    /// The revision the store told of last.
    newest: u64,
    /// Whether entries are to be read whatever the revision says, because reading failed.
    stale: bool,
    backoff: Backoff,
    /// The tables of an application's own, if entries come from there.
    tables: Option<Following>,
    /// What is in flight. Dropped with the actor.
    asking: Option<AbortOnDropHandle<()>>,
    loading: Option<AbortOnDropHandle<()>>,
    carrying: Option<AbortOnDropHandle<()>>,
    /// Not before: the store does not answer now.
    load_at: Option<Instant>,
    report: BeatReport,
    /// Looks out for other beats.
    _lookout: AbortOnDropHandle<()>,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, seat: BeatSeat, myself: ActorRef<BeatMsg>) -> Self {
        let BeatSeat { schedules, options, sent } = seat;
        let ring = myself.clone();
        let lookout = foreign::look_out(shared.facts.subscribe(), myself.clone());
        let lease_ms = Millis::try_from(options.lease.as_millis()).unwrap_or(Millis::MAX);
        let tables = options.tables.clone().map(|tables| Following::new(tables, Instant::now()));
        Self {
            candidate: Candidate::new(shared.node.clone(), options.lease),
            schedules,
            shared,
            options,
            sent,
            myself,
            alarm: Alarm::new(move || cast(&ring, BeatMsg::Due)),
            began: Instant::now(),
            leadership: Leadership::new(lease_ms, 0),
            agenda: Agenda::default(),
            clock: None,
            revision: None,
            newest: 0,
            stale: false,
            backoff: Backoff::new(),
            tables,
            asking: None,
            loading: None,
            carrying: None,
            load_at: None,
            report: BeatReport::default(),
            _lookout: lookout,
        }
    }

    pub(super) fn rung(&mut self) {
        self.alarm.rung();
    }

    fn steady(&self, at: Instant) -> Millis {
        Millis::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(Millis::MAX)
    }

    /// The store's time.
    fn store_now(&self, at: Instant) -> Option<Millis> {
        let (told, when) = self.clock?;
        let since = at.saturating_duration_since(when);
        Some(told + Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX))
    }

    /// The store's time was `told` at some moment between question and answer, so it is now between two bounds. What was known is
    /// kept as long as it lies between them: nothing is due early, and little late.
    fn set_clock(&mut self, told: Millis, asked: Instant, now: Instant) {
        let span = Millis::try_from(now.saturating_duration_since(asked).as_millis()).unwrap_or(Millis::MAX);
        let known = self.store_now(now).unwrap_or(told).clamp(told, told.saturating_add(span));
        self.clock = Some((known, now));
    }

    /// Does whatever is to be done now, and sets the alarm for what is next.
    pub(super) fn go_on(&mut self, at: Instant) {
        let change = self.leadership.lapse(self.steady(at));
        self.changed(change);
        if self.asking.is_none() && self.leadership.ask_at() <= self.steady(at) {
            self.ask();
        }
        if let Some(token) = self.leadership.token(self.steady(at)) {
            let is_old = self.stale || self.revision != Some(self.newest);
            if is_old && self.loading.is_none() && self.load_at.is_none_or(|load_at| load_at <= at) {
                self.load(token);
            }
            if self.revision.is_some() && self.carrying.is_none() {
                self.tick(token, at);
            }
            self.look(token, at);
        }
        self.set_alarm(at);
    }

    fn set_alarm(&mut self, at: Instant) {
        let until = |ms: Millis| at + Duration::from_millis(ms.max(0).unsigned_abs());
        let ask = self.asking.is_none().then(|| until(self.leadership.ask_at() - self.steady(at)));
        let lapse = self.leadership.trusted_until().map(|end| until(end - self.steady(at)));
        let leads = self.leadership.token(self.steady(at)).is_some();
        let tick = match (self.agenda.next_at(), self.store_now(at)) {
            (Some(next), Some(now)) if leads && self.carrying.is_none() => Some(until(next - now)),
            _ => None,
        };
        let load = self.load_at.filter(|_| leads && self.loading.is_none());
        let look = self.tables.as_ref().filter(|_| leads).and_then(Following::look_at);
        self.alarm.set([ask, lapse, tick, load, look].into_iter().flatten().min());
    }

    fn ask(&mut self) {
        let (schedules, candidate) = (self.schedules.clone(), self.candidate.clone());
        let question = work::ask(schedules, candidate);
        self.asking = Some(self.report_back(question, BeatMsg::Asked));
    }

    fn load(&mut self, token: Token) {
        self.load_at = None;
        self.stale = false;
        let declared = Declared {
            entries: self.options.declared.clone(),
            rows: self.tables.as_ref().and_then(Following::rows),
            timezone: self.options.timezone.clone(),
        };
        let reading = work::load(self.schedules.clone(), self.candidate.clone(), token, declared);
        self.loading = Some(self.report_back(reading, BeatMsg::Loaded));
    }

    fn tick(&mut self, token: Token, at: Instant) {
        let Some(now) = self.store_now(at) else { return };
        let ticks = self.agenda.take(now, TICKS_MAX);
        if ticks.is_empty() {
            return;
        }
        let (shared, schedules, candidate) = (self.shared.clone(), self.schedules.clone(), self.candidate.clone());
        let sending = Outbox { queue: self.options.queue.clone(), sent: self.sent.clone() };
        let carrying = work::carry_out(shared, schedules, candidate, token, sending, ticks, now);
        self.carrying = Some(self.report_back(carrying, BeatMsg::Carried));
    }

    /// Asks the tables, if it is time.
    fn look(&mut self, token: Token, at: Instant) {
        let Some(tables) = self.tables.as_mut().filter(|tables| tables.look_at().is_some_and(|look_at| look_at <= at)) else { return };
        let (asked, question) = tables.question(&self.agenda, at);
        let looking = self.report_back(tables::look(asked, token, question), BeatMsg::Looked);
        if let Some(tables) = &mut self.tables {
            tables.looking = Some(looking);
        }
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        let now = Instant::now();
        let leads = self.leadership.token(self.steady(now));
        if let Some(tables) = &mut self.tables {
            // Entries that are being read now are read without these rows.
            let is_other = tables.looked(looked, leads, now);
            self.stale |= is_other;
        }
    }

    fn report_back<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        message: impl FnOnce(T) -> BeatMsg + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        let myself = self.myself.clone();
        AbortOnDropHandle::new(crate::task::spawn(async move { cast(&myself, message(work.await)) }))
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        self.asking = None;
        let (at, now) = (self.steady(asked.at), self.steady(Instant::now()));
        match asked.poll {
            Ok(poll) => {
                self.answers();
                self.set_clock(poll.now, asked.at, Instant::now());
                self.newest = poll.revision;
                self.report.leader = Some(poll.leader);
                let change = self.leadership.answered(at, now, poll.standing);
                self.changed(change);
            }
            Err(error) => {
                let pause = self.unanswered(&error);
                let change = self.leadership.failed(now, pause);
                self.changed(change);
            }
        }
    }

    pub(super) fn loaded(&mut self, loaded: Loaded) {
        self.loading = None;
        let now = Instant::now();
        if self.leadership.token(self.steady(now)) != Some(loaded.token) {
            return;
        }
        match loaded.book {
            Ok(understood) => {
                self.answers();
                self.take_in(understood, self.store_now(now).unwrap_or_default());
            }
            Err(error) => {
                let pause = self.unanswered(&error);
                self.stale = true;
                self.load_at = Some(now + Duration::from_millis(pause.unsigned_abs()));
            }
        }
    }

    fn take_in(&mut self, understood: Understood, now: Millis) {
        let Understood { entries, broken, revision } = understood;
        for (name, reason) in &broken {
            if self.report.broken.get(name) != Some(reason) {
                tracing::error!(entry = name, "an entry of the schedule cannot be understood and is never due: {reason}");
            }
        }
        self.report.broken = broken;
        let names: std::collections::BTreeSet<String> = entries.iter().map(|(entry, ..)| entry.name.clone()).collect();
        self.agenda.retain(|name| names.contains(name));
        for (entry, schedule, mark) in entries {
            self.agenda.put(entry, schedule, mark, now);
        }
        self.revision = Some(revision);
        // What changed since is told with the next renewal.
        self.newest = revision;
    }

    pub(super) fn carried(&mut self, carried: Carried) {
        self.carrying = None;
        let at = Instant::now();
        let now = self.store_now(at).unwrap_or_default();
        match carried.answers {
            Ok(answers) => {
                self.answers();
                let mut deposed = false;
                for (tick, answer) in carried.ticks.iter().zip(answers) {
                    deposed |= answer == Answer::Deposed;
                    self.answered(tick, answer, now);
                }
                if deposed {
                    let change = self.leadership.refused(self.steady(at));
                    self.changed(change);
                }
            }
            Err(error) => {
                // Whether they happened is told by their marks: a tick that did finds its mark moved.
                let pause = if error.is_transient() { self.unanswered(&error) } else { self.refused(&error) };
                for tick in &carried.ticks {
                    self.agenda.failed(&tick.entry.name, now + pause);
                }
            }
        }
    }

    fn answered(&mut self, tick: &Tick, answer: Answer, now: Millis) {
        let entry = &tick.entry;
        match answer {
            Answer::Done => {
                self.agenda.moved(&entry.name, tick.mark.clone(), now);
                self.tell(tick, now);
            }
            Answer::Moved(mark) => self.agenda.moved(&entry.name, mark, now),
            // It comes back with the entries, if it does.
            Answer::Gone => self.agenda.failed(&entry.name, now + AGAIN_MS),
            Answer::Deposed => self.agenda.failed(&entry.name, now),
        }
    }

    fn tell(&mut self, tick: &Tick, now: Millis) {
        let Entry { name, task, source, .. } = &*tick.entry;
        if let Some(tables) = self.tables.as_mut().filter(|_| *source == Source::Django) {
            tables.sent(Instant::now());
        }
        match tick.action {
            Action::Send => {
                tracing::info!(id = %tick.id(), "Scheduler: Sending due task {name} ({task})");
                self.report.sent += 1;
                self.report.last_tick = Some(now);
                self.report.lag_ms = Some(now - tick.to());
            }
            Action::Skip => {
                tracing::warn!(entry = name, task, "what was due while nobody could send it is missed, as its catch_up says");
                self.report.skipped += 1;
            }
            Action::Rewind => tracing::warn!(entry = name, task, "the clock went back by far; the entry goes on from now"),
        }
    }

    pub(super) fn foreign(&mut self, foreign: Foreign) {
        let known = self.report.foreign.replace(foreign);
        let Some(now) = &self.report.foreign else { return };
        if known.is_none_or(|known| now.at - known.at > FOREIGN_AGAIN_MS) {
            let origin = now.origin.as_deref().unwrap_or("unknown");
            let how = if now.marked { "a" } else { "by its rhythm, a" };
            tracing::warn!(
                task = now.task,
                origin,
                "{how} `celery beat` sends scheduled tasks beside this cluster's; what both have in their schedules is sent twice: stop one of them"
            );
        }
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Elected(token) => {
                tracing::info!(token = token.0, "beat: this node leads");
                self.report.elected += 1;
                self.forget();
            }
            Change::Deposed => {
                tracing::warn!("beat: this node does not lead any more");
                self.forget();
            }
        }
    }

    /// What was known of entries is old.
    fn forget(&mut self) {
        self.agenda = Agenda::default();
        self.revision = None;
        self.loading = None;
        self.carrying = None;
        self.load_at = None;
        if let Some(tables) = &mut self.tables {
            tables.forget(Instant::now());
        }
    }

    fn answers(&mut self) {
        self.backoff = Backoff::new();
        if self.report.outage.take().is_some() {
            tracing::info!("beat: the {} store answers again", self.schedules.kind());
        }
    }

    /// How long to wait before it is asked again, in milliseconds.
    fn unanswered(&mut self, error: &crate::brokers::BrokerError) -> Millis {
        if self.report.outage.is_none() {
            tracing::warn!("beat: {error}; asking again until it answers");
        }
        self.report.outage = Some(error.to_string());
        Millis::try_from(self.backoff.next().as_millis()).unwrap_or(AGAIN_MS)
    }

    fn refused(&mut self, error: &crate::brokers::BrokerError) -> Millis {
        tracing::error!("beat: scheduled tasks cannot be sent: {error}");
        AGAIN_MS
    }

    pub(super) fn report(&self, at: Instant) -> BeatReport {
        let token = self.leadership.token(self.steady(at));
        BeatReport {
            leads: token.is_some(),
            token: token.map(|token| token.0),
            entries: self.agenda.len(),
            next: self.agenda.next_at(),
            reads_tables: self.tables.is_some() && token.is_some(),
            tables_outage: self.tables.as_ref().and_then(Following::outage).cloned(),
            ..self.report.clone()
        }
    }
}
