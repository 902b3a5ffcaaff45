//! What waits for a flush: order, and progress of which only the newest is kept.

use umbel_scheduler::Release;

use super::*;

fn invocation(id: &str) -> Invocation {
    let mut headers = umbel_proto::Headers {
        lang: "rust".to_owned(),
        task: "t".into(),
        id: id.into(),
        shadow: None,
        eta: None,
        expires: None,
        group: None,
        group_index: None,
        retries: 0,
        timelimit: umbel_proto::TimeLimit::default(),
        root_id: None,
        parent_id: None,
        argsrepr: None,
        kwargsrepr: None,
        origin: None,
        ignore_result: None,
        replaced_task_nesting: 0,
        stamped_headers: None,
        stamps: Map::new(),
        other: Map::new(),
    };
    headers.root_id = Some(headers.id.clone());
    let raw = umbel_proto::Raw { serializer: umbel_proto::codec::Serializer::Json, bytes: "[]".into() };
    let body = umbel_proto::Body::Parts { args: raw.clone(), kwargs: raw, embed: umbel_proto::Embed::default() };
    Invocation { headers, properties: umbel_proto::Properties::default(), body }
}

fn fence(attempt: u32) -> Fence {
    Fence::Delivery { tag: "1".into(), attempt, run: None }
}

fn progress(percent: i64) -> Progress {
    Progress { state: "PROGRESS".to_owned(), meta: percent.into() }
}

fn ending(attempt: u32) -> Pending {
    Pending { commit: Commit { fence: fence(attempt), effects: vec![Effect::Release(Release::Ack)] }, then: Then::Noted }
}

fn stored(pending: &Pending) -> Option<i64> {
    pending.commit.effects.iter().find_map(|effect| match effect {
        Effect::Store(record) => record.result.as_i64(),
        _ => None,
    })
}

/// Goal: of the progress of one task only the newest waits, in its place before the ending; another attempt's is its own.
#[test]
fn keeps_the_newest_progress() {
    let mut queue = Queue::default();
    let (one, two) = (invocation("one"), invocation("two"));
    queue.push(ending(9));
    queue.note(&one, fence(1), progress(10));
    queue.note(&two, fence(2), progress(50));
    queue.note(&one, fence(1), progress(20));
    queue.push(ending(1));
    let taken = queue.take(2);
    assert_eq!(taken.iter().map(stored).collect::<Vec<_>>(), [None, Some(20)]);
    // The one that was taken is in flight: a newer one comes behind, and the waiting one of the other task keeps its place.
    queue.note(&one, fence(1), progress(30));
    queue.note(&two, fence(2), progress(60));
    queue.note(&one, fence(3), progress(40));
    let taken = queue.take(10);
    assert_eq!(taken.iter().map(stored).collect::<Vec<_>>(), [Some(60), None, Some(30), Some(40)]);
    assert!(queue.is_empty());
}
