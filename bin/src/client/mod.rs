//! `forebay pub` and `forebay sub`: MQTT clients for scripts and for trying out, on the broker's own codec, with the
//! options, the output and the exit codes of mosquitto_pub and mosquitto_sub.

mod clock;
mod failure;
mod format;
mod link;
pub mod options;
mod property;
pub mod publish;
pub mod subscribe;
mod tls;

use std::io::Write;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use failure::Failure;
pub use format::Format;

use crate::exit;

/// After a signal: time for a client to say good-bye.
const GOOD_BYE: Duration = Duration::from_secs(3);

/// Becomes `true` when the client is to end in order.
type Stop = tokio::sync::watch::Receiver<bool>;

/// Runs a client to its end and gives the exit code; what went wrong goes to standard error unless `quiet`.
fn run<F>(quiet: bool, work: impl FnOnce(Stop) -> F) -> anyhow::Result<u8>
where
    F: Future<Output = Result<u8, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let ended: std::io::Result<_> = runtime.block_on(async {
        let signals = signals()?;
        tokio::select! {
            ended = work(stopped) => Ok(ended),
            () = async {
                signals.await;
                let _ = stop.send(true);
                tokio::time::sleep(GOOD_BYE).await;
            } => Ok(Ok(exit::OK)),
        }
    });
    // A thread that waits for a line on standard input must not hold up the end.
    runtime.shutdown_background();
    Ok(match ended? {
        Ok(code) => code,
        Err(failure) => {
            complain(quiet, &failure.to_string());
            failure.code()
        }
    })
}

/// Waits for the word to stop.
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A line on standard error.
fn complain(quiet: bool, line: &str) {
    if !quiet {
        // Nothing is left to do when standard error can't be written to.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
