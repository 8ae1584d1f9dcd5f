//! `notify`: the latency of notifications, and the cost of an alert storm.

mod subject;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use self::subject::{Subject, Way};
use self::webhook::{Outcome, Webhook};
use crate::report::{Table, print, progress};

/// Both paths of the webhook receive every alert.
const RECEIVERS: usize = 2;
/// Alertmanager adds the alerts of a request one by one; within this time, a group of a storm is complete.
const STORM_WAIT: Duration = Duration::from_secs(1);
/// Number of groups that fire one at a time.
const SINGLES: usize = 300;
/// Time after the last notification, for writes that follow it.
const SETTLE: Duration = Duration::from_secs(2);

/// Options of the benchmark.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Number of groups that fire at the same time.
    #[arg(long, default_value_t = 1000)]
    groups: usize,
    /// Number of rounds, each with new groups.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Alerts of a storm: in groups of 100, then in one group each.
    #[arg(long, default_value_t = 10_000)]
    storm: usize,
    /// Seconds after which missing notifications count as lost.
    #[arg(long, default_value_t = 90)]
    patience: u64,
    /// Makes a short run of about a minute that checks that everything works.
    #[arg(long)]
    quick: bool,
    /// Directory for the servers' data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
}

/// Results of one load on one server.
#[derive(Debug, Default)]
struct Measured {
    alerts: usize,
    group_wait: Duration,
    outcome: Outcome,
    cpu: Duration,
    /// Peak of the resident memory minus its value before.
    grown_bytes: u64,
}

impl Measured {
    fn beyond_wait_ms(&self, quantile: f64) -> Option<f64> {
        let latency = self.outcome.latency(quantile)?;
        Some((latency - self.group_wait.as_secs_f64()) * 1000.0)
    }

    fn lost(&self) -> usize {
        (self.alerts * RECEIVERS).saturating_sub(self.outcome.latencies.len())
    }
}

/// Results of all loads on one server.
#[derive(Debug)]
struct Run {
    burst: Measured,
    /// One more group at a time. Not measured with rules, whose next evaluation would have to be awaited.
    single: Option<Measured>,
    storm: Measured,
    storm_alone: Measured,
}

/// Runs the benchmark and prints its results.
///
/// # Errors
/// A server can't be started or refuses alerts. The table shows alerts that did not arrive.
pub fn run(mut options: Options) -> Result<()> {
    if options.quick {
        (options.groups, options.rounds, options.storm) = (100, 2, 1000);
    }
    std::fs::create_dir_all(&options.work)
        .with_context(|| format!("make {}", options.work.display()))?;
    let runs = Way::ALL
        .iter()
        .map(|&way| measure(way, &options))
        .collect::<Result<Vec<_>>>()?;
    let table = table(&options, &runs);
    print(&table.to_markdown())?;
    print(&json!({ "bench": "notify", "results": table.to_json() }).to_string())
}

fn measure(way: Way, options: &Options) -> Result<Run> {
    progress(way.column().name)?;
    let burst = Part {
        name: "burst",
        rounds: options.rounds,
        alerts: options.groups,
        groups: options.groups,
        group_wait: Duration::ZERO,
    };
    let storm = Part {
        name: "storm",
        rounds: 1,
        alerts: options.storm,
        groups: options.storm.div_ceil(100),
        group_wait: STORM_WAIT,
    };
    let alone = Part {
        name: "alone",
        groups: options.storm,
        ..storm
    };
    Ok(Run {
        burst: burst.measure(way, options)?,
        single: match way {
            Way::OwnRules => None,
            Way::OwnApi | Way::Alertmanager => Some(burst.measure_single(way, options)?),
        },
        storm: storm.measure(way, options)?,
        storm_alone: alone.measure(way, options)?,
    })
}

/// Alerts that fire at the same time, several times, on a separate server.
#[derive(Debug, Clone, Copy)]
struct Part {
    name: &'static str,
    rounds: usize,
    alerts: usize,
    groups: usize,
    group_wait: Duration,
}

impl Part {
    fn measure(&self, way: Way, options: &Options) -> Result<Measured> {
        let directory = tempfile::tempdir_in(&options.work)?;
        let webhook = Webhook::start()?;
        let subject = Subject::start(way, directory.path(), &webhook, self.group_wait)?;
        // The start is not measured.
        std::thread::sleep(SETTLE);
        let before = subject.usage()?;
        let mut outcome = Outcome::default();
        for round in 0..self.rounds {
            let phase = format!("{}{round}", self.name);
            subject.fire(&phase, self.alerts, self.groups)?;
            let patience = Duration::from_secs(options.patience);
            webhook.wait_for(self.alerts * RECEIVERS, patience);
            std::thread::sleep(SETTLE);
            let one = webhook.take()?;
            outcome.latencies.extend(one.latencies);
            outcome.notifications += one.notifications;
            outcome.repeated += one.repeated;
        }
        outcome.latencies.sort_by(f64::total_cmp);
        let after = subject.usage()?;
        Ok(Measured {
            alerts: self.alerts * self.rounds,
            group_wait: self.group_wait,
            outcome,
            cpu: after.cpu.saturating_sub(before.cpu),
            grown_bytes: after.rss_peak_bytes.saturating_sub(before.rss_bytes),
        })
    }
}

impl Part {
    /// Adds groups one after the other to those of a round, each after the notification of the previous one.
    fn measure_single(&self, way: Way, options: &Options) -> Result<Measured> {
        let directory = tempfile::tempdir_in(&options.work)?;
        let webhook = Webhook::start()?;
        let subject = Subject::start(way, directory.path(), &webhook, self.group_wait)?;
        let patience = Duration::from_secs(options.patience);
        subject.fire("many", self.alerts, self.groups)?;
        webhook.wait_for(self.alerts * RECEIVERS, patience);
        std::thread::sleep(SETTLE);
        webhook.take()?;
        let before = subject.usage()?;
        for round in 0..SINGLES {
            subject.fire(&format!("single{round}"), 1, 1)?;
            webhook.wait_for((round + 1) * RECEIVERS, patience);
        }
        let after = subject.usage()?;
        Ok(Measured {
            alerts: SINGLES,
            group_wait: self.group_wait,
            outcome: webhook.take()?,
            cpu: after.cpu.saturating_sub(before.cpu),
            grown_bytes: after.rss_peak_bytes.saturating_sub(before.rss_bytes),
        })
    }
}

fn table(options: &Options, runs: &[Run]) -> Table {
    let columns = Way::ALL.map(Way::column);
    let title = format!(
        "{} groups at once, {} times; {} alerts at once in groups of 100, then in a group each; {RECEIVERS} receivers",
        options.groups, options.rounds, options.storm
    );
    let mut table = Table::new(title, &columns);
    let mut row = |name: &str, key: &str, decimals, value: &dyn Fn(&Run) -> Option<f64>| {
        table.row(name, key, decimals, runs.iter().map(value).collect());
    };
    row(
        "groups at once: p50, ms beyond group_wait",
        "p50_ms",
        0,
        &|run| run.burst.beyond_wait_ms(0.5),
    );
    row("groups at once: p99, ms", "p99_ms", 0, &|run| {
        run.burst.beyond_wait_ms(0.99)
    });
    row(
        "groups at once: CPU-ms a notification",
        "cpu_ms",
        3,
        &|run| per_notification_ms(&run.burst),
    );
    let single = |run: &Run, quantile| run.single.as_ref()?.beyond_wait_ms(quantile);
    row("one group more: p50, ms", "single_p50_ms", 1, &|run| {
        single(run, 0.5)
    });
    row("one group more: p99, ms", "single_p99_ms", 1, &|run| {
        single(run, 0.99)
    });
    row("one group more: lost", "single_lost", 0, &|run| {
        Some(run.single.as_ref()?.lost() as f64)
    });
    row("groups at once: lost", "lost", 0, &|run| {
        Some(run.burst.lost() as f64)
    });
    row("groups at once: repeated", "repeated", 0, &|run| {
        Some(run.burst.outcome.repeated as f64)
    });
    add_storm(&mut table, runs, ("storm", "storm"), &|run| &run.storm);
    add_storm(&mut table, runs, ("storm, a group each", "alone"), &|run| {
        &run.storm_alone
    });
    table
}

/// Adds the rows of a storm. `names` are its title and the prefix of its keys.
fn add_storm(table: &mut Table, runs: &[Run], names: (&str, &str), of: &dyn Fn(&Run) -> &Measured) {
    let (part, key) = names;
    let mut row = |name: &str, figure: &str, decimals, value: &dyn Fn(&Measured) -> Option<f64>| {
        let values = runs.iter().map(|run| value(of(run))).collect();
        table.row(
            &format!("{part}: {name}"),
            &format!("{key}_{figure}"),
            decimals,
            values,
        );
    };
    row(
        "last alert delivered, s beyond group_wait",
        "last_s",
        2,
        &|one| Some(one.beyond_wait_ms(1.0)? / 1000.0),
    );
    row("CPU-s", "cpu_s", 2, &|one| Some(one.cpu.as_secs_f64()));
    row("RSS growth, MiB", "growth_mib", 0, &|one| {
        Some(one.grown_bytes as f64 / f64::from(1 << 20))
    });
    row("notifications", "notifications", 0, &|one| {
        Some(one.outcome.notifications as f64)
    });
    row("lost", "lost", 0, &|one| Some(one.lost() as f64));
    row("told twice", "repeated", 0, &|one| {
        Some(one.outcome.repeated as f64)
    });
}

fn per_notification_ms(one: &Measured) -> Option<f64> {
    let count = one.outcome.notifications;
    (count > 0).then(|| one.cpu.as_secs_f64() * 1000.0 / count as f64)
}
