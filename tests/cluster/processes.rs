//! Nodes as processes: started, killed, stopped and continued by their id.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use umbel_tests::{crash, wait::until};

/// A cluster of processes on one broker, and the folder they write to.
pub(super) struct Cluster {
    pub(super) folder: tempfile::TempDir,
    /// Variables of nodes that are started from now on.
    pub(super) variables: Vec<(&'static str, &'static str)>,
    nodes: Vec<(String, Child)>,
}

impl Cluster {
    /// Nobody yet, with messages and results at these addresses.
    pub(super) fn on(urls: &[String; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(crash::REDIS), urls.join("\n")).unwrap();
        Self { folder, variables: Vec::new(), nodes: Vec::new() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Starts a node; `within` is a program that starts it elsewhere.
    pub(super) fn start_within(&mut self, within: &[&str], name: &str, gossip: Option<&str>) {
        let program = env!("CARGO_BIN_EXE_crash-node");
        let words: Vec<&str> = within.iter().copied().chain([program, "serve"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.folder.path()).args(["0", "0", "0", name]);
        if let Some(gossip) = gossip {
            command.env("UMBEL_TEST_GOSSIP", gossip);
        }
        command.envs(self.variables.iter().copied());
        self.nodes.push((name.to_owned(), spawn(command, self.folder.path())));
    }

    pub(super) fn start(&mut self, name: &str) {
        self.start_within(&[], name, None);
    }

    /// Something else than a node, that ends by itself.
    pub(super) fn run(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash-node"));
        command.arg(args[0]).arg(self.folder.path()).args(&args[1..]);
        spawn(command, self.folder.path())
    }

    fn child(&mut self, name: &str) -> &mut Child {
        &mut self.nodes.iter_mut().find(|(node, _)| node == name).unwrap().1
    }

    /// Sends a signal by its name.
    pub(super) fn signal(&mut self, name: &str, signal: &str) {
        let id = self.child(name).id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, name: &str) {
        let mut child = self.forget(name);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn forget(&mut self, name: &str) -> Child {
        let at = self.nodes.iter().position(|(node, _)| node == name).unwrap();
        self.nodes.remove(at).1
    }

    /// SIGTERM, and waits for a good end.
    pub(super) fn stop(&mut self, name: &str) {
        self.signal(name, "TERM");
        let mut child = self.forget(name);
        let status = until("the node stops when it is told to", || child.try_wait().unwrap());
        assert!(status.success(), "{name}: {status}: {}", self.errors());
    }

    /// How the nodes have seen each other: when, who, whom, as what.
    pub(super) fn views(&self) -> Vec<(u128, String, String, String)> {
        let views = fs::read_to_string(self.folder.path().join("views")).unwrap_or_default();
        let line = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].parse().unwrap(), words[1].to_owned(), words[2].to_owned(), words[3].to_owned())
        };
        // The last line may be half written.
        views.lines().filter(|line| line.split(' ').count() == 4).map(line).collect()
    }

    /// How `who` sees `node` now.
    pub(super) fn view(&self, who: &str, node: &str) -> Option<String> {
        self.views().into_iter().rfind(|(_, looks, seen, _)| looks == who && seen == node).map(|(.., state)| state)
    }

    /// Waits until all of `names` see each other.
    pub(super) fn formed(&self, names: &[&str]) {
        until("the nodes see each other", || {
            let all = names.iter().all(|who| names.iter().all(|node| self.view(who, node).as_deref() == Some("alive")));
            all.then_some(())
        });
    }

    pub(super) fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, child) in &mut self.nodes {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(mut command: Command, folder: &Path) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(fs::File::options().create(true).append(true).open(folder.join("errors")).unwrap());
    // Out of reach of what the terminal sends to the tests.
    command.process_group(0);
    command.spawn().unwrap()
}

/// Milliseconds since 1970, as `views` has them.
pub(super) fn now() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()
}
