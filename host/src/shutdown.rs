//! Stopping: the first signal asks, the second one hurries.

use std::io;

use scheduler_core::Shutdown;

/// Listens for SIGINT and SIGTERM from now on: the first of either cancels
/// [`Shutdown::stop`], the next one [`Shutdown::hurry`].
///
/// # Errors
/// When the operating system refuses the handlers.
///
/// # Panics
/// Outside a tokio runtime.
pub fn on_signals() -> io::Result<Shutdown> {
    // Registered here and not in the task: a signal that comes before the task's first turn must
    // not kill the process.
    let mut signals = Signals::listen()?;
    let shutdown = Shutdown::default();
    let told = shutdown.clone();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping; a second signal ends the grace period");
        told.stop.cancel();
        signals.next().await;
        tracing::warn!("second signal: hurrying");
        told.hurry.cancel();
    });
    Ok(shutdown)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
