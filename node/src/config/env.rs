//! The environment, and `.env` behind it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Origin,
    celery::{APP_SETTINGS, COMMAND_VARIABLES},
    interpolate::interpolate,
    key::{celery_env, find_celery, find_env},
    keys::KEYS,
    raw::{Entry, Name, Raw},
    suggest::closest,
};

/// Variables by name, each with where it was set.
#[derive(Debug, Clone, Default)]
pub struct Env {
    vars: BTreeMap<String, Var>,
}

#[derive(Clone)]
struct Var {
    value: String,
    dotenv: Option<(PathBuf, usize)>,
}

impl std::fmt::Debug for Var {
    /// Without the value: any variable may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.dotenv)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Self {
        let var = |(name, value): (K, V)| (name.into(), Var { value: value.into(), dotenv: None });
        Self { vars: vars.into_iter().map(var).collect() }
    }
}

impl Env {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// The value of a variable. Empty is unset: compose files pass `${X:-}` for what nobody set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(|var| var.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Where a variable was set.
    pub fn origin(&self, name: &str) -> Origin {
        let dotenv = self.vars.get(name).and_then(|var| var.dotenv.clone());
        Origin::Env { name: name.to_owned(), dotenv }
    }

    /// Adds the lines of a `.env` file for variables that are not set yet. Gives back what could not be understood: the file
    /// is often shared with other programs, so that is a warning and no more.
    pub fn add_dotenv(&mut self, path: &Path, text: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let number = index + 1;
            match dotenv_line(line, &|name| self.get(name).map(str::to_owned)) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    // Within the file the last line wins, as in every shell; against the process it never does.
                    let from_process = self.vars.get(&name).is_some_and(|var| var.dotenv.is_none() && !var.value.is_empty());
                    if !from_process {
                        self.vars.insert(name, Var { value, dotenv: Some((path.to_owned(), number)) });
                    }
                }
                Err(problem) => warnings.push(format!("{}:{number} is ignored: it {problem}", path.display())),
            }
        }
        warnings
    }

    /// What the variables set, and warnings about those that look like ours and are not known.
    pub(super) fn entries(&self) -> (Vec<Entry>, Vec<String>) {
        let mut entries = Vec::new();
        let mut warnings = Vec::new();
        let mut push = |name: Name, variable: &str, value: &str| {
            entries.push(Entry { name, raw: Raw::Text(value.to_owned()), origin: self.origin(variable) });
        };
        // In the order of the table, so that of two variables of Celery's for one key the better one comes first.
        for variable in KEYS.iter().flat_map(|key| key.celery_env()) {
            for (variable, raw) in self.with_file_twin(&variable) {
                let setting = setting_of(&variable);
                if let Some((name, key)) = find_celery(&setting)
                    && (key.secret || !variable.ends_with("_FILE"))
                {
                    push(name, &variable, &raw);
                }
            }
        }
        for variable in self.vars.keys().filter(|name| self.get(name).is_some()) {
            let value = self.get(variable).unwrap_or_default();
            if let Some((name, _)) = find_env(variable) {
                push(name, variable, value);
            } else if let Some((name, key)) = variable.strip_suffix("_FILE").and_then(find_env)
                && key.secret
            {
                push(name, variable, &format!("@file:{value}"));
            } else if variable.starts_with("UMBEL_") && !OUR_VARIABLES.contains(&variable.as_str()) {
                warnings.push(self.unknown(variable, KEYS.iter().filter_map(|key| key.env())));
            } else if variable.starts_with("CELERY_") && !is_known_to_celery(variable) {
                warnings.push(self.unknown(variable, known_to_celery()));
            }
        }
        for (variable, raw) in self.with_file_twin("REDIS_URL") {
            push(Name::plain("broker.url"), &variable, &raw);
            push(Name::plain("results.url"), &variable, &raw);
        }
        (entries, warnings)
    }

    /// The variable, and its `_FILE` twin as a reference to the file.
    fn with_file_twin(&self, variable: &str) -> Vec<(String, String)> {
        let twin = format!("{variable}_FILE");
        let plain = self.get(variable).map(|value| (variable.to_owned(), value.to_owned()));
        let file = self.get(&twin).map(|path| (twin.clone(), format!("@file:{path}")));
        plain.into_iter().chain(file).collect()
    }

    fn unknown(&self, variable: &str, known: impl Iterator<Item = String>) -> String {
        let known: Vec<String> = known.collect();
        let hint = closest(variable, known.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?"));
        format!("the variable {} is not known and does nothing{}", self.origin(variable), hint.unwrap_or_default())
    }
}

/// Variables of ours that are not keys.
const OUR_VARIABLES: &[&str] = &[
    "UMBEL_CONFIG",
    // Set for the commands that tasks run, which may call us again.
    "UMBEL_TASK_ID",
    "UMBEL_TASK_NAME",
    "UMBEL_ROOT_ID",
    "UMBEL_QUEUE",
    "UMBEL_ATTEMPT",
    "UMBEL_RETRIES",
    "UMBEL_DEADLINE",
    "UMBEL_PROGRESS_FD",
];

fn setting_of(variable: &str) -> String {
    let name = variable.strip_prefix("CELERY_").unwrap_or(variable);
    name.strip_suffix("_FILE").unwrap_or(name).to_lowercase()
}

fn is_known_to_celery(variable: &str) -> bool {
    let setting = setting_of(variable);
    let in_file = variable.ends_with("_FILE");
    let has_key = find_celery(&setting).is_some_and(|(_, key)| key.secret || !in_file);
    has_key || (!in_file && APP_SETTINGS.contains(&setting.as_str())) || COMMAND_VARIABLES.contains(&variable)
}

fn known_to_celery() -> impl Iterator<Item = String> {
    let keys = KEYS.iter().flat_map(|key| key.celery_env());
    keys.chain(APP_SETTINGS.iter().map(|name| celery_env(name))).chain(COMMAND_VARIABLES.iter().map(|name| (*name).to_owned()))
}

/// One line of a `.env` file: `NAME=value`, `export NAME='value'`, a comment, or nothing.
fn dotenv_line(line: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<(String, String)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, value) = line.split_once('=').ok_or("has no =")?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Err("has a name that is not one".to_owned());
    }
    let value = match value.chars().next() {
        Some('\'') => quoted(&value[1..], '\'')?,
        Some('"') => interpolate(&quoted(&value[1..], '"')?, lookup)?,
        _ => {
            let end =
                value.char_indices().find(|(at, c)| *c == '#' && value[..*at].ends_with([' ', '\t'])).map_or(value.len(), |(at, _)| at);
            let value = if value.starts_with('#') { "" } else { &value[..end] };
            interpolate(value.trim_end(), lookup)?
        }
    };
    Ok(Some((name.to_owned(), value)))
}

/// The text up to the closing quote; within double quotes a backslash keeps the next character.
fn quoted(text: &str, quote: char) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => {
                let rest = chars.as_str().trim_start();
                let clean = rest.is_empty() || rest.starts_with('#');
                return if clean { Ok(out) } else { Err("has text behind its closing quote".to_owned()) };
            }
            '\\' if quote == '"' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('$') => out.push_str("$$"),
                Some(c @ ('"' | '\\')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => {}
            },
            c => out.push(c),
        }
    }
    Err("has a quote that is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_shells_read_them() {
        let lookup = |name: &str| (name == "H").then(|| "host".to_owned());
        let read = |line: &str| dotenv_line(line, &lookup);
        for (line, value) in [
            ("A=b", "b"),
            ("export A = b", "b"),
            ("A=b # note", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A='${H} # x'", "${H} # x"),
            ("A=\"x\\n${H}\\$\\\"\" # note", "x\nhost$\""),
            ("A=${H}:${N:-1}", "host:1"),
            ("A=", ""),
        ] {
            assert_eq!(read(line), Ok(Some(("A".to_owned(), value.to_owned()))), "{line}");
        }
        assert_eq!(read("  # A=b"), Ok(None));
        for (line, problem) in [
            ("A", "has no ="),
            ("=b", "has a name that is not one"),
            ("A='b", "has a quote that is not closed"),
            ("A='b'c", "has text behind its closing quote"),
        ] {
            assert_eq!(read(line), Err(problem.to_owned()), "{line}");
        }
    }

    #[test]
    fn the_process_is_stronger_and_empty_is_unset() {
        let mut env: Env = [("A", "process"), ("B", "")].into_iter().collect();
        let warnings = env.add_dotenv(Path::new(".env"), "A=file\nB=file\nB=last\nnonsense\n");
        assert_eq!((env.get("A"), env.get("B")), (Some("process"), Some("last")));
        assert_eq!(env.origin("B").to_string(), "B, .env:3");
        assert_eq!(warnings, [".env:4 is ignored: it has no ="]);
    }
}
