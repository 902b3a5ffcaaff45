//! A task, a node that runs it, a result: `cargo run --example ten_lines`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

#[umbel::task]
async fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("umbel://{}/store", folder.path().display());
    let node = umbel::Node::builder().open(&store)?.task(add).start().await?;
    let sum: i64 = node.client().submit(add::s(2, 3)).await?.get(Duration::from_secs(10)).await?;
    println!("2 + 3 = {sum}");
    Ok(())
}
