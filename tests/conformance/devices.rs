//! Each slot has its own device, whatever becomes of its process.

use std::{collections::BTreeSet, fs, path::Path, sync::LazyLock, time::Duration};

use tokio::sync::Barrier;
use umbel::{
    Context, Node, Shutdown,
    executors::{
        Executor, Opening, Order, Slot,
        python::{PythonExecutor, PythonOptions},
    },
    proto::{Outcome, Value},
    scheduler::devices::Devices,
};
use umbel_tests::{conformance::executor::job, python, wait::soon};

fn devices(names: &[&str]) -> Devices {
    Devices::named(names, "the test", &|_| None)
}

/// What a task in this slot sees: the device, and its process.
async fn seen(executor: &dyn Executor, slot: &mut dyn Slot) -> (String, i64) {
    let (which, _ends) = job(executor, "devices.which", &[]);
    let outcome = soon("the run", slot.run(which)).await.unwrap();
    let Outcome::Success { value: Value::List(values), .. } = outcome else { panic!("{outcome:?}") };
    let [Value::Str(had), Value::Str(cuda), Value::Str(own), Value::Int(pid)] = values.as_slice() else { panic!("{values:?}") };
    assert!(had == cuda && cuda == own, "the device before the first task, and in it: {had} {cuda} {own}");
    (had.to_string(), *pid)
}

/// Goal: two slots have two devices, and whatever takes the place of a process (after a hard kill, at its retirement, with a slot
/// that is opened anew) has the device of that one, and not before that one is gone. Method: each process locks its device as long
/// as it lives, and tells of a lock that it did not get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_has_the_device_of_the_one_it_replaces() {
    let locks = tempfile::tempdir().unwrap();
    let mut options = PythonOptions::new("python_devices_app", python::interpreter("5.7"));
    options.directory = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance"));
    options.env = vec![("LOCKS".into(), locks.path().into()), ("CUDA_VISIBLE_DEVICES".into(), "0,1".into())];
    options.keeps_states = true;
    options.concurrency = 2;
    options.max_tasks_per_child = Some(3);
    let (executor, _) = PythonExecutor::start(options).await.unwrap();
    let devices = devices(&["0", "1"]);
    let open = async |slot| {
        let opening = Opening { slot, device: devices.of_slot(slot) };
        soon("a slot", executor.open(opening)).await.unwrap()
    };
    let mut slots = vec![open(0).await, open(1).await];
    let mut pids = BTreeSet::new();
    for round in 0..6 {
        for (index, slot) in slots.iter_mut().enumerate() {
            // More than a process may run: the third run is another's.
            for _ in 0..4 {
                let (device, pid) = seen(&executor, &mut **slot).await;
                assert_eq!(device, index.to_string(), "round {round}");
                pids.insert(pid);
            }
        }
        let index = round % 2;
        let (deaf, mut ends) = job(&executor, "devices.deaf", &[]);
        let slot = &mut slots[index];
        let (outcome, ()) = tokio::join!(soon("the run to end", slot.run(deaf)), async {
            ends.waiting().await;
            ends.orders.send(Order::Terminate).unwrap();
        });
        assert!(matches!(outcome.unwrap(), Outcome::Revoked { .. }));
        if round == 3 {
            // As when the pool is renewed: the old one is let go, and the new one opened, at once.
            drop(slots.remove(1 - index));
            slots.insert(1 - index, open(1 - index).await);
        }
    }
    assert!(pids.len() >= 18, "processes were replaced: {pids:?}");
    let met = fs::read_to_string(locks.path().join("met")).unwrap_or_default();
    assert_eq!(met, "", "devices that two processes had at a time");
    drop(slots);
    soon("the processes to end", executor.end()).await;
}

static TOGETHER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

/// Returns when another runs at the same time.
#[umbel::task(name = "devices.meet")]
async fn meet(ctx: Context) -> Option<String> {
    TOGETHER.wait().await;
    ctx.device().map(str::to_owned)
}

/// Goal: tasks in Rust that run at a time have different devices, and the node says which there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_run_at_a_time_have_different_devices() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("umbel://{}/store", folder.path().display());
    let builder = Node::builder().open(&store).unwrap().concurrency(2).devices(devices(&["GPU-a", "GPU-b"])).task(meet);
    let node = soon("the node", builder.start()).await.unwrap();
    let client = node.client();
    for _ in 0..5 {
        let (one, other) = (client.submit(meet::s()).await.unwrap(), client.submit(meet::s()).await.unwrap());
        let within = Duration::from_secs(30);
        let met = [one.get::<String>(within).await.unwrap(), other.get::<String>(within).await.unwrap()];
        assert_eq!(BTreeSet::from(met), BTreeSet::from(["GPU-a".to_owned(), "GPU-b".to_owned()]));
    }
    let report = node.report().await.unwrap();
    assert_eq!(report.pools[0].as_ref().unwrap().devices, ["GPU-a", "GPU-b"]);
    node.shutdown(Shutdown::Cold);
    soon("the end", node.wait()).await.unwrap();
}
