//! `node beat`: a node that only sends what is due, with `celery beat`'s flags.

use clap::Args as ClapArgs;

use super::{
    exit::Exit,
    failure::Failure,
    output::{Screen, program},
    place::Place,
    python, worker,
};

/// Send scheduled tasks when they are due; one of all that are ready to does
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The node's name: %h is the host name, %n its first part, %d the rest
    #[arg(short = 'n', long, value_name = "NAME", default_value = "celerybeat@%h")]
    hostname: String,
    /// Where to answer HTTP; beyond loopback a token is required
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// How much is logged: debug, info, warning, error
    #[arg(short, long, value_name = "LEVEL")]
    loglevel: Option<String>,
    /// How it is logged: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Where the application's entries are: celery.beat:PersistentScheduler (its beat_schedule), or django (the tables of
    /// django-celery-beat)
    #[arg(short = 'S', long, value_name = "SCHEDULER")]
    scheduler: Option<String>,
    #[command(flatten)]
    python: python::Flags,
    #[command(flatten)]
    celery: Celery,
}

/// Flags of `celery beat` that change nothing here.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Accepted for Celery's sake")]
struct Celery {
    /// Progress is kept in the broker, not in a file
    #[arg(short = 's', long, value_name = "FILE")]
    schedule: Option<String>,
    /// Beat wakes up when something is due or changes
    #[arg(long, value_name = "SECONDS")]
    max_interval: Option<f64>,
    /// Nodes tell of themselves without being asked
    #[arg(long)]
    enable_remote_control: bool,
    /// Nodes tell of themselves without being asked
    #[arg(long)]
    no_enable_remote_control: bool,
    /// Refused: leave it to systemd, or to a container
    #[arg(long)]
    detach: bool,
    /// Refused without --detach as well: there is no file to look at
    #[arg(long, value_name = "FILE")]
    pidfile: Option<String>,
    /// The log goes to standard error
    #[arg(short = 'f', long, value_name = "FILE")]
    logfile: Option<String>,
}

impl Args {
    fn remarks(&self) -> Vec<String> {
        let celery = &self.celery;
        let said = [
            (celery.schedule.is_some(), "--schedule changes nothing: progress is kept in the broker, where every node finds it"),
            (celery.max_interval.is_some(), "--max-interval changes nothing: beat wakes up when something is due or changes"),
            (
                celery.enable_remote_control || celery.no_enable_remote_control,
                "--enable-remote-control changes nothing: nodes answer without it",
            ),
            (celery.pidfile.is_some(), "--pidfile changes nothing: any number of beats may run"),
            (celery.logfile.is_some(), "--logfile changes nothing: the log goes to standard error"),
        ];
        said.into_iter().filter(|(given, _)| *given).map(|(_, remark)| remark.to_owned()).collect()
    }
}

pub(super) fn run(args: &Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    if args.celery.detach {
        let failure = Failure::new(Exit::Usage, "cannot detach", "a node stays in the foreground, where whoever started it can watch it");
        return Err(failure.hint(format!("systemd-run --user {} beat, or a service of your own", program())));
    }
    let mut flags = vec![("--role".to_owned(), "beat".to_owned()), ("--hostname".to_owned(), args.hostname.clone())];
    let own =
        [("--listen", &args.listen), ("--loglevel", &args.loglevel), ("--log-format", &args.log_format), ("--scheduler", &args.scheduler)];
    flags.extend(own.into_iter().filter_map(|(flag, value)| Some((flag.to_owned(), value.clone()?))));
    flags.extend(args.python.keys().filter_map(|(flag, value)| Some((flag.to_owned(), value.clone()?))));
    worker::run_with(&flags, &|_| args.remarks(), &args.python, None, place, screen)
}
