//! Endings of single tasks.

use umbel_proto::{ErrbackLeft, Invocation, Map, NodeId, Outcome, QueueName, Signature, State, TaskError, Value};

use super::*;
use crate::{
    Acknowledge,
    model::{Known, Model},
};

static NODE: std::sync::LazyLock<NodeId> = std::sync::LazyLock::new(|| NodeId::from("celery@here"));
static QUEUE: std::sync::LazyLock<QueueName> = std::sync::LazyLock::new(|| QueueName::from("media"));

/// A context at time zero.
pub(crate) fn context<'a>(spec: &'a TaskSpec, settings: &'a Settings, specs: &'a Known) -> Context<'a> {
    Context { spec, specs, settings, node: &NODE, queue: &QUEUE, crashes: 0, begun: false, now: 0, dice: 0.5 }
}

struct Case {
    spec: TaskSpec,
    settings: Settings,
    specs: Known,
    crashes: u32,
    begun: bool,
    invocation: Invocation,
}

impl Case {
    fn new() -> Self {
        Self::of(&Signature::new("proj.add").arg(2i64).arg(3i64).set("task_id", "id"))
    }

    fn of(signature: &Signature) -> Self {
        let mut model = Model::default();
        model.submit(signature).unwrap();
        let invocation = model.queue.remove(0).invocation;
        let spec = TaskSpec::new("proj.add");
        Self { spec, settings: Settings::default(), specs: Known::default(), crashes: 0, begun: false, invocation }
    }

    fn context(&self) -> Context<'_> {
        Context { crashes: self.crashes, begun: self.begun, ..context(&self.spec, &self.settings, &self.specs) }
    }

    fn settle(&self, outcome: Outcome) -> Settlement {
        settle(&self.invocation, outcome, self.context())
    }

    fn refuse(&self, refusal: &Refusal) -> Settlement {
        refuse(&self.invocation, refusal, self.context())
    }
}

fn success(value: impl Into<Value>) -> Outcome {
    Outcome::Success { value: value.into(), children: Vec::new() }
}

fn bad() -> TaskError {
    TaskError { traceback: Some("Traceback …".to_owned()), ..TaskError::new("builtins", "ValueError", "bad") }
}

fn stored(settlement: &Settlement) -> Option<&umbel_proto::ResultRecord> {
    settlement.effects.iter().find_map(|effect| match effect {
        Effect::Store(record) => Some(&**record),
        _ => None,
    })
}

fn release(settlement: &Settlement) -> &Release {
    match settlement.effects.last() {
        Some(Effect::Release(release)) => release,
        other => panic!("{other:?} is no release"),
    }
}

fn dead(settlement: &Settlement) -> DeadReason {
    match release(settlement) {
        Release::Dead { reason, .. } => *reason,
        other => panic!("{other:?} is no dead letter"),
    }
}

fn exception(settlement: &Settlement) -> (String, Vec<Value>) {
    let error = stored(settlement).unwrap().error().unwrap();
    (error.exc_type, error.exc_message)
}

#[test]
fn success_is_stored_and_acknowledged() {
    let case = Case::new();
    let settlement = case.settle(success(5i64));
    let record = stored(&settlement).unwrap();
    assert_eq!((record.task_id.as_str(), &record.status, &record.result), ("id", &State::Success, &Value::Int(5)));
    assert_eq!(record.date_done.as_deref(), Some(umbel_proto::Timestamp::from_millis(0).as_str()));
    assert_eq!((&record.children, record.traceback.as_deref()), (&Some(vec![]), None));
    assert_eq!((release(&settlement), settlement.effects.len()), (&Release::Ack, 2));
    assert_eq!(settlement.ending, Ending::Succeeded { value: Value::Int(5), shown: false });
}

#[test]
fn extended_results_tell_what_ran() {
    let mut case = Case::of(&Signature::new("proj.add").arg(2i64).kwarg("k", true).set("stamped_headers", vec!["s".into()]).set("s", "v"));
    case.settings.result_extended = true;
    let settlement = case.settle(success(5i64));
    let extra = &stored(&settlement).unwrap().extra;
    let texts = ["name", "worker", "queue", "s"].map(|key| extra[key].as_str().unwrap());
    assert_eq!(texts, ["proj.add", "celery@here", "media", "v"]);
    assert_eq!(extra["args"], Value::List(vec![Value::Int(2)]));
    assert_eq!(extra["kwargs"].as_map().unwrap()["k"], Value::Bool(true));
    assert_eq!(extra["retries"], Value::Int(0));
}

#[test]
fn failure_is_stored_with_its_traceback() {
    let settlement = Case::new().settle(Outcome::Failure(bad()));
    let record = stored(&settlement).unwrap();
    assert_eq!((&record.status, record.traceback.as_deref()), (&State::Failure, Some("Traceback …")));
    assert_eq!((release(&settlement), &settlement.ending), (&Release::Ack, &Ending::Failed { error: bad() }));
}

#[test]
fn failed_messages_are_kept_where_the_task_asks_for_it() {
    let mut case = Case::new();
    case.spec.acks_on_failure = false;
    assert_eq!(dead(&case.settle(Outcome::Failure(bad()))), DeadReason::RetriesExhausted);
    case.spec.acks_on_failure = true;
    case.spec.dead_letter_on_failure = true;
    let settlement = case.settle(Outcome::Failure(bad()));
    assert_eq!((dead(&settlement), &stored(&settlement).unwrap().status), (DeadReason::RetriesExhausted, &State::Failure));
    assert_eq!(dead(&case.settle(Outcome::TimeLimitExceeded { limit_secs: 3.0 })), DeadReason::RetriesExhausted);
}

#[test]
fn automatic_retries_end_in_the_tasks_own_exception() {
    let mut case = Case::new();
    let automatic = || Outcome::Retry(umbel_proto::Retry { error: Some(bad()), automatic: true, ..Default::default() });
    let settlement = case.settle(automatic());
    assert_eq!(settlement.ending, Ending::Retried { error: Some(bad()), due: 180_000 });
    let record = stored(&settlement).unwrap();
    assert_eq!((&record.status, record.date_done.as_deref()), (&State::Retry, None));
    case.invocation.headers.retries = 3;
    assert_eq!(case.settle(automatic()).ending, Ending::Failed { error: bad() });
}

#[test]
fn a_failure_is_final_whatever_the_task_retries() {
    let mut case = Case::new();
    case.spec.retry_on_failure = true;
    assert_eq!(case.settle(Outcome::Failure(bad())).ending, Ending::Failed { error: bad() });
}

#[test]
fn retry_keeps_arguments_byte_for_byte_unless_told_otherwise() {
    let case = Case::new();
    let again = |ask: umbel_proto::Retry| match case.settle(Outcome::Retry(ask)).effects.remove(0) {
        Effect::Publish(publish) => *publish,
        other => panic!("{other:?}"),
    };
    let same = again(umbel_proto::Retry::default());
    assert_eq!((&same.invocation.body, same.due), (&case.invocation.body, Some(180_000)));
    assert_eq!((same.route.queue.as_str(), same.route.exchange.as_str()), ("media", ""));
    assert_eq!(same.invocation.headers.eta.as_ref().unwrap().millis(), 180_000);
    let other = again(umbel_proto::Retry { args: Some(vec![Value::Int(9)]), countdown_secs: Some(0.0), ..Default::default() });
    let (args, kwargs) = other.invocation.arguments().unwrap();
    assert_eq!((args, kwargs, other.due), (vec![Value::Int(9)], Map::new(), Some(0)));
    assert_eq!(other.invocation.headers.argsrepr.as_deref(), Some("(9,)"));
}

#[test]
fn retry_without_an_exception_stores_null_and_ends_in_celerys_text() {
    let mut case = Case::new();
    let settlement = case.settle(Outcome::Retry(umbel_proto::Retry::default()));
    assert_eq!(stored(&settlement).unwrap().result, Value::Null);
    case.invocation.headers.retries = 3;
    let expected = vec!["Can't retry proj.add[id] args:(2, 3) kwargs:{}".into()];
    assert_eq!(exception(&case.settle(Outcome::Retry(umbel_proto::Retry::default()))), ("MaxRetriesExceededError".to_owned(), expected));
    let with_cause = umbel_proto::Retry { error: Some(bad()), ..Default::default() };
    assert_eq!(exception(&case.settle(Outcome::Retry(with_cause))).0, "ValueError");
}

#[test]
fn ignore_stores_nothing() {
    let settlement = Case::new().settle(Outcome::Ignore);
    assert_eq!((settlement.effects.len(), release(&settlement), &settlement.ending), (1, &Release::Ack, &Ending::Ignored));
}

#[test]
fn reject_fails_as_in_celery_5_7_or_goes_back() {
    let mut case = Case::new();
    let reject = |requeue| Outcome::Reject { requeue, reason: "no".to_owned() };
    let settlement = case.settle(reject(false));
    assert_eq!(exception(&settlement), ("Reject".to_owned(), vec!["no".into(), false.into()]));
    assert_eq!(dead(&settlement), DeadReason::Rejected);
    assert!(matches!(&settlement.ending, Ending::Rejected { requeued: false, error: Some(error) } if error.exc_message[0] == "no".into()));
    case.crashes = 2;
    let settlement = case.settle(reject(true));
    assert_eq!((release(&settlement), settlement.effects.len()), (&Release::Requeue { due: None, crashes: 2 }, 1));
    case.begun = true;
    let settlement = case.settle(reject(true));
    let [Effect::Publish(again), Effect::Release(Release::Ack)] = &settlement.effects[..] else { panic!("{settlement:?}") };
    assert_eq!((&again.invocation, again.route.queue.as_str()), (&case.invocation, "media"));
}

#[test]
fn limits_and_revocations_end_a_run() {
    let case = Case::new();
    let limit = |limit_secs| exception(&case.settle(Outcome::TimeLimitExceeded { limit_secs }));
    assert_eq!(limit(3.0), ("TimeLimitExceeded".to_owned(), vec![Value::Int(3)]));
    assert_eq!(limit(0.5), ("TimeLimitExceeded".to_owned(), vec![Value::Float(0.5)]));
    for (terminated, reason) in [(true, "terminated"), (false, "revoked")] {
        let settlement = case.settle(Outcome::Revoked { terminated, signal: None });
        assert_eq!(stored(&settlement).unwrap().status, State::Revoked);
        assert_eq!(exception(&settlement), ("TaskRevokedError".to_owned(), vec![reason.into()]));
        let ending = Ending::Revoked { expired: false, terminated, signal: None, reason: reason.to_owned() };
        assert_eq!(settlement.ending, ending);
    }
}

#[test]
fn a_lost_executor_costs_growing_delays_and_then_the_message() {
    let mut case = Case::new();
    let lost = || Outcome::WorkerLost { detail: "signal 9 (SIGKILL)".to_owned() };
    for (crashes, due) in [(0, 1_000), (1, 2_000)] {
        case.crashes = crashes;
        let settlement = case.settle(lost());
        assert_eq!((release(&settlement), stored(&settlement)), (&Release::Requeue { due: Some(due), crashes: crashes + 1 }, None));
    }
    case.crashes = 2;
    let settlement = case.settle(lost());
    assert_eq!(exception(&settlement), ("WorkerLostError".to_owned(), vec!["Worker exited prematurely: signal 9 (SIGKILL).".into()]));
    assert_eq!(dead(&settlement), DeadReason::Crashed);
    case.crashes = 0;
    case.begun = true;
    let settlement = case.settle(lost());
    assert_eq!((&stored(&settlement).unwrap().status, release(&settlement)), (&State::Failure, &Release::Ack));
}

#[test]
fn refusals_record_why() {
    let case = Case::of(&Signature::chain([Signature::new("proj.add").link_error(Signature::new("e")), Signature::new("b")]));
    let unknown = case.refuse(&Refusal::UnknownTask);
    assert_eq!(exception(&unknown), ("NotRegistered".to_owned(), vec!["proj.add".into()]));
    assert_eq!(dead(&unknown), DeadReason::UnknownTask);
    let sent = |settlement: &Settlement| settlement.effects.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count();
    let ended = |settlement: &Settlement| settlement.effects.iter().filter(|effect| matches!(effect, Effect::Store(_))).count();
    assert_eq!((sent(&unknown), ended(&unknown)), (0, 2), "the chain is told, the errbacks are not called");
    let lost = case.refuse(&Refusal::Lost);
    assert_eq!((exception(&lost).0.as_str(), release(&lost), sent(&lost), ended(&lost)), ("WorkerLostError", &Release::Ack, 1, 2));
    let crashed = case.refuse(&Refusal::Crashed { detail: "taken 20 times".to_owned() });
    assert_eq!((dead(&crashed), sent(&crashed)), (DeadReason::Crashed, 1));
    let revoked = case.refuse(&Refusal::Revoked);
    assert_eq!((exception(&revoked).1, release(&revoked), sent(&revoked)), (vec!["revoked".into()], &Release::Ack, 0));
}

/// What a task that was killed cannot call itself any more.
#[test]
fn errbacks_of_the_new_style_get_what_they_are_called_with() {
    let errback = |name: &str| Signature::new(name).arg("own");
    let mut case = Case::of(&Signature::new("proj.add").set("task_id", "id").link_error(errback("old")).link_error(errback("new")));
    case.specs.tasks.insert("new".into(), TaskSpec { errback_arguments: Some(4), ..TaskSpec::new("new") });
    let settlement = case.settle(Outcome::Failure(bad()));
    let sent = settlement.effects.iter().filter_map(|effect| match effect {
        Effect::Publish(publish) => Some(&publish.invocation.headers),
        _ => None,
    });
    let sent: Vec<_> = sent.collect();
    let [old, new] = &sent[..] else { panic!("two are sent: {sent:?}") };
    assert_eq!((old.argsrepr.as_deref(), new.argsrepr.as_deref()), (Some("('id', 'own')"), Some("('own',)")));
    assert_eq!((old.other.get(errbacks::FAILED), new.ignore_result), (None, Some(true)));
    let failed = new.other[errbacks::FAILED].as_map().unwrap();
    assert_eq!((failed["id"].as_str(), &failed["error"]), (Some("id"), &bad().to_value()));
    // One that is immutable gets nothing.
    let still = Signature::new("proj.add").set("task_id", "id").link_error(errback("new").immutable());
    let mut immutable = Case::of(&still);
    immutable.specs.tasks.insert("new".into(), TaskSpec { errback_arguments: Some(4), ..TaskSpec::new("new") });
    let settlement = immutable.settle(Outcome::Failure(bad()));
    let sent = settlement.effects.iter().find_map(|effect| match effect {
        Effect::Publish(publish) => Some(&publish.invocation.headers),
        _ => None,
    });
    let sent = sent.unwrap();
    assert_eq!((sent.argsrepr.as_deref(), sent.other.get(errbacks::FAILED)), (Some("('own',)"), None));
    // What is stored in it does not count; and where a task's own process has judged it, that is how it is called.
    case.specs.tasks.insert("new".into(), TaskSpec { errback_arguments: Some(2), ..TaskSpec::new("new") });
    let of_old_style = |outcome| {
        let settlement = case.settle(outcome);
        let sent = settlement.effects.iter().any(|effect| match effect {
            Effect::Publish(publish) => {
                publish.invocation.headers.argsrepr.as_deref() == Some("('id', 'own')") && publish.invocation.headers.task.as_str() == "new"
            }
            _ => false,
        });
        assert!(sent, "{:?}", settlement.effects);
    };
    let left = |new_style| vec![ErrbackLeft { signature: errback("new"), new_style }];
    of_old_style(Outcome::Failure(bad()));
    of_old_style(Outcome::FailureTold { error: bad(), errbacks: left(false), stored: false });
    let settlement = case.settle(Outcome::FailureTold { error: bad(), errbacks: left(true), stored: false });
    let header = settlement.effects.iter().find_map(|effect| match effect {
        Effect::Publish(publish) => publish.invocation.headers.other.get(errbacks::FAILED),
        _ => None,
    });
    assert!(header.is_some(), "{:?}", settlement.effects);
}

/// Goal: what is stored before errbacks are called is what the ending would have stored, and the ending does not store it again.
#[test]
fn a_failure_that_was_told_is_stored_once() {
    let steps =
        [Signature::new("proj.add").set("task_id", "id").link_error(Signature::new("e")), Signature::new("b").set("task_id", "next")];
    let case = Case::of(&Signature::chain(steps));
    let stores = |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::Store(_))).cloned().collect::<Vec<_>>();
    let before = early(&case.invocation, Outcome::Failure(bad()), case.context()).unwrap();
    let plain = case.settle(Outcome::Failure(bad()));
    assert_eq!((before.len(), &before), (2, &stores(&plain.effects)));
    let told = |stored| Outcome::FailureTold { error: bad(), errbacks: Vec::new(), stored };
    let ending = case.settle(told(true));
    assert_eq!(ending.effects, [Effect::StoredBefore, Effect::Release(Release::Ack)]);
    assert_eq!(stores(&case.settle(told(false)).effects), before);
    // Where nothing is stored, nothing is said of it.
    let mut ignoring = Case::new();
    ignoring.spec.ignore_result = true;
    assert_eq!(early(&ignoring.invocation, Outcome::Failure(bad()), ignoring.context()), Some(Vec::new()));
    assert_eq!(ignoring.settle(told(true)).effects, [Effect::Release(Release::Ack)]);
}

/// Goal: what is stored of an ending before its run is over is what the ending would have stored, and it does not store that again, but does
/// all else. Of a success that something follows, or would follow its failure, nothing is stored early.
#[test]
fn an_early_ending_is_stored_once() {
    let chain = Signature::chain([Signature::new("proj.add").set("task_id", "id"), Signature::new("b").set("task_id", "next")]);
    let (single, chain) = (Case::new(), Case::of(&chain));
    let again = || Outcome::Retry(umbel_proto::Retry { countdown_secs: Some(1.0), ..Default::default() });
    let told = |outcome, stored| Outcome::Told { outcome: Box::new(outcome), stored };
    for (case, outcome) in [(&single, success(5i64)), (&chain, again()), (&single, Outcome::Failure(bad())), (&single, again())] {
        let mut all = case.settle(outcome.clone()).effects;
        assert_eq!(case.settle(told(outcome.clone(), false)).effects, all);
        let before = early(&case.invocation, outcome.clone(), case.context()).unwrap();
        assert_eq!(all.extract_if(.., |effect| matches!(effect, Effect::Store(_))).collect::<Vec<_>>(), before);
        assert_eq!(before.len(), 1);
        all.insert(0, Effect::StoredBefore);
        assert_eq!(case.settle(told(outcome, true)).effects, all);
    }
    let with_errback = Case::of(&Signature::new("proj.add").set("task_id", "id").link_error(Signature::new("e")));
    for case in [&chain, &with_errback] {
        assert_eq!(early(&case.invocation, success(5i64), case.context()), None);
    }
}

#[test]
fn an_unreadable_message_is_a_dead_letter_with_the_reason() {
    let error = DecodeError::new("headers.eta", "not a time");
    let [Effect::Release(Release::Dead { reason, detail })] = &quarantine(&error)[..] else { panic!("one release") };
    assert_eq!((*reason, detail.contains("headers.eta")), (DeadReason::Undecodable, true));
}

#[test]
fn started_is_stored_where_it_is_tracked() {
    let mut case = Case::new();
    assert_eq!(started(&case.invocation, case.context(), 7), None);
    case.spec.track_started = true;
    case.spec.acknowledge = Acknowledge::Early;
    let Some(Effect::Store(record)) = started(&case.invocation, case.context(), 7) else { panic!("stored") };
    assert_eq!((&record.status, record.date_done.as_deref()), (&State::Started, None));
    let meta = record.result.as_map().unwrap();
    assert_eq!((meta["pid"].as_i64(), meta["hostname"].as_str()), (Some(7), Some("celery@here")));
    case.spec.ignore_result = true;
    assert_eq!(started(&case.invocation, case.context(), 7), None);
}

#[test]
fn priority_is_inherited_where_the_settings_say_so() {
    let mut case = Case::of(&Signature::chain([Signature::new("proj.add").set("priority", 7i64), Signature::new("b")]));
    let next = |case: &Case| match &case.settle(success(1i64)).effects[0] {
        Effect::Publish(publish) => publish.invocation.properties.priority,
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&case), None);
    case.settings.inherit_parent_priority = true;
    assert_eq!(next(&case), Some(7));
}

/// A retry has its task's parent, and is its own where there is none (`celery/app/base.py::send_task`).
#[test]
fn retry_keeps_its_parent() {
    let mut case = Case::new();
    for (parent, expected) in [(None, "id"), (Some("parent"), "parent")] {
        case.invocation.headers.parent_id = parent.map(umbel_proto::TaskId::from);
        let ask = umbel_proto::Retry { countdown_secs: Some(0.0), max_retries: Some(None), ..Default::default() };
        let Effect::Publish(again) = case.settle(Outcome::Retry(ask)).effects.remove(0) else { panic!("the next attempt comes first") };
        assert_eq!(again.invocation.headers.parent_id.unwrap().as_str(), expected);
    }
}

/// Options that the task names for its next attempt are put over the message's own.
#[test]
fn retry_takes_options() {
    let case = Case::new();
    let mut options = umbel_proto::Options::default();
    for (name, value) in [("queue", Value::from("slow")), ("priority", 7i64.into()), ("time_limit", 9i64.into())] {
        options.0.insert(name.to_owned(), value);
    }
    options.0.insert("headers".to_owned(), Value::Map(Map::from_iter([("x-shop".to_owned(), "yes".into())])));
    let ask = umbel_proto::Retry { options, countdown_secs: Some(0.0), max_retries: Some(None), ..Default::default() };
    let Effect::Publish(again) = case.settle(Outcome::Retry(ask)).effects.remove(0) else { panic!("the next attempt comes first") };
    assert_eq!((again.route.queue.as_str(), again.route.routing_key.as_str()), ("slow", "slow"));
    let (headers, properties) = (&again.invocation.headers, &again.invocation.properties);
    assert_eq!((properties.priority, properties.routing_key.as_str()), (Some(7), "slow"));
    assert_eq!((headers.timelimit.hard_secs, &headers.other["x-shop"]), (Some(9.0), &Value::from("yes")));
    assert_eq!(again.invocation.body, case.invocation.body);
}

/// Of what an executor has done by itself only the message is left to settle.
#[test]
fn delegated_endings_pay_the_broker_alone() {
    let case = Case::new();
    let settlement = case.settle(Outcome::Delegated(Box::new(success(5i64))));
    assert_eq!((settlement.effects.len(), release(&settlement)), (1, &Release::Ack));
    assert_eq!(settlement.ending, Ending::Succeeded { value: Value::Int(5), shown: false });
    let settlement = case.settle(Outcome::Delegated(Box::new(success("Point(2)"))));
    assert_eq!(settlement.ending, Ending::Succeeded { value: "Point(2)".into(), shown: true });
    let settlement = case.settle(Outcome::Delegated(Box::new(Outcome::Reject { requeue: true, reason: String::new() })));
    assert_eq!((settlement.effects.len(), release(&settlement)), (1, &Release::Requeue { due: None, crashes: 0 }));
}

/// An application without a result backend has none stored for it, failures included; everything else follows.
#[test]
fn nothing_is_stored_where_nobody_keeps_results() {
    let mut case = Case::new();
    case.settings.keep_results = false;
    case.spec.store_errors_even_if_ignored = true;
    for outcome in [success(5i64), Outcome::Failure(bad()), Outcome::Retry(umbel_proto::Retry::default())] {
        let settlement = case.settle(outcome);
        assert_eq!(stored(&settlement), None);
        assert_eq!(release(&settlement), &Release::Ack);
    }
}
