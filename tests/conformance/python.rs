//! The Python executor keeps the promises of its seam, with each supported version of Celery.

use std::path::Path;

use umbel::executors::python::{PythonExecutor, PythonOptions};
use umbel_tests::python;

async fn started(version: &str) -> PythonExecutor {
    let mut options = PythonOptions::new("python_app", python::interpreter(version));
    options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
    options.keeps_states = true;
    PythonExecutor::start(options).await.unwrap_or_else(|error| panic!("{error}")).0
}

mod celery_5_6 {
    umbel_tests::executor_conformance!(super::started("5.6").await);
}

mod celery_5_7 {
    umbel_tests::executor_conformance!(super::started("5.7").await);
}
