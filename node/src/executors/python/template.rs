//! The template: the process that has the application loaded and that all others are forked from.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use super::{
    frame::{self, Frames, Kind},
    interpreter::{Interpreter, NoInterpreter},
    lines::{self, Output, Tail},
    report::AppReport,
};

/// The modules of the bootstrap, in the order in which they need each other.
const MODULES: [(&str, &str); 13] = [
    ("codec", include_str!("bootstrap/codec.py")),
    ("wire", include_str!("bootstrap/wire.py")),
    ("takeover", include_str!("bootstrap/takeover.py")),
    ("logs", include_str!("bootstrap/logs.py")),
    ("tracer", include_str!("bootstrap/tracer.py")),
    ("delegate", include_str!("bootstrap/delegate.py")),
    ("requests", include_str!("bootstrap/requests.py")),
    ("host", include_str!("bootstrap/host.py")),
    ("application", include_str!("bootstrap/application.py")),
    ("report", include_str!("bootstrap/report.py")),
    ("loops", include_str!("bootstrap/loops.py")),
    ("tables", include_str!("bootstrap/tables.py")),
    ("pools", include_str!("bootstrap/pools.py")),
];

/// The module that is the template itself. It takes over Celery's functions before anything else of it is loaded.
const TEMPLATE: &str = include_str!("bootstrap/template.py");

/// The program given to the interpreter, which receives the others.
const FIRST_LINES: &str = include_str!("bootstrap/start.py");

/// How long processes may take to end by themselves when the node ends in peace, before they are killed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) interpreter: Interpreter,
    pub(super) options: Options,
    /// Variables set for Python, besides this process's own.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Where to run; this process's directory by default.
    pub(super) directory: Option<PathBuf>,
}

/// What the bootstrap is told.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Options {
    /// `-A`.
    pub(super) app: String,
    /// The node's name.
    pub(super) hostname: String,
    /// How many tasks run at a time.
    pub(super) concurrency: usize,
    /// Celery's name of the pool, where that is not the application's choice.
    pub(super) pool: Option<&'static str>,
    /// Python's number of the log level.
    pub(super) loglevel: u8,
    /// Celery's settings that the configuration overrides.
    pub(super) settings: Vec<(String, serde_json::Value)>,
    /// The schemes of result backends that are the node's to store in; others are the application's own affair.
    pub(super) schemes: Vec<String>,
    /// Whether states of a task's own go through the node, because the application cannot reach where results are.
    pub(super) keeps_states: bool,
    /// `--max-tasks-per-child`.
    pub(super) max_tasks_per_child: Option<u64>,
    /// `--max-memory-per-child`, in KiB.
    pub(super) max_memory_per_child: Option<u64>,
}

/// Why there are no Python tasks.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no Python to be found.
    #[error(transparent)]
    NoInterpreter(#[from] NoInterpreter),
    /// It cannot be started.
    #[error("cannot start {}: {source}", .program.display())]
    Spawn {
        /// The interpreter.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The application cannot be loaded.
    #[error("cannot load the application {app:?} with {}: {error}", .program.display())]
    Load {
        /// As it was named.
        app: String,
        /// The interpreter.
        program: PathBuf,
        /// Python's last line about it.
        error: String,
        /// Everything it has to say, for a person to read.
        traceback: String,
    },
}

/// The head of a frame that tells of an application that cannot be loaded.
#[derive(Deserialize)]
struct FailedToLoad {
    error: String,
    traceback: String,
}

/// The process.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) frames: Frames<OwnedReadHalf>,
    pub(super) socket: OwnedWriteHalf,
    process: Child,
    tail: Tail,
}

impl Template {
    /// Starts it, and waits until the application is loaded, however long that takes.
    pub(super) async fn start(start: &Start) -> Result<(Self, AppReport), StartError> {
        let program = start.interpreter.program.clone();
        let mut template = Self::spawn(start).map_err(|source| StartError::Spawn { program: program.clone(), source })?;
        let failed = |error: String, traceback: String| StartError::Load {
            app: start.options.app.clone(),
            program: program.clone(),
            error,
            traceback,
        };
        loop {
            match template.frames.next().await {
                Ok(Some(frame)) if frame.kind == Kind::Log => lines::record(&frame.head),
                Ok(Some(frame)) if frame.kind == Kind::Loaded => {
                    return match serde_json::from_slice(&frame.head) {
                        Ok(report) => Ok((template, report)),
                        Err(error) => Err(failed(format!("its report cannot be read: {error}"), String::new())),
                    };
                }
                Ok(Some(frame)) if frame.kind == Kind::Failed => {
                    return Err(match serde_json::from_slice(&frame.head) {
                        Ok(FailedToLoad { error, traceback }) => failed(error, traceback),
                        Err(error) => failed(error.to_string(), String::new()),
                    });
                }
                Ok(Some(frame)) => return Err(failed(format!("it began with {:?}", frame.kind), String::new())),
                Ok(None) => {
                    let how = template.epitaph().await;
                    return Err(failed(format!("Python ended: {how}"), template.tail.text()));
                }
                Err(error) => return Err(failed(error.to_string(), String::new())),
            }
        }
    }

    fn spawn(start: &Start) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        let (output, output_end) = io::pipe()?;
        let mut command = std::process::Command::new(&start.interpreter.program);
        command.arg("-c").arg(FIRST_LINES).envs(start.env.iter().cloned());
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::from(output_end.try_clone()?)).stderr(Stdio::from(output_end));
        if let Some(directory) = &start.directory {
            command.current_dir(directory);
        }
        let process = Command::from(command).spawn()?;
        // Small enough for the socket's buffer: the other side reads it as its first act, and cannot be waited for if it dies.
        let mut modules: Vec<(&str, &str)> = MODULES.to_vec();
        modules.push(("template", TEMPLATE));
        let mut options = serde_json::to_value(&start.options)?;
        options["modules"] = serde_json::to_value(modules)?;
        let json = serde_json::to_vec(&options)?;
        let mut first = (json.len() as u32).to_be_bytes().to_vec();
        first.extend_from_slice(&json);
        (&ours).write_all(&first)?;
        ours.set_nonblocking(true)?;
        let (reader, socket) = UnixStream::from_std(ours)?.into_split();
        let tail = Tail::default();
        let (_, current) = watch::channel(None);
        let pid = process.id().map_or(0, |pid| pid as i32);
        let output = Output { pipe: pipe::Receiver::from_owned_fd(output.into())?, pid, tail: tail.clone(), current };
        crate::task::spawn(output.forward());
        Ok(Self { frames: Frames::new(reader), socket, process, tail })
    }

    /// How it ended, for a person.
    pub(super) async fn epitaph(&mut self) -> String {
        match timeout(Duration::from_secs(2), self.process.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its socket closed, but it lives".to_owned(),
        }
    }

    /// Tells it something that is all in the kind of its frame.
    pub(super) async fn send(&mut self, kind: Kind) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        frame::pack(kind, b"{}", b"", &mut bytes);
        self.socket.write_all(&bytes).await
    }

    /// Has it end, after all that came from it has ended.
    pub(super) async fn end(mut self) {
        let _ = self.send(Kind::Stop).await;
        let told = async { while let Ok(Some(_)) = self.frames.next().await {} };
        let _ = timeout(END_WITHIN, told).await;
        drop(self.socket);
        let _ = timeout(END_WITHIN, self.process.wait()).await;
    }
}
