//! Folders of every kind.

use std::{fs, os::unix::fs::symlink};

use super::*;

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let listing = list(folder).unwrap();
    assert_eq!(listing.unreadable, []);
    listing.files.iter().map(|file| file.path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn hidden_folders_and_caches_are_left_out_and_hidden_files_are_not() {
    let folder = folder(&["b", "a/c", ".dot", ".git/d", "a/.e/f", "target/CACHEDIR.TAG", "target/debug/g", "target2/h"]);
    assert_eq!(names(folder.path()), [".dot", "a/c", "b", "target2/h"]);
    assert_eq!(names(&folder.path().join(".git")), ["d"], "what is named is counted whatever its name");
}

#[test]
fn links_are_not_followed() {
    let folder = folder(&["a/b"]);
    symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    symlink(folder.path().join("a/b"), folder.path().join("again")).unwrap();
    symlink("/nowhere", folder.path().join("broken")).unwrap();
    assert_eq!(names(folder.path()), ["a/b"]);
}

#[test]
fn the_folder_itself_must_be_there() {
    let folder = folder(&["a"]);
    assert_eq!(list(&folder.path().join("b")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(list(&folder.path().join("a")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn names_of_any_bytes_come_back() {
    use std::os::unix::ffi::OsStrExt;
    for name in [&b"plain"[..], b"with\nnewline", b"\xff\xfe", "é".as_bytes()] {
        let path = Path::new(OsStr::from_bytes(name));
        let json = serde_json::to_string(&WirePath::from(path)).unwrap();
        assert_eq!(serde_json::from_str::<WirePath>(&json).unwrap().to_path(), path);
    }
}

fn found(count: usize, bytes: impl Fn(usize) -> u64) -> Vec<Found> {
    (0..count).map(|n| Found { path: PathBuf::from(format!("{n}")), bytes: bytes(n) }).collect()
}

#[test]
fn a_file_is_a_task_until_there_are_too_many() {
    assert!(share(&[]).is_empty());
    assert_eq!(share(&found(TASKS_MAX, |_| 1)).len(), TASKS_MAX);
    for bytes in [|_| 0, |n| if n == 7 { 1 << 40 } else { 10 }, |n| n as u64 * 100] {
        let files = found(50_000, bytes);
        let batches = share(&files);
        assert!((1..=TASKS_MAX).contains(&batches.len()), "{} batches", batches.len());
        let all: Vec<WirePath> = batches.concat();
        assert!(all.iter().zip(&files).all(|(wire, file)| wire.to_path() == file.path) && all.len() == files.len());
    }
}
