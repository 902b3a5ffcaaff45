//! The command line: `node <verb> [arguments]`.
//!
//! One file per verb: its arguments as a struct, and a `run` that answers with nothing or a [`Failure`]. What verbs share is
//! beside them: [`output`] (who is looking, and in which form), [`failure`] (errors people see), [`exit`] (the codes).
//!
//! To add a verb: its file, its line in [`Verb`], its line in [`Verb::run`]. The tidy suite refuses an argument without help
//! and a verb that the README does not mention.
//!
//! Data goes to standard output, and nothing else does; notes, progress and errors go to standard error.

mod beat;
mod call;
mod completion;
mod config;
mod confirm;
mod control;
mod dead;
mod demo;
mod describe;
mod dev;
mod devices;
mod doctor;
mod entries;
mod exit;
mod failure;
mod fleet;
mod gossip;
mod healthcheck;
mod inspect;
mod interrupt;
mod limits;
mod nodes;
mod outcome;
mod output;
mod place;
mod python;
mod queues;
mod remote;
mod result;
mod role;
mod schedules;
mod serve;
mod session;
mod status;
mod submit;
mod table;
mod tasks;
mod top;
mod version;
mod wait;
mod worker;
mod workflows;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

pub use exit::Exit;
use failure::Failure;
use output::{Format, Screen};
use place::Place;

/// What is printed below the help of the program.
const AFTER_HELP: &str = "\
Exit codes:
    0  success, also of an empty list
    1  the operation failed
    2  wrong usage or configuration
    3  waited, and the time ran out
    4  not allowed
    5  not found
    6  partial: some nodes did not answer
   69  no node answered, or the broker cannot be reached
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)

Colours: NO_COLOR and CLICOLOR_FORCE are obeyed.";

/// Runs tasks and workflows of tasks, and loses none of them.
#[derive(Debug, Parser)]
#[command(name = "node", version, after_help = AFTER_HELP, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    /// The form of what is printed: text for people, or JSON and nothing else
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
    /// The same as --output json
    #[arg(long, global = true, conflicts_with = "output")]
    json: bool,
    /// Print without colours
    #[arg(short = 'C', long, global = true)]
    no_color: bool,
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What the program can be told to do.
#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Args),
    Dev(dev::Args),
    Worker(Box<worker::Args>),
    Beat(beat::Args),
    Call(call::Args),
    Submit(submit::Args),
    Wait(wait::Args),
    Result(result::Args),
    Status(status::Args),
    Inspect(inspect::Args),
    Control(control::Args),
    Queues(queues::Args),
    Nodes(nodes::Args),
    Top(top::Args),
    Tasks(tasks::Args),
    Workflows(workflows::Args),
    Schedules(schedules::Args),
    Dead(dead::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Healthcheck(healthcheck::Args),
    Completion(completion::Args),
    Version(version::Args),
}

impl Verb {
    fn run(self, place: &Place, screen: &Screen) -> Result<(), Failure> {
        match self {
            Self::Demo(args) => demo::run(args, place, screen),
            Self::Dev(args) => dev::run(&args, place, screen),
            Self::Worker(args) => worker::run(&args, place, screen),
            Self::Beat(args) => beat::run(&args, place, screen),
            Self::Call(args) => call::run(args, place, screen),
            Self::Submit(args) => submit::run(args, place, screen),
            Self::Wait(args) => wait::run(args, place, screen),
            Self::Result(args) => result::run(args, place, screen),
            Self::Status(args) => status::run(&args, place, screen),
            Self::Inspect(args) => inspect::run(args, place, screen),
            Self::Control(args) => control::run(args, place, screen),
            Self::Queues(args) => queues::run(args, place, screen),
            Self::Nodes(args) => nodes::run(args, place, screen),
            Self::Top(args) => top::run(&args, place, screen),
            Self::Tasks(args) => tasks::run(args, place, screen),
            Self::Workflows(args) => workflows::run(args, place, screen),
            Self::Schedules(args) => schedules::run(args, place, screen),
            Self::Dead(args) => dead::run(args, place, screen),
            Self::Config(args) => config::run(args, place, screen),
            Self::Doctor(args) => doctor::run(&args, place, screen),
            Self::Healthcheck(args) => healthcheck::run(&args, place, screen),
            Self::Completion(args) => completion::run(&args, screen),
            Self::Version(args) => version::run(args, screen),
        }
    }
}

/// The whole program: reads the arguments of the process, does what they say, and answers with the exit code.
pub fn main() -> ExitCode {
    run(std::env::args_os().collect()).into()
}

/// What each verb prints with `-o json`, as JSON Schemas.
pub const SCHEMA: &str = include_str!("schema.json");

/// The grammar, for whoever writes completions and documentation, and for the tests of both.
pub fn grammar() -> clap::Command {
    Cli::command()
}

fn run(args: Vec<OsString>) -> Exit {
    // Asked before the arguments are understood, because what is wrong with them may have to be printed.
    let plain = args.iter().skip(1).any(|arg| arg == "-C" || arg == "--no-color");
    let colour = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    let parsed = parse(args, colour);
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Printing can only fail because nobody listens any more.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Success } else { Exit::Usage };
        }
    };
    let format = if cli.json { Format::Json } else { cli.output };
    let screen = Screen::of_process(format, cli.no_color);
    let done = match cli.verb {
        Some(verb) => verb.run(&cli.place, &screen),
        None => welcome(&screen),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(failure) => {
            failure.print(&screen, &mut io::stderr().lock());
            failure.exit()
        }
    }
}

/// Understands the arguments. Without a verb they are those of a worker: `node --role cpu`, `node -Q platform -c 8`.
fn parse(args: Vec<OsString>, colour: ColorChoice) -> Result<Cli, clap::Error> {
    let read =
        |args: &[OsString]| Cli::command().color(colour).try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let error = match read(&args) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let named = args.iter().skip(1).any(|arg| arg.to_str().is_some_and(|arg| Cli::command().find_subcommand(arg).is_some()));
    if named || error.kind() != ErrorKind::UnknownArgument {
        return Err(error);
    }
    let mut as_worker = args;
    as_worker.insert(1, "worker".into());
    read(&as_worker)
}

/// What the program says when it is not told anything.
fn welcome(screen: &Screen) -> Result<(), Failure> {
    let mut grammar = Cli::command();
    grammar.build();
    let mut text = format!("umbel {}: runs tasks and workflows of tasks, and loses none of them\n\n", env!("CARGO_PKG_VERSION"));
    for verb in grammar.get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("  {:<11} {about}\n", verb.get_name()));
    }
    let program = output::program();
    text.push_str(&format!("\nTry:  {program} demo\n      {program} --help\n"));
    screen.print(|out| out.write_all(text.as_bytes()))
}
