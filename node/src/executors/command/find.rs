//! Where a program is.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// A program that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotFound {
    /// Why, as the end of a sentence that begins with the program's name.
    pub(super) reason: String,
}

/// The file that `program` names: a path (from `cwd`, if it is relative), or a name looked for in the directories of `path`.
///
/// # Errors
/// Says where it was looked for, and whether something there could not be run.
pub(super) fn find(program: &str, path: &str, cwd: Option<&Path>) -> Result<PathBuf, NotFound> {
    if program.contains('/') {
        let file = cwd.map_or_else(|| PathBuf::from(program), |cwd| cwd.join(program));
        let reason = match (file.is_file(), is_executable(&file)) {
            (true, true) => return Ok(std::path::absolute(&file).unwrap_or(file)),
            (true, false) => "is not executable",
            (false, _) => "is not there",
        };
        return Err(NotFound { reason: reason.to_owned() });
    }
    let mut unusable = None;
    for directory in path.split(':').filter(|directory| !directory.is_empty()) {
        let file = Path::new(directory).join(program);
        if !file.is_file() {
            continue;
        }
        if is_executable(&file) {
            return Ok(std::path::absolute(&file).unwrap_or(file));
        }
        unusable.get_or_insert(file);
    }
    let reason = match unusable {
        Some(file) => format!("is not executable at {}", file.display()),
        None if path.is_empty() => "is looked for in PATH, which is empty".to_owned(),
        None => format!("is in no directory of PATH={path}"),
    };
    Err(NotFound { reason })
}

fn is_executable(file: &Path) -> bool {
    access(file, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn programs_are_found_as_shells_find_them() {
        let dir = tempfile::tempdir().unwrap();
        let (with, without) = (dir.path().join("with"), dir.path().join("without"));
        fs::create_dir_all(&with).unwrap();
        fs::create_dir_all(without.join("tool")).unwrap();
        fs::copy("/bin/sh", with.join("tool")).unwrap();
        fs::write(with.join("text"), "x").unwrap();
        let path = format!("{}::{}", without.display(), with.display());
        assert_eq!(find("tool", &path, None), Ok(with.join("tool")), "a directory of that name is not a program");
        assert_eq!(find("./tool", "", Some(&with)), Ok(with.join("./tool")));
        let reason = |found: Result<PathBuf, NotFound>| found.unwrap_err().reason;
        assert_eq!(reason(find("nope", &path, None)), format!("is in no directory of PATH={path}"));
        assert_eq!(reason(find("nope", "", None)), "is looked for in PATH, which is empty");
        assert_eq!(reason(find("/nope", &path, None)), "is not there");
        assert_eq!(reason(find("text", &path, None)), format!("is not executable at {}", with.join("text").display()));
        assert_eq!(reason(find("./text", &path, Some(&with))), "is not executable");
    }
}
