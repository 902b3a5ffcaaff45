//! Where the node of an embedded store listens: the file `<store>.node` beside it.
//!
//! Written by the node once it listens, readable by its user only (it may hold the token), removed when it stops. A node that
//! was killed leaves it behind; whoever finds nobody listening there knows.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::remote::Remote;

/// What the file says.
#[derive(Clone, Serialize, Deserialize)]
pub struct Endpoint {
    /// The node's name.
    pub node: String,
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its token, if it wants one.
    pub token: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} at {}, process {})", self.node, self.address, self.pid)
    }
}

impl Endpoint {
    /// The file's place beside `store`.
    pub fn path(store: &Path) -> PathBuf {
        beside(store, "node")
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, store: &Path) -> io::Result<Written> {
        let (path, fresh) = (Self::path(store), beside(store, &format!("node.{}", self.pid)));
        let text = serde_json::to_vec_pretty(self)?;
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        fs::rename(&fresh, &path)?;
        Ok(Written { path, text })
    }

    /// Reads the file; `None` when there is none, or it cannot be understood.
    pub fn read(store: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(store)).ok()?).ok()
    }

    /// How to ask the node.
    pub fn remote(&self) -> Remote {
        let mut address = self.address;
        // A node that listens everywhere is asked over loopback.
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        Remote::Listening { address, token: self.token.clone() }
    }
}

fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    name.into()
}

/// A file that was written; removed when this is dropped, unless somebody else has written it since.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    text: Vec<u8>,
}

impl Drop for Written {
    fn drop(&mut self) {
        if fs::read(&self.path).is_ok_and(|text| text == self.text) {
            // It is only a hint to others; leaving it behind does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}
