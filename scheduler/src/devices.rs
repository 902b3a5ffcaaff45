//! Which device each slot works with: GPUs and their like.
//!
//! A program finds the devices it may use in a variable of its environment. A node that gives each slot one of them names it
//! there, so that two tasks that run at a time do not meet on a device while there are as many devices as slots.

use std::sync::Arc;

/// What names the device of a slot, whoever made it.
pub const VARIABLE: &str = "UMBEL_DEVICE";

/// The variables that CUDA, HIP and ROCm look at. The first that is set is the one that slots get theirs in.
pub const VISIBLE: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];

/// What tells NVIDIA's container runtime which devices to bring into a container.
const CONTAINER: &str = "NVIDIA_VISIBLE_DEVICES";

/// A device, as the program of a task is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is called in that variable: `0`, `GPU-8932f937`.
    pub name: Arc<str>,
    variable: &'static str,
}

impl Device {
    /// The variables of a process that is to use it and no other.
    pub fn env(&self) -> [(&'static str, &str); 2] {
        [(self.variable, &*self.name), (VARIABLE, &*self.name)]
    }
}

/// The devices of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    names: Vec<Arc<str>>,
    variable: &'static str,
    /// Where they were found, for a person.
    from: String,
}

impl Default for Devices {
    fn default() -> Self {
        Self { names: Vec::new(), variable: VISIBLE[0], from: "nowhere".to_owned() }
    }
}

impl Devices {
    /// Those that somebody named, at the place `from`. `env` is the node's environment.
    pub fn named<N: AsRef<str>>(names: &[N], from: impl Into<String>, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let variable = VISIBLE.into_iter().find(|name| env(name).is_some()).unwrap_or(VISIBLE[0]);
        Self { names: names.iter().map(|name| name.as_ref().into()).collect(), variable, from: from.into() }
    }

    /// Those that the node may use: what its environment names, else as many as there are `files`, which is how many
    /// `/dev/nvidia<n>` there are.
    ///
    /// CUDA counts what it is shown from zero, whatever the numbers of the files. So does it in a container that was given some of a
    /// machine's devices: there are as many files then as `NVIDIA_VISIBLE_DEVICES` names. Where there are more, nobody has hidden the
    /// others, and the numbers are the machine's.
    pub fn found(env: &dyn Fn(&str) -> Option<String>, files: usize) -> Self {
        if let Some((variable, list)) = VISIBLE.into_iter().find_map(|name| Some((name, env(name)?))) {
            return Self { names: visible(&list), variable, from: variable.to_owned() };
        }
        let counted = |count: usize| (0..count).map(|number| number.to_string().into()).collect();
        let files_said = || Self { names: counted(files), from: "/dev/nvidia*".to_owned(), ..Self::default() };
        match env(CONTAINER).as_deref().map(str::trim) {
            None | Some("all") => files_said(),
            Some("" | "none" | "void") => Self { from: CONTAINER.to_owned(), ..Self::default() },
            Some(list) => {
                let named = visible(list);
                let numbers = named.iter().all(|name| name.parse::<usize>().is_ok());
                let names = if numbers && files <= named.len() { counted(named.len()) } else { named };
                Self { names, from: CONTAINER.to_owned(), ..Self::default() }
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Where they were found.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The device of slot number `slot`: each its own as long as there are enough, then in turn.
    pub fn of_slot(&self, slot: usize) -> Option<Device> {
        let name = self.names.get(slot.checked_rem(self.names.len())?)?;
        Some(Device { name: name.clone(), variable: self.variable })
    }

    /// How many of `slots` slots meet on the device that most have, if any do.
    pub fn shared_by(&self, slots: usize) -> Option<usize> {
        let most = slots.div_ceil(self.names.len().max(1));
        (!self.is_empty() && most > 1).then_some(most)
    }
}

/// The devices of a list as CUDA reads it: what it does not know ends the list, and `-1` is how people hide all of them.
fn visible(list: &str) -> Vec<Arc<str>> {
    let known = |name: &&str| name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("GPU-") || name.starts_with("MIG-");
    let mut names: Vec<Arc<str>> = Vec::new();
    for name in list.split(',').map(str::trim).take_while(known) {
        if !names.iter().any(|known| **known == *name) {
            names.push(name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests;
