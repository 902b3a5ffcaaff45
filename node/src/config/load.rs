//! The shell around the configuration: the process's environment and the files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Config, ConfigError, ConfigErrors, Env, Inputs, Origin, raw::Raw};

/// Larger files are refused: this one is written by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration, and what to say about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its file, if there is one.
    pub file: Option<PathBuf>,
    /// Warnings, to print once.
    pub warnings: Vec<String>,
}

/// Reads the configuration of this process.
///
/// The file is `config` (`--config`), `$UMBEL_CONFIG`, `./umbel.toml` or `/etc/umbel/umbel.toml`; the first two must
/// exist. `.env` in the working directory is read unless `dotenv` is false (`--no-dotenv`).
///
/// `app` is what the Python application says of its settings, by Celery's names; nothing before it is loaded.
///
/// # Errors
/// Everything that is wrong.
pub fn load(flags: Vec<(String, String)>, config: Option<&Path>, dotenv: bool, app: Vec<(String, Raw)>) -> Result<Loaded, ConfigErrors> {
    let mut env = Env::of_process();
    let mut warnings = Vec::new();
    let dotenv_path = Path::new(".env");
    if dotenv && dotenv_path.is_file() {
        match read(dotenv_path) {
            Ok(text) => warnings.extend(env.add_dotenv(dotenv_path, &text)),
            Err(error) => warnings.push(format!(".env is ignored: {error}")),
        }
    }
    let named = match (config, env.get("UMBEL_CONFIG")) {
        (Some(path), _) => Some((path.to_owned(), Origin::Flag("--config".to_owned()))),
        (None, Some(path)) => Some((PathBuf::from(path), env.origin("UMBEL_CONFIG"))),
        (None, None) => None,
    };
    let found = match named {
        Some((path, origin)) => match read(&path) {
            Ok(text) => Some((path, text)),
            Err(error) => {
                let error = ConfigError::new(path.display().to_string(), origin, format!("cannot be read: {error}"));
                return Err(error.hint("write one with: node config init").into());
            }
        },
        None => default_file()?,
    };
    let inputs = Inputs { flags, env, file: found.as_ref().map(|(path, text)| (path.as_path(), text.as_str())), app, read: &read };
    let (config, more) = Config::build(&inputs, &hostname())?;
    warnings.extend(more);
    Ok(Loaded { config, file: found.map(|(path, _)| path), warnings })
}

fn default_file() -> Result<Option<(PathBuf, String)>, ConfigErrors> {
    for path in ["umbel.toml", "/etc/umbel/umbel.toml"].map(PathBuf::from) {
        match read(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A file that is there and cannot be read was meant to count.
            Err(error) => {
                let origin = Origin::file(&path, 1);
                return Err(ConfigError::new(path.display().to_string(), origin, format!("cannot be read: {error}")).into());
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

/// This machine's name, as Python's `socket.gethostname()` gives it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
