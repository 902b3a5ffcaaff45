//! What a node sends by a schedule: entries of the configuration, and of the application where somebody asked for them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{exit::Exit, failure::Failure, output::program, python::Application, serve::beat_queue};
use crate::{
    actors::beat::{BeatOptions, TablesOptions},
    config::{Config, Plan},
    scheduler::beat::{Entry, Source},
    schedules::{application, configured::configured, tables::DjangoTables},
};

/// Where an application's entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheduler {
    /// In its `beat_schedule`.
    Schedule,
    /// In the tables of django-celery-beat.
    Django,
}

/// The options of beat; `None` where the node's role has nothing to do with it.
///
/// An application's entries are part of it only where somebody asked for beat: a worker that is put in the place of a Celery
/// worker must not send what `celery beat` goes on sending.
pub(super) fn beat(config: &Config, plan: &Plan, app: Option<&Application>) -> Result<Option<BeatOptions>, Failure> {
    if !plan.beat {
        return Ok(None);
    }
    let entries = configured(&config.schedules, &config.timezone).map_err(|errors| {
        Failure::new(Exit::Usage, "the configured schedules cannot be used", "").lines(errors.iter().map(ToString::to_string))
    })?;
    let mut declared = BTreeMap::from([(Source::Config, entries)]);
    let mut tables = None;
    let is_asked = config.role.value == "beat" || config.beat_enabled.as_ref().is_some_and(|enabled| enabled.value);
    if is_asked {
        match (scheduler(config)?, app) {
            (Scheduler::Schedule, Some(app)) => drop(declared.insert(Source::App, scheduled(config, app))),
            (Scheduler::Django, app) => {
                tables = Some(django(config, app)?);
                // They are rows of the tables, as with django-celery-beat itself.
                declared.insert(Source::App, Vec::new());
            }
            (Scheduler::Schedule, None) => {}
        }
    }
    let timezone = config.timezone.value.clone();
    Ok(Some(BeatOptions { queue: beat_queue(config), timezone, declared, tables, ..BeatOptions::default() }))
}

fn scheduler(config: &Config) -> Result<Scheduler, Failure> {
    let Some(named) = &config.beat_scheduler else { return Ok(Scheduler::Schedule) };
    match named.value.replace(':', ".").as_str() {
        "celery.beat.PersistentScheduler" | "celery.beat.Scheduler" => Ok(Scheduler::Schedule),
        "django" | "django_celery_beat.schedulers.DatabaseScheduler" => Ok(Scheduler::Django),
        _ => {
            let reason = "it is a class that only Celery's beat can run; known here: celery.beat:PersistentScheduler, django";
            let failure = Failure::new(Exit::Usage, "cannot take entries from", reason);
            let hint = format!("{} beat -S celery.beat:PersistentScheduler sends the application's beat_schedule", program());
            Err(failure.value_from(named.value.clone(), named.origin.to_string()).hint(hint))
        }
    }
}

/// `beat_schedule`.
fn scheduled(config: &Config, app: &Application) -> Vec<Entry> {
    let (entries, wrong) = application::entries(app.report.schedule.clone(), &config.timezone);
    wrong.iter().for_each(|wrong| tracing::warn!("{wrong}"));
    entries
}

/// The tables, asked as often as `beat_max_loop_interval` says.
fn django(config: &Config, app: Option<&Application>) -> Result<TablesOptions, Failure> {
    let origin = config.beat_scheduler.as_ref().map_or_else(String::new, |named| named.origin.to_string());
    let failed = |reason: &str| Failure::new(Exit::Usage, "cannot take entries from", reason).value_from("django", origin.clone());
    let Some(app) = app else {
        let hint = format!("{} -A proj.celery beat -S django", program());
        return Err(failed("the tables are read through an application, and none is named").hint(hint));
    };
    if !app.report.tables {
        return Err(failed("django_celery_beat is not among the INSTALLED_APPS of the application")
            .hint("add it to INSTALLED_APPS, and run manage.py migrate django_celery_beat"));
    }
    let mut options = TablesOptions::new(Arc::new(DjangoTables::new(app.executor.tables(), config.timezone.value.clone())));
    let said = app.report.setting("beat_max_loop_interval").and_then(serde_json::Value::as_f64);
    if let Some(every) = said.filter(|secs| *secs > 0.0).and_then(|secs| Duration::try_from_secs_f64(secs).ok()) {
        options.every = every;
    }
    Ok(options)
}
