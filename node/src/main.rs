//! The `node` program.

use std::process::ExitCode;

use umbel::executors::command::keeper;

/// Faster than the system's under many small allocations on several threads, and it gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    umbel::huge_pages::allow();
    if keeper::asked() { keeper::main() } else { umbel::cli::main() }
}
