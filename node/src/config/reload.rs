//! What a reload (SIGHUP) can apply, and what waits for a restart.

use super::{
    key::{Key, find},
    merge::Resolved,
    raw::Name,
};

/// One key whose value is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name, as TOML spells it.
    pub name: Name,
    /// The value before, masked if secret; `None` when there was none.
    pub before: Option<String>,
    /// The value now, likewise.
    pub after: Option<String>,
}

/// The differences between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Applied at once.
    pub now: Vec<Change>,
    /// Told, and applied by a restart.
    pub restart: Vec<Change>,
}

/// What is different in `new`. Values are compared, not their origins: the same value from elsewhere is no change.
pub fn diff(old: &Resolved, new: &Resolved) -> Changes {
    let mut changes = Changes::default();
    let shown = |resolved: &Resolved, name: &Name| resolved.rows().into_iter().find(|row| row.name == name).map(|row| row.value);
    let mut names: Vec<&Name> = old.names().chain(new.names()).collect();
    names.sort();
    names.dedup();
    for name in names {
        if old.same(new, name) {
            continue;
        }
        let change = Change { name: name.clone(), before: shown(old, name), after: shown(new, name) };
        let applies = find(name).is_some_and(|key: &Key| key.reload);
        if applies { changes.now.push(change) } else { changes.restart.push(change) }
    }
    changes
}
