//! `node submit EXPRESSION`: a workflow, in Celery's notation or from a file.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value as Json, json};

use super::{
    call,
    exit::Exit,
    failure::Failure,
    output::{Format, Screen, program},
    place::Place,
    session::Session,
};
use crate::expression;

/// What is printed below the help of the verb.
const AFTER_HELP: &str = r#"Examples:
  node submit 'umbel.demo.add(2, 2) | umbel.demo.add(8)' --wait
  node submit 'chord([umbel.demo.add(1, 1), umbel.demo.add(2, 2)], umbel.demo.sum())' --wait
  node submit 'group(umbel.demo.add(i, i), umbel.demo.add(2, 3)).set(queue="slow")'
  node submit -f signatures.json"#;

/// Submit a workflow in Celery's notation
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The workflow: task(args), a | b, chain(…), group(…), chord([…], body), task.map([…])
    #[arg(required_unless_present = "file")]
    expression: Option<String>,
    /// Read signatures from this file as JSON, one or a list of them; - is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "expression")]
    file: Option<PathBuf>,
    /// The key under which the same submission, sent again, runs once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait for the result and print it, instead of the id
    #[arg(short, long)]
    wait: bool,
    /// How many seconds to wait at most
    #[arg(short, long, value_name = "SECONDS", requires = "wait", value_parser = super::wait::seconds)]
    timeout: Option<Duration>,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let bodies = match (&args.expression, &args.file) {
        (Some(text), _) => vec![from_expression(text)?],
        (None, Some(file)) => from_file(file)?,
        (None, None) => Vec::new(),
    };
    if screen.format == Format::Json && bodies.len() > 1 {
        let reason = format!("the file holds {} signatures, and -o json prints one document", bodies.len());
        return Err(Failure::new(Exit::Usage, "cannot submit", reason).hint("put them into one group, or submit them one by one"));
    }
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        for body in &bodies {
            call::send(&session, body, args.idempotency_key.as_deref(), args.wait.then_some(args.timeout), &screen).await?;
        }
        Ok(())
    })
}

fn from_expression(text: &str) -> Result<Json, Failure> {
    // Read here as well as by the node: the place of a mistake is shown at once, without a node.
    expression::parse(text, None).map_err(|error| {
        let lines = error.to_string().lines().map(str::to_owned).collect::<Vec<_>>();
        Failure::new(Exit::Usage, "cannot read the expression", "").lines(lines).hint(format!("{} submit --help", program()))
    })?;
    Ok(json!({ "expression": text }))
}

fn from_file(file: &Path) -> Result<Vec<Json>, Failure> {
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, "cannot read the signatures", reason).value(file.display().to_string(), "--file")
    };
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text))
    };
    read.map_err(|error| failed(&error))?;
    let signatures = expression::read_json(&text).map_err(|error| failed(&error))?;
    signatures
        .iter()
        .map(|signature| {
            let text = umbel_proto::codec::json::write(&signature.to_value());
            // Python's bare NaN is not JSON proper; such a workflow is submitted as an expression.
            serde_json::from_slice::<Json>(&text).map(|signature| json!({ "signature": signature })).map_err(|error| failed(&error))
        })
        .collect()
}
