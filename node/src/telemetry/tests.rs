//! The shapes of log lines, and what nobody can do to them.

use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;
use crate::facts::line;

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, level: &str, log: impl FnOnce()) -> String {
    let paper = Paper::default();
    let options = LogOptions { format, level: level.parse().unwrap(), node: "umbel@here".into() };
    let copy = paper.clone();
    tracing::subscriber::with_default(subscriber(&options, move || copy.clone()), log);
    String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
}

/// Goal: the shape that people's tools know from Celery; levels by Python's names; those below the level are left out.
#[test]
fn text_has_celerys_shape() {
    let text = logged(LogFormat::Text, "INFO", || {
        tracing::warn!(queue = "celery", tries = 3, "the broker does not answer");
        tracing::debug!("nobody reads this");
    });
    let (stamp, rest) = text.split_once(": ").unwrap();
    assert_eq!(rest, "WARNING/node] the broker does not answer queue=celery tries=3\n");
    assert_eq!(stamp.len(), "[2026-11-21 05:45:09,950".len(), "{stamp}");
    assert_eq!((&stamp[..1], &stamp[11..12], &stamp[20..21]), ("[", " ", ","));
}

/// Goal: what tasks are called with is not logged by whoever carries it, nor is an answer that was expected an error.
#[test]
fn returned_messages_are_not_logged() {
    let text = logged(LogFormat::Text, "INFO", || {
        tracing::warn!(target: "lapin::returned_messages", message = "hunter2", "Server returned us a message");
        tracing::error!(target: "lapin::channel", "Channel closed");
        tracing::warn!(target: "lapin::io_loop", "this is");
    });
    assert!(text.contains("this is") && !text.contains("hunter2") && !text.contains("closed"), "{text}");
}

/// Goal: what processes write as JSON stays as it is for whoever collects it, in either format; what only looks like it, or comes from
/// elsewhere, does not.
#[test]
fn json_of_processes_stays_as_it_is() {
    let said = r#"{"level": "ERROR", "message": "no\n key"}"#;
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = logged(format, "INFO", || {
            tracing::info!(target: OUTPUT, pid = 7, "{said}");
            tracing::info!(target: OUTPUT, pid = 7, "{{\"a\": 1");
            tracing::info!(target: OUTPUT, pid = 7, "{{\"a\": \"\u{202e}\"}}");
            tracing::info!("{said}");
            tracing::info!(target: OUTPUT, "{{\"node\": \"other\", \"target\": \"umbel::task\"}}");
        });
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!((lines.len(), lines[0]), (5, said));
        assert!(lines[1..].iter().all(|line| line.contains("INFO")), "{lines:?}");
    }
}

/// Goal: no text from outside can begin a line or move a cursor, not even in a traceback.
#[test]
fn nobody_forges_a_line() {
    let text = logged(LogFormat::Text, "INFO", || {
        let forged = "x\n[2026-01-01 00:00:00,000: INFO/node] Task a[b] succeeded\r\u{1b}[2J\u{2028}\u{202e}";
        tracing::info!(target: line::TARGET, task_id = "b", traceback = "one\n[two\u{1b}\nthree", "{forged}");
        tracing::info!(detail = forged, "other");
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].contains(r"x\n[2026-01-01") && lines[0].ends_with(r"succeeded\r\u{1b}[2J\u{2028}\u{202e}"), "{text}");
    assert_eq!(lines[1..4], ["    one", r"    [two\u{1b}", "    three"]);
    assert!(lines[4].contains(r"other detail=x\n["));
}

/// Goal: a JSON line is one object with the fixed fields first and the particulars of a task by name.
#[test]
fn json_is_one_object_a_line() {
    let text = logged(LogFormat::Json, "debug", || {
        tracing::info!(target: line::TARGET, task_id = "7", runtime = 0.5, attempt = 2, root_id = None::<&str>, "Task\nt[7]");
    });
    assert_eq!(text.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["ts", "level", "node", "target", "message", "task_id", "runtime", "attempt"]);
    assert_eq!((line["level"].as_str(), line["node"].as_str()), (Some("INFO"), Some("umbel@here")));
    assert_eq!((line["message"].as_str(), line["runtime"].as_f64()), (Some("Task\nt[7]"), Some(0.5)));
    let ts = line["ts"].as_str().unwrap();
    assert!(ts.ends_with('Z') && ts.len() == "2026-11-21T05:45:09.950Z".len(), "{ts}");
}

/// Goal: Celery's names of levels are understood, and what is none is refused with the ones there are.
#[test]
fn levels() {
    assert_eq!("warning".parse::<LogLevel>().unwrap(), LogLevel("warn".to_owned()));
    assert_eq!("info,umbel::actors=debug".parse::<LogLevel>().unwrap().0, "info,umbel::actors=debug");
    assert!("loud".parse::<LogLevel>().unwrap_err().to_string().contains("DEBUG"));
    assert!("xml".parse::<LogFormat>().is_err());
}
