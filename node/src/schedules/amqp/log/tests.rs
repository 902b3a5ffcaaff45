use umbel_scheduler::schedule::When;

use super::*;

fn entry(name: &str) -> Json {
    serde_json::to_value(Entry::new(name, "t", When::Every { every_ms: 1_000, relative: false })).unwrap()
}

fn line(what: What) -> Line {
    Line { id: 1, at: 5_000, base: 0, what }
}

fn mark(due: Millis, runs: u64) -> Mark {
    Mark { due, sent: Some(due), runs, paused: false }
}

fn ticks(token: u64, name: &str, from: Millis, to: Mark) -> What {
    What::Ticks { token, marks: vec![(name.to_owned(), from, to)] }
}

/// Everything that is written, in order.
fn read(lines: &[What]) -> Pages {
    let mut pages = Pages::default();
    for (offset, what) in lines.iter().enumerate() {
        pages.learn(offset as u64, &line(what.clone()), 1);
    }
    pages
}

/// Goal: a mark is moved by who was elected last, from where it stands, and by nobody else.
#[test]
fn marks_move_for_the_leader_only() {
    let mut lines = vec![
        What::Put(vec![entry("a")]),
        What::Elected { candidate: "x one".to_owned() },
        ticks(1, "a", 5_000, mark(6_000, 1)),
        What::Elected { candidate: "y two".to_owned() },
    ];
    let mut pages = read(&lines);
    assert_eq!(pages.learn(4, &line(ticks(1, "a", 6_000, mark(7_000, 2))), 1), Effect::Deposed);
    assert_eq!(pages.learn(5, &line(ticks(3, "a", 5_000, mark(7_000, 2))), 1), Effect::Entries(0));
    assert_eq!(pages.learn(6, &line(ticks(3, "a", 6_000, mark(7_000, 2))), 1), Effect::Entries(1));
    assert_eq!((pages.mark("a").unwrap().due, pages.book(0).leader.unwrap().as_str()), (7_000, "two"));
    lines.push(What::Remove(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(read(&lines).book(0).entries, []);
}

/// Goal: a pause is kept by a tick that was on its way; what is resumed goes on from then.
#[test]
fn pauses_hold() {
    let pause = |paused| What::Pause { name: "a".to_owned(), paused };
    let lines = [
        What::Put(vec![entry("a")]),
        What::Elected { candidate: "x one".to_owned() },
        pause(true),
        ticks(1, "a", 5_000, mark(4_000, 1)),
        pause(false),
    ];
    assert!(read(&lines[..4]).mark("a").unwrap().paused);
    assert_eq!(read(&lines).mark("a").unwrap(), &Mark { sent: Some(4_000), ..mark(5_000, 1) });
    assert_eq!((read(&lines[..2]).revision, read(&lines[..4]).revision), (1, 3));
}

/// Goal: who begins with a digest knows what everybody knows, whatever others wrote while the digest was written; a digest whose
/// writer died half way is none.
#[test]
fn a_digest_says_everything() {
    let mut lines = vec![
        What::Put(vec![entry("a"), entry("b"), entry("c"), serde_json::json!({"name": "strange", "later": 1})]),
        What::Elected { candidate: "x one".to_owned() },
        ticks(1, "a", 5_000, mark(6_000, 1)),
        What::Pause { name: "b".to_owned(), paused: true },
    ];
    let base = lines.len();
    let digest = read(&lines).digest(7, 2);
    assert_eq!(digest.len(), 3);
    lines.push(What::Remove(vec!["c".to_owned()]));
    lines.push(digest[0].clone());
    lines.extend(read(&lines[..4]).digest(8, 2).into_iter().take(1));
    lines.push(ticks(1, "a", 6_000, mark(7_000, 2)));
    lines.push(digest[1].clone());
    lines.push(What::Pause { name: "b".to_owned(), paused: false });
    lines.push(digest[2].clone());
    lines.push(What::Put(vec![entry("d")]));
    let all = read(&lines);
    assert_eq!((all.base, all.book(0).entries.len()), (base as u64, 3));
    for from in [base - 1, base] {
        let mut reading = Reading::default();
        for (offset, what) in lines.iter().enumerate().skip(from) {
            reading.read(offset as u64, line(what.clone()), 1);
        }
        let pages = reading.done();
        assert_eq!(pages.book(0), all.book(0));
        assert_eq!((pages.next, pages.base, pages.leader), (all.next, all.base, all.leader.clone()));
    }
    assert_eq!(all.book(0).unreadable[0].0, "strange");
}

/// Goal: every kind of line comes back from its bytes.
#[test]
fn lines_are_read_again() {
    let pages = read(&[What::Put(vec![entry("a")]), What::Elected { candidate: "x one".to_owned() }]);
    let mut kinds = vec![
        What::Sync,
        What::Elected { candidate: "x one".to_owned() },
        ticks(1, "a", 1, mark(2, 3)),
        What::Put(vec![entry("a")]),
        What::Remove(vec!["a".to_owned()]),
        What::Pause { name: "a".to_owned(), paused: true },
    ];
    kinds.extend(pages.digest(3, 10));
    for what in kinds {
        let written = serde_json::to_vec(&line(what.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Line>(&written).unwrap().what, what);
    }
}
