//! `tidemarkctl check`.

use std::io::Read as _;
use std::path::Path;

use aggregator::config::{ConfigFile, WebConfig};
use aggregator::report;

use super::args::Check;
use super::client::Client;
use super::lint;
use super::output::Failure;
use super::rules;

pub(crate) fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    command: Check,
) -> Result<(), Failure> {
    match command {
        Check::Config { files } => each(&files, |path| {
            ConfigFile::load(path)
                .map(drop)
                .map_err(|error| report::chain(&error))
        }),
        Check::WebConfig { files } => each(&files, |path| {
            WebConfig::load(path)
                .map(drop)
                .map_err(|error| report::chain(&error))
        }),
        Check::Rules { files, lint_fatal } => rules::check(&files, lint_fatal),
        Check::Metrics { files } => metrics(&files),
        Check::Healthy => client()?.text("/-/healthy").map(|text| say(&text)),
        Check::Ready => client()?.text("/-/ready").map(|text| say(&text)),
    }
}

#[expect(clippy::print_stdout, reason = "a command-line tool reports there")]
fn say(text: &str) {
    println!("{text}");
}

fn each(
    files: &[std::path::PathBuf],
    check: impl Fn(&Path) -> Result<(), String>,
) -> Result<(), Failure> {
    let mut bad = 0;
    for path in files {
        match check(path) {
            Ok(()) => say(&format!("{}: good", path.display())),
            Err(reason) => {
                bad += 1;
                say(&reason);
            }
        }
    }
    match bad {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!(
            "{bad} of {} files are invalid",
            files.len()
        ))),
    }
}

fn metrics(files: &[std::path::PathBuf]) -> Result<(), Failure> {
    let mut texts = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::Failed(format!("{}: {}", path.display(), report::chain(&error)))
        })?;
        texts.push((path.display().to_string(), text));
    }
    if files.is_empty() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        texts.push(("standard input".to_owned(), text));
    }
    let mut faults = 0;
    for (origin, text) in &texts {
        let found = lint::lint(text)
            .map_err(|error| Failure::Failed(format!("{origin}: {}", report::chain(&error))))?;
        for (metric, reason) in &found {
            say(&format!("{metric} {reason}"));
        }
        faults += found.len();
    }
    match faults {
        0 => Ok(()),
        _ => Err(Failure::Lint),
    }
}
