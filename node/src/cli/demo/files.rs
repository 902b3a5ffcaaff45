//! Finding the files of a folder, and sharing them out among tasks.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Up to this many files, each is a task of its own; beyond it a task gets several.
pub(super) const TASKS_MAX: usize = 2_000;

/// About how many tasks there are when a task gets several files. The fewer, the fewer words are handed on twice; the more,
/// the more evenly the cores are busy to the end.
const BATCHES: u64 = 500;

/// What opening a file costs, in bytes of counting: it keeps a batch of many small files from growing without bound.
const FILE_COST_BYTES: u64 = 16 << 10;

/// A file to count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    path: PathBuf,
    bytes: u64,
}

/// What a walk through a folder has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Regular files, by path.
    pub(super) files: Vec<Found>,
    /// Folders that could not be read, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// A path on its way through JSON: text where it is UTF-8, else its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum WirePath {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for WirePath {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_encoded_bytes().to_vec()),
        }
    }
}

impl WirePath {
    /// The path again.
    #[cfg(unix)]
    pub(super) fn to_path(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        match self {
            Self::Text(text) => PathBuf::from(text),
            Self::Bytes(bytes) => PathBuf::from(OsStr::from_bytes(bytes)),
        }
    }

    /// The path again. Where paths are not bytes, one that is not Unicode cannot be told to a task exactly; opening it fails
    /// and is reported like any unreadable file.
    #[cfg(not(unix))]
    pub(super) fn to_path(&self) -> PathBuf {
        match self {
            Self::Text(text) => PathBuf::from(text),
            Self::Bytes(bytes) => PathBuf::from(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
}

/// Every regular file in `folder` and the folders below it.
///
/// Left out: folders whose name begins with a dot, and folders that call themselves a cache (`CACHEDIR.TAG`), as cargo's
/// `target` does. Symbolic links are not followed, so a file counts once and a loop is no danger.
///
/// # Errors
/// When `folder` itself cannot be read; one below it that cannot is only reported.
pub(super) fn list(folder: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut folders = Vec::new();
    visit_all(fs::read_dir(folder)?, folder, &mut listing, &mut folders);
    while let Some(folder) = folders.pop() {
        match fs::read_dir(&folder) {
            Ok(entries) => visit_all(entries, &folder, &mut listing, &mut folders),
            Err(error) => listing.unreadable.push((folder, error.to_string())),
        }
    }
    listing.files.sort();
    listing.unreadable.sort();
    Ok(listing)
}

fn visit_all(entries: fs::ReadDir, folder: &Path, listing: &mut Listing, folders: &mut Vec<PathBuf>) {
    for entry in entries {
        if let Err(error) = entry.and_then(|entry| visit(&entry, listing, folders)) {
            listing.unreadable.push((folder.to_owned(), error.to_string()));
        }
    }
}

fn visit(entry: &fs::DirEntry, listing: &mut Listing, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    let kind = entry.file_type()?;
    let path = entry.path();
    if kind.is_file() {
        // Gone again since it was listed: the task that opens it says so.
        let bytes = entry.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        listing.files.push(Found { path, bytes });
    } else if kind.is_dir() && !is_hidden(&entry.file_name()) && !path.join("CACHEDIR.TAG").is_file() {
        folders.push(path);
    }
    Ok(())
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Shares `files` out among at most [`TASKS_MAX`] tasks of about equal work, neighbours together.
pub(super) fn share(files: &[Found]) -> Vec<Vec<WirePath>> {
    if files.len() <= TASKS_MAX {
        return files.iter().map(|file| vec![WirePath::from(&*file.path)]).collect();
    }
    let cost = |file: &Found| file.bytes + FILE_COST_BYTES;
    let total: u64 = files.iter().map(cost).sum();
    let enough = total.div_ceil(BATCHES);
    let mut batches = vec![Vec::new()];
    let mut filled = 0;
    for file in files {
        if filled >= enough {
            batches.push(Vec::new());
            filled = 0;
        }
        filled += cost(file);
        if let Some(batch) = batches.last_mut() {
            batch.push(WirePath::from(&*file.path));
        }
    }
    batches
}

#[cfg(test)]
mod tests;
