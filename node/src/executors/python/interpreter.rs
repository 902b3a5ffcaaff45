//! Which Python: the one that the application is installed for.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The names an interpreter has in a `bin` folder.
const NAMES: [&str; 2] = ["python3", "python"];

/// An interpreter, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program.
    pub program: PathBuf,
    /// What led to it.
    pub found_by: String,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program.display(), self.found_by)
    }
}

/// There is no interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no Python was found: looked at {}", .looked_at.join(", "))]
pub struct NoInterpreter {
    /// Where.
    pub looked_at: Vec<String>,
}

/// What is known of this machine.
pub struct Search<'a> {
    /// `--python`.
    pub wanted: Option<&'a str>,
    /// A variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The directory the application is in.
    pub directory: &'a Path,
    /// The output of a program that manages environments, such as `poetry env info --path`; `None` where it is not there.
    pub ask: &'a dyn Fn(&[&str]) -> Option<String>,
}

impl Search<'_> {
    /// The interpreter: what `--python` names, the active environment, `.venv`, what the lock file's own tool says, and last
    /// whatever is in `PATH`.
    ///
    /// # Errors
    /// When there is none; or when the one that was asked for is not there.
    pub fn find(&self) -> Result<Interpreter, NoInterpreter> {
        let mut looked_at = Vec::new();
        if let Some(wanted) = self.wanted {
            let found = match wanted.contains('/') {
                true => Some(PathBuf::from(wanted)).filter(|path| path.is_file()),
                false => self.in_path(wanted),
            };
            looked_at.push(format!("--python {wanted}"));
            return found.map(|program| interpreter(program, "--python")).ok_or(NoInterpreter { looked_at });
        }
        if let Some(environment) = (self.env)("VIRTUAL_ENV").filter(|path| !path.is_empty()) {
            if let Some(program) = inside(Path::new(&environment)) {
                return Ok(interpreter(program, "VIRTUAL_ENV"));
            }
            looked_at.push(format!("VIRTUAL_ENV={environment}"));
        }
        for folder in [".venv", "venv"] {
            let environment = self.directory.join(folder);
            if let Some(program) = inside(&environment) {
                return Ok(interpreter(program, folder));
            }
            looked_at.push(environment.display().to_string());
        }
        for (file, question, leads_to_program) in [
            ("uv.lock", ["uv", "python", "find", "--offline"].as_slice(), true),
            ("poetry.lock", ["poetry", "env", "info", "--path"].as_slice(), false),
        ] {
            if !self.directory.join(file).is_file() {
                continue;
            }
            looked_at.push(question.join(" "));
            let answer = (self.ask)(question).map(|answer| PathBuf::from(answer.trim()));
            let program = answer.and_then(|path| if leads_to_program { Some(path).filter(|path| path.is_file()) } else { inside(&path) });
            if let Some(program) = program {
                return Ok(interpreter(program, &question.join(" ")));
            }
        }
        for name in NAMES {
            if let Some(program) = self.in_path(name) {
                return Ok(interpreter(program, "PATH"));
            }
        }
        looked_at.push("PATH".to_owned());
        Err(NoInterpreter { looked_at })
    }

    fn in_path(&self, name: &str) -> Option<PathBuf> {
        let path = (self.env)("PATH")?;
        path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(name)).find(|program| program.is_file())
    }
}

fn inside(environment: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| environment.join("bin").join(name)).find(|program| program.is_file())
}

fn interpreter(program: PathBuf, found_by: &str) -> Interpreter {
    Interpreter { program, found_by: found_by.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], vars: &[(&str, &str)], wanted: Option<&str>, answer: &str) -> Result<Interpreter, NoInterpreter> {
        let home = tempfile::tempdir().unwrap();
        for file in files {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let at = |text: &str| text.replace("HOME", &home.path().display().to_string());
        let env = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| at(value));
        let ask = |_: &[&str]| (!answer.is_empty()).then(|| at(answer));
        let wanted = wanted.map(at);
        let search = Search { wanted: wanted.as_deref(), env: &env, directory: home.path(), ask: &ask };
        let mut found = search.find()?;
        found.program = found.program.strip_prefix(home.path()).unwrap().to_owned();
        Ok(found)
    }

    /// Goal: each place is looked at in its turn, and the choice says what led to it.
    #[test]
    fn places_come_in_their_order() {
        let all = ["env/bin/python", ".venv/bin/python3", "uv.lock", "uv/python3", "poetry.lock", "po/bin/python", "path/python3"];
        let vars = [("VIRTUAL_ENV", "HOME/env"), ("PATH", "HOME/none:HOME/path")];
        let case = |files: &[&str], vars: &[(&str, &str)], wanted, answer| {
            let found = found(files, vars, wanted, answer).unwrap();
            (found.program.display().to_string(), found.found_by)
        };
        let is = |program: &str, by: &str| (program.to_owned(), by.to_owned());
        assert_eq!(case(&all, &vars, Some("HOME/path/python3"), ""), is("path/python3", "--python"));
        assert_eq!(case(&all, &vars, Some("python3"), ""), is("path/python3", "--python"));
        assert_eq!(case(&all, &vars, None, ""), is("env/bin/python", "VIRTUAL_ENV"));
        assert_eq!(case(&all, &vars[1..], None, ""), is(".venv/bin/python3", ".venv"));
        assert_eq!(case(&all[2..], &vars[1..], None, "HOME/uv/python3\n"), is("uv/python3", "uv python find --offline"));
        assert_eq!(case(&all[4..], &vars[1..], None, "HOME/po"), is("po/bin/python", "poetry env info --path"));
        assert_eq!(case(&all[6..], &vars[1..], None, ""), is("path/python3", "PATH"));
    }

    /// Goal: one that was asked for is not replaced by another, and the error says where was looked.
    #[test]
    fn what_is_not_there_is_named() {
        let error = found(&["path/python3"], &[("PATH", "HOME/path")], Some("python9"), "").unwrap_err();
        assert_eq!(error.to_string(), "no Python was found: looked at --python python9");
        let error = found(&[], &[("VIRTUAL_ENV", "HOME/gone"), ("PATH", "")], None, "").unwrap_err();
        assert!(error.to_string().contains("VIRTUAL_ENV=") && error.to_string().ends_with("PATH"), "{error}");
    }
}
