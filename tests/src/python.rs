//! The Python environments that `tests/setup` makes.

use std::path::{Path, PathBuf};

use umbel::executors::python::Interpreter;

/// The versions of Celery that are supported.
pub const VERSIONS: [&str; 2] = ["5.6", "5.7"];

/// The Python of the environment with that version of Celery.
///
/// # Panics
/// When it is not there.
pub fn program(version: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace");
    let python = top.join(format!("target/celery-{version}/bin/python"));
    assert!(python.is_file(), "{} is not there; try: tests/setup", python.display());
    python
}

/// The same, for an executor.
pub fn interpreter(version: &str) -> Interpreter {
    Interpreter { program: program(version), found_by: "tests/setup".to_owned() }
}
