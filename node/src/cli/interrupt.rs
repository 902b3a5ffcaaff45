//! Ctrl-C and SIGTERM, as the way a verb ends early.

use super::{exit::Exit, failure::Failure};

/// Listens for the process being told to stop. From when it is made, a signal no longer ends the process by itself.
pub(super) struct Interrupt {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Interrupt {
    /// Begins to listen.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, "cannot listen for signals", error));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Begins to listen.
    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Does `work` until it is done or the process is told to stop, whichever comes first. Work that is stopped is dropped.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            exit = self.told_to_stop() => Err(Failure::interrupted(exit)),
            done = work => done,
        }
    }

    /// Waits until the process is told to stop; again and again, if it is told again.
    #[cfg(unix)]
    pub(super) async fn told_to_stop(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }

    /// Waits until the process is told to stop.
    #[cfg(not(unix))]
    pub(super) async fn told_to_stop(&mut self) -> Exit {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Exit::Interrupted,
            // Then Ctrl-C ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    }
}
