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
    python_of(&format!("celery-{version}"))
}

/// The Python of the environment with Django and what extends it for Celery.
///
/// # Panics
/// When it is not there.
pub fn django() -> PathBuf {
    python_of("django-beat")
}

fn python_of(environment: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace");
    let python = top.join(format!("target/{environment}/bin/python"));
    assert!(python.is_file(), "{} is not there; try: tests/setup", python.display());
    python
}

/// The same, for an executor.
pub fn interpreter(version: &str) -> Interpreter {
    Interpreter { program: program(version), found_by: "tests/setup".to_owned() }
}
