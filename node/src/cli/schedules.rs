//! `node schedules`: what beat sends, and when.

use clap::Subcommand;
use serde_json::{Map, Value as Json, json};

use super::{
    confirm::Confirm,
    exit::Exit,
    failure::Failure,
    output::{Format, Screen},
    place::Place,
    session::{Session, part},
    table::{Table, ago},
};

/// Look at scheduled tasks, add, pause, run and remove them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// List all entries (the default)
    Ls,
    /// Show one entry
    Show {
        /// Its name
        name: String,
    },
    /// Show when an entry is sent next
    Next {
        /// Its name
        name: String,
        /// How many times
        #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
        count: usize,
    },
    /// Send an entry's task now; its schedule goes on as before
    Run {
        /// Its name
        name: String,
    },
    /// Stop sending an entry, on every node
    Pause {
        /// Its name
        name: String,
    },
    /// Go on sending an entry, from now
    Resume {
        /// Its name
        name: String,
    },
    /// Add an entry, or change one that was added this way
    Add(Box<Add>),
    /// Remove an entry that was added this way
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        confirm: Confirm,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct Add {
    /// Its name
    name: String,
    /// The task to send
    task: String,
    /// When, by the clock: minute, hour, day of month, month, day of week
    #[arg(long, value_name = "CRONTAB")]
    cron: Option<String>,
    /// When, at a distance: 10s, 1h30m, or seconds
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// Round times at a distance down to the clock
    #[arg(long, requires = "every")]
    relative: bool,
    /// When, once (ISO 8601)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// When, by the sun: sunrise, sunset, solar_noon, dawn_civil, …
    #[arg(long, value_name = "EVENT", requires_all = ["latitude", "longitude"])]
    solar: Option<String>,
    /// Where the sun does it, in degrees north
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    latitude: Option<f64>,
    /// Where the sun does it, in degrees east
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true)]
    longitude: Option<f64>,
    /// The time zone of its clock
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Positional arguments as a JSON list
    #[arg(short, long, value_name = "JSON")]
    args: Option<String>,
    /// Keyword arguments as a JSON object
    #[arg(short, long, value_name = "JSON")]
    kwargs: Option<String>,
    /// Other options of the call as a JSON object
    #[arg(long, value_name = "JSON")]
    options: Option<String>,
    /// The queue to send it to
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// What becomes of times that nobody was there for: skip, one (the last of them), all
    #[arg(long, value_name = "POLICY")]
    catch_up: Option<String>,
    /// How far back all goes
    #[arg(long, value_name = "DURATION", requires = "catch_up")]
    catch_up_window: Option<String>,
    /// Send it up to so much later, each time another
    #[arg(long, value_name = "DURATION")]
    jitter: Option<String>,
    /// Not before this time (ISO 8601)
    #[arg(long, value_name = "TIME")]
    starts: Option<String>,
    /// Not after this time (ISO 8601)
    #[arg(long, value_name = "TIME")]
    ends: Option<String>,
    /// Send it once only
    #[arg(long)]
    one_off: bool,
}

pub(super) fn run(args: Args, place: &Place, screen: &Screen) -> Result<(), Failure> {
    let (screen, place) = (*screen, place.clone());
    super::session::run(async move {
        let session = Session::open(&place, &screen).await?;
        let path = |name: &str, what: &str| format!("/api/v1/schedules/{}{what}", part(name));
        match args.verb.unwrap_or(Verb::Ls) {
            Verb::Ls => {
                let all = session.get("/api/v1/schedules").await?;
                if screen.format == Format::Json { screen.print_json(&all) } else { table(items(&all), &screen) }
            }
            Verb::Show { name } => show(&session.get(&path(&name, "")).await?, &screen),
            Verb::Next { name, count } => next(&session.get(&path(&name, &format!("/next?count={count}"))).await?, &screen),
            Verb::Run { name } => said(&session.post(&path(&name, "/run"), None).await?, &screen, "id", ""),
            Verb::Pause { name } => said(&session.post(&path(&name, "/pause"), None).await?, &screen, "name", " paused"),
            Verb::Resume { name } => said(&session.post(&path(&name, "/resume"), None).await?, &screen, "name", " resumed"),
            Verb::Add(add) => show(&session.post("/api/v1/schedules", Some(&add.body()?)).await?, &screen),
            Verb::Rm { name, confirm } => {
                session.get(&path(&name, "")).await?;
                if !confirm.ask(&screen, &format!("remove schedule {name}"))? {
                    return Ok(());
                }
                said(&session.delete(&path(&name, "")).await?, &screen, "name", " removed")
            }
        }
    })
}

impl Add {
    fn body(&self) -> Result<Json, Failure> {
        let mut body = Map::new();
        let text = |value: &Option<String>| value.as_deref().map(Json::from);
        let given: [(&str, Option<Json>); 19] = [
            ("name", Some(Json::from(self.name.as_str()))),
            ("task", Some(Json::from(self.task.as_str()))),
            ("cron", text(&self.cron)),
            ("every", self.every.as_ref().map(|every| every.parse::<f64>().map_or_else(|_| Json::from(every.as_str()), Json::from))),
            ("relative", self.relative.then_some(Json::Bool(true))),
            ("at", text(&self.at)),
            ("solar", text(&self.solar)),
            ("latitude", self.latitude.map(Json::from)),
            ("longitude", self.longitude.map(Json::from)),
            ("timezone", text(&self.timezone)),
            ("args", json_of(self.args.as_deref(), "--args", "'[2, 3]'")?),
            ("kwargs", json_of(self.kwargs.as_deref(), "--kwargs", r#"'{"x": 2}'"#)?),
            ("options", json_of(self.options.as_deref(), "--options", r#"'{"expires": 60}'"#)?),
            ("queue", text(&self.queue)),
            ("catch_up", text(&self.catch_up)),
            ("catch_up_window", text(&self.catch_up_window)),
            ("jitter", text(&self.jitter)),
            ("starts", text(&self.starts)),
            ("ends", text(&self.ends)),
        ];
        body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        if self.one_off {
            body.insert("one_off".to_owned(), Json::Bool(true));
        }
        Ok(Json::Object(body))
    }
}

fn json_of(text: Option<&str>, flag: &'static str, example: &str) -> Result<Option<Json>, Failure> {
    let read = |text: &str| {
        serde_json::from_str(text)
            .map_err(|error| Failure::new(Exit::Usage, "cannot read", error).value(text, flag).hint(format!("{flag} {example}")))
    };
    text.map(read).transpose()
}

fn items(all: &Json) -> &[Json] {
    all["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn said(answer: &Json, screen: &Screen, key: &str, more: &str) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.print_json(answer),
        Format::Text => screen.print(|out| writeln!(out, "{}{more}", answer[key].as_str().unwrap_or_default())),
    }
}

fn show(entry: &Json, screen: &Screen) -> Result<(), Failure> {
    if screen.format == Format::Json { screen.print_json(entry) } else { table(std::slice::from_ref(entry), screen) }
}

fn next(answer: &Json, screen: &Screen) -> Result<(), Failure> {
    match screen.format {
        Format::Json => screen.print_json(&json!({ "name": answer["name"], "items": answer["items"] })),
        Format::Text if items(answer).is_empty() => screen.print(|out| writeln!(out, "Never.")),
        Format::Text => screen.print(|out| items(answer).iter().try_for_each(|at| writeln!(out, "{}", time(at)))),
    }
}

fn table(entries: &[Json], screen: &Screen) -> Result<(), Failure> {
    let mut table = Table::new(&["NAME", "TASK", "WHEN", "NEXT", "LAST", "RUNS", "STATE", "SOURCE"]);
    for entry in entries {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        let last = entry["last"].as_i64().map_or_else(|| "-".to_owned(), |last| format!("{} ago", ago(last)));
        let state = match entry {
            _ if entry["error"].is_string() => format!("broken: {}", text("error")),
            _ if entry["paused"] == true => "paused".to_owned(),
            _ if entry["enabled"] == false => "disabled".to_owned(),
            _ if entry["next"].is_null() => "over".to_owned(),
            _ => "active".to_owned(),
        };
        table.row([
            text("name"),
            text("task"),
            text("schedule"),
            time(&entry["next"]),
            last,
            entry["runs"].to_string(),
            state,
            text("source"),
        ]);
    }
    table.print(screen, "No schedules.")
}

fn time(at: &Json) -> String {
    at.as_i64().map_or_else(|| "-".to_owned(), |at| crate::proto::Timestamp::from_millis(at).as_str().to_owned())
}
