//! The `node` program.

use std::process::ExitCode;

/// Faster than the system's under many small allocations on several threads, and it gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    umbel::cli::main()
}
