//! What is wrong with a configuration, for the person who wrote it.

use std::fmt;

use thiserror::Error;

use super::Origin;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// The key as `umbel.toml` spells it, or the variable or file at fault.
    pub key: String,
    /// The value as it was given; masked if the key is secret, `None` where there is none.
    pub value: Option<String>,
    /// Where it was given.
    pub origin: Box<Origin>,
    /// What is wrong, as the end of a sentence that starts with the key: `is not a duration`.
    pub problem: String,
    /// What is allowed, or what was perhaps meant.
    pub hint: Option<String>,
}

impl ConfigError {
    /// A mistake in `key` itself.
    pub fn new(key: impl Into<String>, origin: Origin, problem: impl Into<String>) -> Self {
        Self { key: key.into(), value: None, origin: Box::new(origin), problem: problem.into(), hint: None }
    }

    /// With the value at fault.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With what is allowed.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}) {}", self.origin, self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All mistakes of a configuration, one line each: they are shown together, so that nobody mends them one run at a time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}
