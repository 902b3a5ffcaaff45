//! `umbel.toml`: text to values with line numbers.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, Origin,
    env::Env,
    interpolate::interpolate,
    key::{find, find_celery, suggest},
    raw::{Entry, Name, Raw},
    suggest::closest,
};

/// Deeper tables than any key has are refused.
const DEPTH_MAX: usize = 16;

/// What a file sets, in the order it is written in, `${VAR}` filled in from `env`.
///
/// Everything is looked at even after a mistake, so that all of them are told at once.
pub(super) fn entries(path: &Path, text: &str, env: &Env) -> (Vec<Entry>, Vec<ConfigError>) {
    let mut reader = Reader { path, text, env, found: Vec::new(), errors: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reader.table(&Name::new(Vec::<String>::new()), table.get_ref(), 0),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let origin = reader.origin(at);
            let problem = format!("is not TOML: {}", error.message().trim_end_matches('.').replace('\n', ", "));
            reader.errors.push(ConfigError::new(path.display().to_string(), origin, problem));
        }
    }
    reader.found.sort_by_key(|(at, _)| *at);
    (reader.found.into_iter().map(|(_, entry)| entry).collect(), reader.errors)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    env: &'a Env,
    found: Vec<(usize, Entry)>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn origin(&self, at: usize) -> Origin {
        let line = 1 + self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        Origin::file(self.path, line)
    }

    fn table(&mut self, name: &Name, table: &DeTable<'_>, depth: usize) {
        for (segment, value) in table.iter() {
            let inner = name.join(segment.get_ref());
            let at = segment.span().start;
            if let Some(key) = find(&inner) {
                match self.raw(value.get_ref(), depth) {
                    Ok(raw) => self.found.push((at, Entry { name: inner, raw, origin: self.origin(at) })),
                    Err(problem) => {
                        let error = ConfigError::new(key.name, self.origin(at), problem);
                        self.errors.push(ConfigError { key: inner.to_string(), ..error });
                    }
                }
                continue;
            }
            match value.get_ref() {
                DeValue::Table(celery) if inner.segments() == ["celery"] => self.celery(celery),
                DeValue::Table(table) if depth < DEPTH_MAX => self.table(&inner, table, depth + 1),
                _ => {
                    let error = ConfigError::new(inner.to_string(), self.origin(at), "is not a key");
                    let hint = suggest(&inner).unwrap_or_else(|| "see: node config init".to_owned());
                    self.errors.push(error.hint(hint));
                }
            }
        }
    }

    /// `[celery]`: Celery's own names. Those with a counterpart become it; the rest is the Python application's.
    fn celery(&mut self, table: &DeTable<'_>) {
        for (setting, value) in table.iter() {
            let (at, written) = (setting.span().start, setting.get_ref().to_lowercase());
            let origin = self.origin(at);
            let known = super::celery::APP_SETTINGS.contains(&written.as_str());
            let (name, raw) = match (find_celery(&written), self.raw(value.get_ref(), 0)) {
                (Some((name, _)), Ok(raw)) => (name, raw),
                (None, Ok(raw)) if known => (Name::new(["celery", &written]), raw),
                (_, Err(problem)) => {
                    self.errors.push(ConfigError::new(format!("celery.{written}"), origin, problem));
                    continue;
                }
                (None, _) => {
                    let names = super::keys::KEYS.iter().flat_map(|key| key.celery).chain(super::celery::APP_SETTINGS).copied();
                    let error = ConfigError::new(format!("celery.{written}"), origin, "is not a setting of Celery's");
                    let hint = closest(&written, names).map(|near| format!("did you mean celery.{near}?"));
                    self.errors.push(ConfigError { hint, ..error });
                    continue;
                }
            };
            // Behind everything of the same file: a key of our own is meant more exactly.
            self.found.push((self.text.len() + at, Entry { name, raw, origin }));
        }
    }

    fn raw(&self, value: &DeValue<'_>, depth: usize) -> Result<Raw, String> {
        if depth > DEPTH_MAX {
            return Err(format!("is nested deeper than {DEPTH_MAX} levels"));
        }
        let lookup = |name: &str| self.env.get(name).map(str::to_owned);
        Ok(match value {
            DeValue::String(text) => Raw::Text(interpolate(text, &lookup)?),
            DeValue::Integer(int) => {
                let parsed = i64::from_str_radix(int.as_str(), int.radix());
                Raw::Int(parsed.map_err(|_| "is a number beyond 64 bits".to_owned())?)
            }
            DeValue::Float(float) => Raw::Float(float.as_str().parse().map_err(|_| "is not a number".to_owned())?),
            DeValue::Boolean(bool) => Raw::Bool(*bool),
            DeValue::Datetime(time) => Raw::Text(time.to_string()),
            DeValue::Array(items) => Raw::List(items.iter().map(|item| self.raw(item.get_ref(), depth + 1)).collect::<Result<_, _>>()?),
            DeValue::Table(table) => {
                let mut pairs: Vec<_> = table.iter().collect();
                pairs.sort_by_key(|(key, _)| key.span().start);
                let pairs =
                    pairs.into_iter().map(|(key, item)| Ok::<_, String>((key.get_ref().to_string(), self.raw(item.get_ref(), depth + 1)?)));
                Raw::Map(pairs.collect::<Result<_, _>>()?)
            }
        })
    }
}
