//! `node dev`: broker, worker, API and demo tasks in one process, to try things out.

use std::time::Instant;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, program, say},
    place::{self, Place},
    serve,
};
use crate::executors::native::{NativeExecutor, demo};

/// Try things out: broker, worker, API and demo tasks in one process
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many tasks run at a time; auto is the number of CPUs this process may use
    #[arg(short, long, value_name = "N")]
    concurrency: Option<String>,
    /// Where to answer HTTP; a taken port is replaced by the next one unless you name it here
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// How much is logged: debug, info, warning, error
    #[arg(short, long, value_name = "LEVEL", default_value = "warning")]
    loglevel: String,
    /// Forget everything from earlier runs
    #[arg(long)]
    fresh: bool,
}

pub(super) fn run(args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let began = Instant::now();
    let mut flags = vec![("--loglevel".to_owned(), args.loglevel.clone()), ("--hostname".to_owned(), "dev@%h".to_owned())];
    let own = [("--concurrency", &args.concurrency), ("--listen", &args.listen)];
    flags.extend(own.into_iter().filter_map(|(flag, value)| Some((flag.to_owned(), value.clone()?))));
    let loaded = place.load(flags, screen)?;
    let config = loaded.config;
    let plan = crate::config::plan(&config).map_err(|error| Failure::new(Exit::Usage, "cannot start the node", error))?;
    serve::log(&config)?;
    let store = place::dev_store(&config);
    if args.fresh {
        forget(&store)?;
    }
    let runtime = serve::runtime()?;
    let backbone = place::open_store(&config, store.clone(), place::STORE_WITHIN)?;
    let native = demo::register(NativeExecutor::builder()).build();
    let done = runtime.block_on(async {
        let running = serve::start(&config, &plan, backbone, native, Some(store.clone()), None).await?;
        let queues: Vec<&str> = plan.queues.iter().map(|queue| queue.as_str()).collect();
        let (version, name, program) = (env!("CARGO_PKG_VERSION"), running.node.name(), program());
        say(
            screen,
            &format!(
                "  umbel {version}   dev node  {name}\n  broker     embedded   {}\n  results    embedded\n  http       http://{}\n  \
                 queues     {}\n  tasks      {}\n  ready in {} ms\n\n  Try, in another terminal:   {program} call umbel.demo.add 2 3 --wait",
                store.display(),
                running.address,
                queues.join("  "),
                running.tasks.join("  "),
                began.elapsed().as_millis(),
            ),
        );
        running.until_told(&config, place, screen).await
    });
    runtime.shutdown_timeout(serve::THREADS_MAX);
    done
}

/// Removes the store of earlier runs, unless a node has it open: then the opening of it would fail anyway, and says so.
fn forget(store: &std::path::Path) -> Result<(), Failure> {
    if let Some(endpoint) = crate::http::endpoint::Endpoint::read(store)
        && std::net::TcpStream::connect(endpoint.address).is_ok()
    {
        let failure = Failure::new(Exit::Unavailable, "cannot forget", "a node has this store open");
        return Err(failure.value(store.display().to_string(), "--fresh").hint("stop that node first"));
    }
    match std::fs::remove_file(store) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(Exit::Failed, "cannot forget", error).value(store.display().to_string(), "--fresh"))
        }
        _ => Ok(()),
    }
}
