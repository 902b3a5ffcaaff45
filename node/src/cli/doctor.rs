//! `node doctor`: what is in order here, what is not, and what to do about it.

use axum::http::Method;
use futures::future::join_all;
use serde_json::{Value as Json, json};

use super::{
    exit::Exit,
    failure::Failure,
    output::{Format, Screen, program},
    place::Place,
    session::Session,
    table::ago,
};
use crate::config::{self, Config};

/// Check everything a node and its clients need here
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// How one thing is.
#[derive(Debug)]
struct Finding {
    level: Level,
    what: &'static str,
    detail: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    fn new(level: Level, what: &'static str, detail: impl Into<String>) -> Self {
        Self { level, what, detail: detail.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(super) fn run(_args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let findings = examine(&place, &screen).await;
        let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        print(&findings, &screen)?;
        match worst {
            Level::Fail => Err(Failure::new(Exit::Failed, "not everything is in order", "see above")),
            _ => Ok(()),
        }
    })
}

async fn examine(place: &Place, screen: &Screen) -> Vec<Finding> {
    let loaded = match place.load_quietly(Vec::new()) {
        Ok(loaded) => loaded,
        Err(failure) => return vec![Finding::new(Level::Fail, "config", failure.to_string()).hint(format!("{} config check", program()))],
    };
    let file = loaded.file.as_ref().map_or_else(|| "no umbel.toml".to_owned(), |file| file.display().to_string());
    let mut findings = vec![Finding::new(Level::Ok, "config", file)];
    findings.extend(loaded.warnings.iter().map(|warning| Finding::new(Level::Warn, "config", warning)));
    findings.extend(configured(&loaded.config));
    match Session::open(place, screen).await {
        Err(failure) => {
            let hint = failure.next().map_or_else(|| format!("{} dev", program()), str::to_owned);
            findings.push(Finding::new(Level::Fail, "broker", failure.to_string()).hint(hint));
        }
        Ok(session) => findings.extend(running(&session).await),
    }
    findings
}

fn configured(config: &Config) -> Vec<Finding> {
    let broker = match &config.broker {
        Some(url) => Finding::new(Level::Ok, "broker", format!("{} ({})", url.value, url.origin)),
        None => Finding::new(Level::Warn, "broker", "none is configured: only `dev` and `demo` work without")
            .hint("set CELERY_BROKER_URL, or -b umbel:///path"),
    };
    let plan = match config::plan(config) {
        Ok(plan) => {
            let queues: Vec<&str> = plan.queues.iter().map(|queue| queue.as_str()).collect();
            Finding::new(Level::Ok, "role", format!("{}: {}", config.role.value, queues.join(" ")))
        }
        Err(error) => Finding::new(Level::Fail, "role", error.to_string()),
    };
    let mut findings = vec![broker, plan];
    match super::serve::commands(config) {
        Ok((tasks, warnings)) => {
            findings.push(Finding::new(
                Level::Ok,
                "commands",
                format!("{} configured", tasks.map_or(0, |executor| crate::executors::Executor::tasks(&executor).len())),
            ));
            findings.extend(warnings.into_iter().map(|warning| Finding::new(Level::Warn, "commands", warning)));
        }
        Err(failure) => findings.push(Finding::new(Level::Fail, "commands", failure.to_string())),
    }
    findings
}

async fn running(session: &Session) -> Vec<Finding> {
    let mut findings = Vec::new();
    match session.nodes().await {
        Ok(members) => {
            for (member, answer) in members.iter().zip(join_all(members.iter().map(|member| member.ask(Method::GET, "/api/v1/node"))).await)
            {
                findings.extend(match answer {
                    Ok(report) => node(&report),
                    Err(error) => vec![Finding::new(Level::Warn, "node", format!("{} does not answer: {error}", member.name))],
                });
            }
            if members.is_empty() {
                findings.push(Finding::new(Level::Warn, "node", "no node runs here").hint(format!("{} worker", program())));
            }
        }
        Err(failure) => findings.push(Finding::new(Level::Warn, "node", failure.to_string())),
    }
    match session.get("/api/v1/queues").await {
        Ok(queues) => findings.extend(queues["items"].as_array().into_iter().flatten().map(queue)),
        Err(failure) => findings.push(Finding::new(Level::Fail, "queues", failure.to_string())),
    }
    match session.list("/api/v1/dead", 1).await {
        Ok(letters) if letters.is_empty() => findings.push(Finding::new(Level::Ok, "dead", "no dead letters")),
        Ok(_) => findings.push(Finding::new(Level::Warn, "dead", "there are dead letters").hint(format!("{} dead ls", program()))),
        Err(failure) => findings.push(Finding::new(Level::Fail, "dead", failure.to_string())),
    }
    findings
}

fn node(node: &Json) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = node["node"].as_str().unwrap_or_default();
    for link in ["broker", "ledger"] {
        if node[link]["state"] != "live" {
            let reason = node[link]["reason"].as_str().unwrap_or_default();
            findings.push(Finding::new(Level::Fail, "node", format!("the {link} of {name} does not answer: {reason}")));
        }
    }
    findings.push(Finding::new(Level::Ok, "node", format!("{name} is {}", node["phase"].as_str().unwrap_or_default())));
    findings
}

fn queue(queue: &Json) -> Finding {
    let name = queue["name"].as_str().unwrap_or_default();
    let (ready, consumers) = (queue["ready"].as_u64().unwrap_or(0), queue["consumers"].as_u64().unwrap_or(0));
    let oldest = queue["oldest"].as_i64().map(ago).map_or_else(String::new, |age| format!(", the oldest for {age}"));
    if queue["paused"] == true {
        return Finding::new(Level::Warn, "queue", format!("{name} is paused, {ready} messages wait"))
            .hint(format!("{} queues resume {name}", program()));
    }
    if ready > 0 && consumers == 0 {
        return Finding::new(Level::Warn, "queue", format!("{name} has {ready} messages{oldest} and no consumer"))
            .hint(format!("{} worker -Q {name}", program()));
    }
    Finding::new(Level::Ok, "queue", format!("{name}: {ready} messages wait{oldest}, {consumers} take from it"))
}

fn print(findings: &[Finding], screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json {
        let items: Vec<Json> = findings
            .iter()
            .map(|finding| json!({ "level": finding.level.as_str(), "what": finding.what, "detail": finding.detail, "hint": finding.hint }))
            .collect();
        return screen.print_json(&json!({ "items": items }));
    }
    screen.print(|out| {
        for finding in findings {
            let colour = match finding.level {
                Level::Ok => "32",
                Level::Warn => "33",
                Level::Fail => "31",
            };
            let level = screen.paint(&format!("{:<5}", finding.level.as_str()), colour);
            let hint = finding.hint.as_ref().map(|hint| format!("   -> {hint}")).unwrap_or_default();
            writeln!(out, "{level} {:<9} {}{hint}", finding.what, super::failure::visible(&finding.detail))?;
        }
        Ok(())
    })
}
