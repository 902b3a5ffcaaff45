//! A chain, a group and a chord, followed while they run: `cargo run --example workflows`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use umbel::{Node, Signature, SignatureExt, client::Update};

/// CPU-bound: a plain function runs on a thread of its own.
#[umbel::task]
fn primes_below(limit: u64) -> u64 {
    (2..limit).filter(|n| (2..=n.isqrt()).all(|d| n % d != 0)).count() as u64
}

#[umbel::task]
async fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[umbel::task]
async fn sum(counts: Vec<u64>) -> u64 {
    counts.into_iter().sum()
}

#[umbel::task]
async fn report(failed_id: String) {
    println!("task {failed_id} failed");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("umbel://{}/store", folder.path().display());
    let node = Node::builder().open(&store)?.task(primes_below).task(add).task(sum).task(report).start().await?;
    let client = node.client();
    let soon = Duration::from_secs(30);

    // One after the other; each step gets the value of the one before.
    let chain = add::s(1, 2).then(add::partial().arg(10_i64)).then(add::partial().arg(100_i64));
    println!("chain: {}", client.submit(chain).await?.get::<u64>(soon).await?);

    // Side by side; the values come in the order of the members.
    let group = Signature::group((1..=5).map(|n| primes_below::s(n * 1000)));
    println!("group: {:?}", client.submit(group).await?.get::<Vec<u64>>(soon).await?);

    // Side by side, then one that gets all values. The whole workflow is durable before `submit` returns.
    let chord = Signature::chord((0..40).map(|n| primes_below::s(n * 500)), sum::partial()).link_error(report::partial());
    let result = client.submit(chord).await?;
    let mut progress = result.progress();
    while let Some(update) = progress.next().await? {
        if let Update::Count { done, total } = update {
            println!("chord: {done} of {total} tasks");
        }
    }
    println!("chord: {}", result.get::<u64>(soon).await?);
    Ok(())
}
