//! The devices of a node: those its role names, or those that are there.

use std::path::Path;

use umbel_scheduler::devices::Devices;

use crate::config::{self, Concurrency, Plan};

/// Where the files of NVIDIA's devices are.
const FILES: &str = "/dev";

/// What a node of this plan works with.
pub(super) fn of(plan: &Plan) -> Devices {
    let Some(wanted) = &plan.devices else { return Devices::default() };
    let env = |name: &str| std::env::var(name).ok();
    match wanted.value.as_slice() {
        [] => Devices::default(),
        [word] if word == config::NONE => Devices::default(),
        [word] if word == config::AUTO => Devices::found(&env, files(Path::new(FILES))),
        names => Devices::named(names, wanted.origin.to_string(), &env),
    }
}

/// How many tasks each executor runs at a time: where nobody has given a number, one for each device, else one for each CPU.
pub(super) fn slots(plan: &Plan, devices: &Devices) -> usize {
    match plan.concurrency.value {
        Concurrency::Auto if !devices.is_empty() => devices.len(),
        concurrency => concurrency.resolve(config::cpus()),
    }
}

/// What a person should know about devices before the node starts: none although some are wanted, fewer than slots.
pub(super) fn remark(plan: &Plan, devices: &Devices, slots: usize) -> Option<String> {
    let wanted = plan.devices.as_ref()?;
    if devices.is_empty() {
        let named = wanted.value.first().is_some_and(|word| word != config::AUTO);
        let from = devices.from();
        return (!named).then(|| format!("no device was found ({from} names none): tasks run without one; name them in roles.*.devices"));
    }
    let most = devices.shared_by(slots)?;
    Some(format!("{slots} slots share {} devices: up to {most} tasks meet on one; -c {} gives each its own", devices.len(), devices.len()))
}

/// What there is, in a line.
pub(super) fn line(devices: &Devices) -> Option<String> {
    let names: Vec<&str> = devices.names().collect();
    (!devices.is_empty()).then(|| format!("devices    {}   ({})", names.join("  "), devices.from()))
}

/// How many `nvidia<n>` there are.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = |name: &str| name.strip_prefix("nvidia").is_some_and(|number| number.parse::<u32>().is_ok());
    entries.filter(|entry| entry.file_name().to_str().is_some_and(numbered)).count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbered_files_are_devices() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia", "tty1"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(super::files(folder.path()), 2);
        assert_eq!(super::files(&folder.path().join("absent")), 0);
    }
}
