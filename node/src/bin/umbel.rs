//! The `umbel` program: [`node`](../node/index.html) under another name, for machines where Node.js owns that one.

use std::process::ExitCode;

use umbel::executors::command::keeper;

/// As in `main.rs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    umbel::huge_pages::allow();
    if keeper::asked() { keeper::main() } else { umbel::cli::main() }
}
