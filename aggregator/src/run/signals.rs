//! SIGTERM and SIGINT stop the process in order, SIGHUP reloads the configuration.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::http::state::Api;

/// Watches for signals until the process ends.
///
/// # Errors
/// The handlers can't be installed.
pub fn watch(api: &Api) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let api = Arc::clone(api);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = api.shutdown.cancelled() => break,
                _ = hang_up.recv() => {
                    let (answer, _nobody_waits) = oneshot::channel();
                    if api.reload.send(answer).await.is_err() {
                        break;
                    }
                }
            }
        }
        api.shutdown.cancel();
    });
    Ok(())
}
