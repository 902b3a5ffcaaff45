//! What the client of an application is told by a node that runs it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value as Json;
use umbel_tests::python::program;

/// Ends the node with its test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `<app>.py` of this folder on a node and, with the same variables, as a program; gives what the program prints, and what both
/// said besides.
///
/// # Panics
/// When what is printed is no JSON.
pub(super) fn by_node(version: &str, app: &str, variables: &[(&str, &str)]) -> (Json, String) {
    let (told, said) = by_node_in(&program(version), app, variables);
    (told, format!("celery {version}: {said}"))
}

/// The same with an environment's own Python. The variable NODE_ARGS is more arguments of the node's.
///
/// # Panics
/// Likewise.
pub(super) fn by_node_in(python: &Path, app: &str, variables: &[(&str, &str)]) -> (Json, String) {
    let home = tempfile::tempdir().unwrap();
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("compat"));
        command
    };
    let log = home.path().join("log");
    let output = File::create(&log).unwrap();
    let mut node = command(Path::new(env!("CARGO_BIN_EXE_node-under-test")));
    node.env("HOME", home.path()).env("VIRTUAL_ENV", python.parent().unwrap().parent().unwrap());
    node.args(["-A", app, "-c", "2", "-n", &format!("{app}@test"), "--listen", "127.0.0.1:0", "--no-dotenv"]);
    node.args(variables.iter().filter(|(name, _)| *name == "NODE_ARGS").flat_map(|(_, args)| args.split(' ')));
    let _node = Node(node.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap());
    let client = command(python).arg(format!("{app}.py")).output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&client.stdout), String::from_utf8_lossy(&client.stderr));
    let said = format!("{said}\n{}", fs::read_to_string(&log).unwrap_or_default());
    (serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}\n{said}")), said)
}
