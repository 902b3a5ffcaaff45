//! What a key is; the table of all of them is `keys.rs`.

use super::{keys::KEYS, kind::Kind, raw::Name, suggest::closest};

/// One thing that can be configured. Everything that tells people about keys (`config show`, `config init`, `--help`,
/// suggestions, the reference) reads this table, so none of them can disagree.
#[derive(Debug)]
pub struct Key {
    /// Its name in `umbel.toml`; a segment `*` stands for a name of the user's own.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value when nobody says anything, as one would write it; `None` when there is none.
    pub default: Option<&'static str>,
    /// Its flag, and the short form.
    pub flag: Option<&'static str>,
    /// The short form of the flag.
    pub short: Option<&'static str>,
    /// Names of Celery's that mean the same, best first: as a setting (`worker_concurrency`, also under `[celery]`) and, in
    /// capitals behind `CELERY_`, as a variable.
    pub celery: &'static [&'static str],
    /// What it does, in a sentence or two.
    pub doc: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
    /// Whether a reload (SIGHUP) applies it; everything else waits for a restart.
    pub reload: bool,
}

impl Key {
    /// A key with nothing but a name, a kind and a sentence.
    pub(super) const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: None, flag: None, short: None, celery: &[], doc, secret: false, reload: false }
    }
    pub(super) const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
    pub(super) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }
    pub(super) const fn short(mut self, short: &'static str) -> Self {
        self.short = Some(short);
        self
    }
    pub(super) const fn celery(mut self, names: &'static [&'static str]) -> Self {
        self.celery = names;
        self
    }
    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
    pub(super) const fn reload(mut self) -> Self {
        self.reload = true;
        self
    }

    /// The variable of our own: `UMBEL_BROKER_URL`. `None` for keys below a name of the user's own, except roles: a task
    /// name cannot be spelled in a variable.
    pub fn env(&self) -> Option<String> {
        let plain = !self.name.contains('*');
        plain.then(|| format!("UMBEL_{}", self.name.replace('.', "_").to_uppercase()))
    }

    /// The variables of Celery's, best first.
    pub(super) fn celery_env(&self) -> impl Iterator<Item = String> {
        // Options within a setting have no variable.
        self.celery.iter().filter(|name| !name.contains('.')).map(|name| celery_env(name))
    }

    /// Whether the values of this key are found under `name`.
    pub fn matches(&self, name: &Name) -> bool {
        let pattern: Vec<&str> = self.name.split('.').collect();
        let segments = name.segments();
        pattern.len() == segments.len() && pattern.iter().zip(segments).all(|(p, s)| *p == "*" || p == s)
    }
}

/// `CELERY_WORKER_CONCURRENCY` of `worker_concurrency`.
pub(super) fn celery_env(setting: &str) -> String {
    format!("CELERY_{}", setting.to_uppercase())
}

/// The key that `name` is a value of. Keys spelled out come before those with a `*`.
pub fn find(name: &Name) -> Option<&'static Key> {
    let exact = KEYS.iter().find(|key| !key.name.contains('*') && key.matches(name));
    exact.or_else(|| KEYS.iter().find(|key| key.matches(name)))
}

/// The key of a flag, long or short.
pub fn find_flag(flag: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.flag == Some(flag) || key.short == Some(flag))
}

/// The name and the key that a variable of ours sets. `UMBEL_ROLES_<ROLE>_QUEUES` reaches roles of the user's own.
pub(super) fn find_env(variable: &str) -> Option<(Name, &'static Key)> {
    if let Some(key) = KEYS.iter().find(|key| key.env().as_deref() == Some(variable)) {
        return Some((Name::plain(key.name), key));
    }
    let (role, what) = variable.strip_prefix("UMBEL_ROLES_")?.rsplit_once('_')?;
    let name = Name::new(["roles", &role.to_lowercase(), &what.to_lowercase()]);
    find(&name).filter(|_| !role.is_empty()).map(|key| (name, key))
}

/// The name and the key that a setting of Celery's sets.
pub(super) fn find_celery(setting: &str) -> Option<(Name, &'static Key)> {
    KEYS.iter().find(|key| key.celery.contains(&setting)).map(|key| (Name::plain(key.name), key))
}

/// What an unknown name was perhaps meant to be, as a sentence.
pub(super) fn suggest(name: &Name) -> Option<String> {
    let segments = name.segments();
    // `[tasks.video.thumbnail]` without quotes is a table in a table; the nearest thing is the quoted name.
    if let [table @ ("tasks" | "limits" | "schedules" | "routes"), middle @ .., last] =
        segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
        && middle.len() > 1
    {
        let quoted = Name::new([*table, &middle.join("."), last]);
        if find(&quoted).is_some() {
            return Some(format!("names with dots need quotes: {quoted}"));
        }
    }
    let spelled: Vec<String> = KEYS
        .iter()
        .filter(|key| key.name.split('.').count() == segments.len())
        .map(|key| {
            let filled = key.name.split('.').zip(segments).map(|(p, s)| if p == "*" { s.as_str() } else { p });
            Name::new(filled).to_string()
        })
        .collect();
    let typed = name.to_string();
    let near = closest(&typed, spelled.iter().map(String::as_str).filter(|near| *near != typed));
    let elsewhere = || {
        let last = segments.last()?;
        KEYS.iter().map(|key| key.name).find(|key| !key.contains('*') && key.rsplit('.').next() == Some(last))
    };
    near.or_else(elsewhere).map(|near| format!("did you mean {near}?"))
}
