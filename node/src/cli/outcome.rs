//! Results, waited for and printed.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value as Json, json};

use super::{
    exit::Exit,
    failure::{Failure, visible},
    output::{Format, Screen, program},
    session::{Session, part},
};

/// How long one question to the node waits; then the next is asked.
const ASK_SECS: f64 = 20.0;

/// A result to wait for: a task's, or those of a group's members in order.
#[derive(Debug)]
pub(super) struct Awaited {
    id: String,
    members: Option<Vec<Awaited>>,
}

impl Awaited {
    /// Of a result tree as the API gives it.
    pub(super) fn of_tree(tree: &Json) -> Self {
        let id = tree["id"].as_str().unwrap_or_default().to_owned();
        // In the tree of a shown workflow the children of a task are what it sent; only those of a group are parts of its value.
        let members = tree["children"].as_array().filter(|_| tree["group"] != false);
        Self { id, members: members.map(|members| members.iter().map(Self::of_tree).collect()) }
    }

    /// Of an id: a group's, if the node knows one, else a task's.
    pub(super) async fn of_id(session: &Session, id: &str) -> Self {
        let workflow = session.get(&format!("/api/v1/workflows/{}", part(id))).await.ok();
        match workflow {
            Some(workflow) if workflow["tree"]["group"] == true => Self::of_tree(&workflow["tree"]),
            _ => Self { id: id.to_owned(), members: None },
        }
    }

    fn leaves(&self) -> Vec<&str> {
        match &self.members {
            Some(members) => members.iter().flat_map(Self::leaves).collect(),
            None => vec![&self.id],
        }
    }

    fn value(&self, records: &mut impl Iterator<Item = Json>) -> Json {
        match &self.members {
            Some(members) => members.iter().map(|member| member.value(records)).collect(),
            None => records.next().map_or(Json::Null, |record| record["result"].clone()),
        }
    }

    /// Waits for all of it, up to `timeout` (`None` is for ever), and prints the value, or says what went wrong.
    pub(super) async fn print(&self, session: &Session, screen: &Screen, timeout: Option<Duration>) -> Result<(), Failure> {
        let began = Instant::now();
        let leaves = self.leaves();
        let bar = bar(screen, leaves.len());
        let mut records = Vec::new();
        for leaf in &leaves {
            let record = wait(session, leaf, timeout.map(|timeout| timeout.saturating_sub(began.elapsed())), &bar).await?;
            records.push(record);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let failed = records.iter().find(|record| record["status"] != "SUCCESS").cloned();
        let value = self.value(&mut records.clone().into_iter());
        match screen.format {
            Format::Json => screen.print_json(&self.document(&records, &value))?,
            Format::Text if failed.is_none() => screen.print(|out| writeln!(out, "{value}"))?,
            Format::Text => {}
        }
        match failed {
            None => Ok(()),
            Some(record) => Err(failure(&record)),
        }
    }

    /// A task's record as it is stored; of a group, its members' records and its value.
    fn document(&self, records: &[Json], value: &Json) -> Json {
        match &self.members {
            None => records.first().cloned().unwrap_or_default(),
            Some(_) => {
                let success = records.iter().all(|record| record["status"] == "SUCCESS");
                let status = if success { "SUCCESS" } else { "FAILURE" };
                json!({ "task_id": self.id, "status": status, "result": if success { value.clone() } else { Json::Null }, "members": records })
            }
        }
    }
}

async fn wait(session: &Session, id: &str, timeout: Option<Duration>, bar: &ProgressBar) -> Result<Json, Failure> {
    let began = Instant::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()).as_secs_f64());
        let secs = left.unwrap_or(ASK_SECS).min(ASK_SECS);
        let record = session.get(&format!("/api/v1/results/{}?wait={secs}", part(id))).await?;
        let status = record["status"].as_str().unwrap_or("PENDING").to_owned();
        if matches!(status.as_str(), "SUCCESS" | "FAILURE" | "REVOKED") {
            return Ok(record);
        }
        bar.set_message(status.clone());
        if left.is_some_and(|left| left <= secs) {
            let waited = timeout.unwrap_or_default().as_secs_f64();
            let failure = Failure::new(Exit::TimedOut, "no result of task", format!("it is {status} after {waited:.1} s"));
            return Err(failure.value(id, "ID").hint(format!("{} tasks show {id}", program())));
        }
    }
}

fn failure(record: &Json) -> Failure {
    let id = record["task_id"].as_str().unwrap_or_default();
    let status = record["status"].as_str().unwrap_or_default();
    let error = &record["result"];
    let kind = error["exc_type"].as_str().unwrap_or("Exception");
    let message: Vec<String> = match &error["exc_message"] {
        Json::Array(parts) => parts.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect(),
        Json::String(text) => vec![text.clone()],
        _ => Vec::new(),
    };
    let what = if status == "REVOKED" { "the task was revoked" } else { "the task failed" };
    Failure::new(Exit::Failed, what, format!("{kind}: {}", visible(&message.join(", "))))
        .value(id, "ID")
        .hint(format!("{} tasks show {id}", program()))
}

fn bar(screen: &Screen, length: usize) -> ProgressBar {
    let target = if screen.live && screen.format == Format::Text && length > 1 {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(length as u64), target).with_style(style)
}
