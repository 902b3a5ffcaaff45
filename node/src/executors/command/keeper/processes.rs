//! The processes of this machine, as `/proc` shows them.

use std::fs;

use rustix::process::Pid;

/// What is looked at of a process.
pub(super) struct Process {
    /// Its parent.
    pub(super) parent: Pid,
    /// Its session.
    pub(super) session: Pid,
}

/// The processes of which `wanted` is true. Those that come and go meanwhile may be missed.
pub(super) fn processes(wanted: impl Fn(&Process) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| look(*pid).is_some_and(|process| wanted(&process))).collect()
}

/// Fields of `/proc/<pid>/stat`; the second is a name in brackets that may hold anything. A zombie has nothing left to end.
fn look(pid: Pid) -> Option<Process> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().take(4).collect();
    let [state, parent, _group, session] = fields.as_slice() else { return None };
    let number = |text: &str| Pid::from_raw(text.parse().ok()?);
    (*state != "Z").then_some(Process { parent: number(parent)?, session: number(session)? })
}
