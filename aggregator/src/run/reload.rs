//! Reloads the configuration file. If it is invalid, the old configuration stays in force.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::metric;
use common::telemetry::{Gauge, MetricDef};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::alerting;
use crate::config::{ConfigFile, Settings};
use crate::http::state::{Api, ReloadAnswer};
use crate::report;

const SUCCESSFUL: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_config_last_reload_successful",
    "Whether the last reload of the configuration succeeded."
);
const SUCCESS_TIME: MetricDef<Gauge> = metric!(
    Gauge,
    "aggregator_config_last_reload_success_timestamp_seconds",
    "Time of the last successful load of the configuration, since the Unix epoch."
);

/// Handles reload requests one at a time.
pub async fn serve(
    api: Api,
    mut requests: mpsc::Receiver<oneshot::Sender<ReloadAnswer>>,
    stop: CancellationToken,
) {
    let good = SUCCESSFUL.register(&api.registry, &[]);
    let when = SUCCESS_TIME.register(&api.registry, &[]);
    good.set(1.0);
    when.set(api.started_ms as f64 / 1000.0);
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            () = stop.cancelled() => return,
        };
        let Some(answer) = request else { return };
        let api_now = Arc::clone(&api);
        let result = match tokio::task::spawn_blocking(move || reload(&api_now)).await {
            Ok(result) => result,
            Err(error) => Err(error.to_string()),
        };
        good.set(f64::from(u8::from(result.is_ok())));
        api.config_good.store(result.is_ok(), Ordering::Relaxed);
        match &result {
            Ok(()) => {
                let now_ms = api.clock.now_ms();
                api.config_loaded_ms.store(now_ms, Ordering::Relaxed);
                when.set(now_ms as f64 / 1000.0);
                tracing::info!("configuration reloaded");
            }
            Err(reason) => {
                tracing::error!(
                    error = reason,
                    "new configuration is invalid, keeping the old one"
                );
            }
        }
        // Nobody waits for the result of a SIGHUP.
        drop(answer.send(result));
    }
}

fn reload(api: &Api) -> ReloadAnswer {
    let Some(path) = &api.flags.config_file else {
        return Ok(());
    };
    let file = ConfigFile::load(path).map_err(|error| report::chain(&error))?;
    let settings = Settings::new(&api.flags, &file).map_err(|error| report::chain(&error))?;
    let plan = alerting::Plan::load(&file, Some(path), settings.promql_features())
        .map_err(|error| report::chain(&error))?;
    api.config.store(Arc::new(file));
    if let Some(alerting) = api.alerting.get() {
        alerting.load(plan);
    }
    Ok(())
}
