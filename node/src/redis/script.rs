//! Server-side scripts.
//!
//! A script is sent by its digest. A server that does not know it (it was restarted, or a replica took over) is given the
//! text, once, and asked again.

use std::sync::OnceLock;

use redis::Cmd;

/// A script; one `static` each.
#[derive(Debug)]
pub(crate) struct Script {
    /// What it is called in errors.
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, digest: OnceLock::new() }
    }

    fn digest(&self) -> &str {
        self.digest.get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string())
    }

    /// The beginning of a call with `keys` keys; keys and arguments are to be added.
    pub(crate) fn call(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.digest()).arg(keys);
        command
    }

    /// The command that gives the server the text.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.text);
        command
    }
}
