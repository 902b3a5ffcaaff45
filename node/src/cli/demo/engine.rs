//! A node for the length of one workflow.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use umbel_proto::{GroupId, ResultTuple, Signature};

use super::{counts::Counts, progress::Progress, tasks};
use crate::{
    AsyncResult, NativeExecutor,
    backends::{Backend, embedded::EmbeddedBackend},
    brokers::embedded::EmbeddedBroker,
    cli::{exit::Exit, failure::Failure, interrupt::Interrupt, output::Screen},
    embedded::{Store, StoreOptions},
    ledgers::embedded::EmbeddedLedger,
    node::{Node, Shutdown},
};

/// How long the node may take to end when it is not needed any more. What it has not given back by then is given back at
/// the next opening of the store.
const END_MAX: Duration = Duration::from_secs(2);

/// How often the bar moves.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// As long as it takes: the user is there to stop it.
const NO_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where the store of a run is.
pub(super) enum Place {
    /// A folder of its own, readable by this user only, that goes with the run.
    Temporary(TempDir),
    /// A folder that stays.
    Kept(PathBuf),
}

impl Place {
    pub(super) fn new(data_dir: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(data_dir) = data_dir {
            return Ok(Self::Kept(data_dir));
        }
        let folder = tempfile::Builder::new().prefix("umbel-demo-").tempdir().map_err(|error| {
            let temp = std::env::temp_dir();
            Failure::new(Exit::Failed, "cannot make a folder in", error).value(temp.to_string_lossy(), "TMPDIR")
        })?;
        Ok(Self::Temporary(folder))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// What a run came to.
pub(super) struct Run {
    pub(super) counts: Counts,
    /// From the submission to the result.
    pub(super) took: Duration,
}

/// Runs a workflow of `tasks` tasks on a node of its own.
pub(super) async fn run(
    place: &Place,
    workflow: Signature,
    tasks: usize,
    screen: &Screen,
    interrupt: &mut Interrupt,
) -> Result<Run, Failure> {
    let store = open(place)?;
    let executor = tasks::register(NativeExecutor::builder()).build();
    let broker = EmbeddedBroker::new(Arc::clone(&store)).map_err(|error| Failure::new(Exit::Failed, "cannot open the queues", error))?;
    let backend: Arc<dyn Backend> = Arc::new(EmbeddedBackend::new(Arc::clone(&store)));
    let ledger = EmbeddedLedger::new(store);
    let node = Node::builder()
        .backbone(Arc::new(broker), Arc::clone(&backend), Arc::new(ledger))
        .executor(Arc::new(executor))
        .start()
        .await
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the node", error))?;
    let outcome = interrupt.or(follow(&node, workflow, tasks, screen)).await;
    node.shutdown(Shutdown::Cold);
    // Whatever becomes of the node now, the counts are here.
    let _ = tokio::time::timeout(END_MAX, node.wait()).await;
    outcome
}

fn open(place: &Place) -> Result<Arc<Store>, Failure> {
    Store::open(place.path().join("store.umbel"), StoreOptions::default()).map_err(|error| {
        let source = if matches!(place, Place::Kept(_)) { "--data-dir" } else { "TMPDIR" };
        Failure::new(Exit::Failed, "cannot use the folder", error).value(place.path().to_string_lossy(), source)
    })
}

async fn follow(node: &Node, workflow: Signature, tasks: usize, screen: &Screen) -> Result<Run, Failure> {
    let begun = Instant::now();
    let bar = Progress::new(screen, tasks);
    let result = node.client().submit(workflow).await.map_err(|error| Failure::new(Exit::Failed, "cannot submit the workflow", error))?;
    let (backend, counts) = (node.backend(), result.get::<Counts>(NO_TIMEOUT));
    tokio::select! {
        counts = counts => {
            let counts = counts.map_err(|error| Failure::new(Exit::Failed, "cannot count the words", error))?;
            Ok(Run { counts, took: begun.elapsed() })
        }
        never = draw(&*backend, &result, &bar), if screen.live => match never {},
    }
}

/// Moves the bar with the chords.
async fn draw(backend: &dyn Backend, result: &AsyncResult, bar: &Progress) -> std::convert::Infallible {
    let mut interval = tokio::time::interval(DRAW_INTERVAL);
    let mut open = Vec::new();
    chords(result.tuple(), &mut open);
    let mut concluded = 0;
    loop {
        interval.tick().await;
        let mut done = concluded;
        let mut still_open = Vec::with_capacity(open.len());
        for (group, size) in open {
            match backend.chord(&group).await {
                // All were opened with the submission: one that is not there has been concluded.
                Ok(None) => {
                    concluded += size;
                    done += size;
                    continue;
                }
                Ok(Some(progress)) => done += u64::from(progress.done),
                // News that cannot be read now come with the next look.
                Err(_) => {}
            }
            still_open.push((group, size));
        }
        open = still_open;
        bar.set(done);
    }
}

/// The chords of a workflow, and how many members each has.
fn chords(tuple: &ResultTuple, found: &mut Vec<(GroupId, u64)>) {
    let parts = tuple.parent.as_deref().into_iter().chain(tuple.children.iter().flatten());
    parts.for_each(|part| chords(part, found));
    if let Some(members) = &tuple.children {
        found.push((GroupId::from(&tuple.id), members.len() as u64));
    }
}
