//! Which folder to count.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use super::files::{self, Listing};
use crate::cli::{exit::Exit, failure::Failure, output::program, output::quoted};

/// The folder that was named, else the repository: that of cargo's package when cargo runs the program, else the git
/// checkout that the current folder is in.
pub(super) fn choose(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let unknown = |reason: &str| {
        Failure::new(Exit::Usage, "which folder to count is not known (FOLDER)", reason).hint(format!("{} demo .", program()))
    };
    if let Some(named) = named {
        return Ok(named);
    }
    if let Some(package) = env::var_os("CARGO_MANIFEST_DIR") {
        // The package is a folder of the workspace.
        return Path::new(&package).parent().map(Path::to_owned).ok_or_else(|| unknown("cargo's package is at the root of the disk"));
    }
    let current = env::current_dir().map_err(|error| unknown(&format!("the current folder is not there: {error}")))?;
    let checkout = current.ancestors().find(|folder| folder.join(".git").exists());
    checkout.map(Path::to_owned).ok_or_else(|| unknown("this is no git checkout"))
}

/// The files of `folder`.
pub(super) fn list(folder: &Path) -> Result<Listing, Failure> {
    files::list(folder).map_err(|error| refused(folder, &error))
}

fn refused(folder: &Path, error: &io::Error) -> Failure {
    let (exit, reason) = match error.kind() {
        io::ErrorKind::NotFound => (Exit::NotFound, "there is no such folder".to_owned()),
        io::ErrorKind::NotADirectory => (Exit::Usage, "it is a file, not a folder".to_owned()),
        io::ErrorKind::PermissionDenied => (Exit::Denied, "you may not read it".to_owned()),
        _ => (Exit::Failed, error.to_string()),
    };
    Failure::new(exit, "cannot count the words of", reason).value(folder.to_string_lossy(), "FOLDER").hint(format!(
        "{} demo {}",
        program(),
        quoted(&nearest(folder).to_string_lossy())
    ))
}

/// The nearest folder above `path` that there is.
fn nearest(path: &Path) -> &Path {
    let above = path.ancestors().skip(1).find(|above| fs::metadata(above).is_ok_and(|found| found.is_dir()));
    above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
