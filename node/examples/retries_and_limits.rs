//! What a task may ask of its node: retries, limits, progress, early exits: `cargo run --example retries_and_limits`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use umbel::{Context, Node, SignatureExt, TaskFailure, TaskResult, client::Update, proto::repr::repr};

/// Asks for another attempt itself, and says when.
#[umbel::task(max_retries = 5)]
async fn fetch(ctx: Context, url: String) -> TaskResult<String> {
    match unreliable(&url, ctx.retries()) {
        Ok(page) => Ok(page),
        Err(error) => Err(ctx.retry_in(Duration::from_millis(100)).because(error).into()),
    }
}

/// Is retried whatever goes wrong, after 0.1, 0.2, 0.4, … seconds.
#[umbel::task(retry_on_failure, backoff = 0.1, jitter = false, max_retries = 3)]
async fn parse(ctx: &Context, text: String) -> Result<i64, std::num::ParseIntError> {
    println!("attempt {} of parsing {text:?}", ctx.retries() + 1);
    text.parse()
}

/// Ends early when its soft limit has passed, keeping what it has.
#[umbel::task(soft_time_limit = 0.3, time_limit = 5)]
fn count(ctx: Context, to: u64) -> u64 {
    for n in 0..to {
        if ctx.is_cancelled() {
            return n;
        }
        if n % 10 == 0 {
            ctx.percent(n, to);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    to
}

/// Ten starts a second at most, its message acknowledged before it begins: it never runs twice.
#[umbel::task(rate_limit = "10/s", acks = "early", ignore_result)]
async fn notify(user: String, #[default = "hello"] text: String) -> TaskResult<()> {
    println!("{text}, {user}");
    Ok(())
}

fn unreliable(url: &str, attempt: u32) -> Result<String, TaskFailure> {
    if attempt < 2 { Err(TaskFailure::new("ConnectionError", format!("{url} does not answer"))) } else { Ok("a page".to_owned()) }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("umbel://{}/store", folder.path().display());
    let node = Node::builder().open(&store)?.task(fetch).task(parse).task(count).task(notify).start().await?;
    let client = node.client();
    let soon = Duration::from_secs(30);

    println!("fetched {:?}", client.submit(fetch::s("http://example.org".into())).await?.get::<String>(soon).await?);

    let refused = client.submit(parse::s("seven".into())).await?.get::<i64>(soon).await;
    println!("parsed: {}", refused.expect_err("seven is no number"));

    let counting = client.submit(count::s(1_000_000)).await?;
    let mut progress = counting.progress();
    while let Some(update) = progress.next().await? {
        if let Update::Task { state, meta, .. } = update {
            println!("counting is {}: {}", state.as_str(), repr(&meta));
        }
    }
    println!("counted to {}", counting.get::<u64>(soon).await?);

    client.submit(notify::partial().arg("Ada")).await?;
    client.submit(notify::s("Grace".into(), "good morning".into()).countdown(Duration::from_secs(3600))).await?;
    // What runs is finished; what is due in an hour waits in the store for whoever opens it then.
    node.shutdown(umbel::Shutdown::Warm { grace: Duration::from_secs(5) });
    node.wait().await?;
    Ok(())
}
