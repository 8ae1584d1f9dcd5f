//! `tidemarkctl check rules` and `tidemarkctl test rules`.

use std::path::PathBuf;

use aggregator::alerting::plan::syntax;
use aggregator::alerting::unit_test;
use aggregator::report;
use tidemark_alerting::rules::file::{duplicates, load};
use tidemark_promql::Features;

use super::output::Failure;

#[expect(clippy::print_stdout, reason = "a command-line tool reports there")]
fn say(text: &str) {
    println!("{text}");
}

/// Checks rule files as promtool does.
pub(crate) fn check(files: &[PathBuf], lint_fatal: bool) -> Result<(), Failure> {
    let mut bad = 0;
    let mut repeated = 0;
    for path in files {
        say(&format!("Checking {}", path.display()));
        match load(std::slice::from_ref(path), &syntax(Features::default())) {
            Ok(loaded) => {
                let groups = loaded.iter().flat_map(|file| &file.groups);
                let rules: usize = groups.map(|group| group.rules.len()).sum();
                say(&format!("  SUCCESS: {rules} rules found"));
                for (name, labels) in duplicates(&loaded) {
                    repeated += 1;
                    let labels: Vec<String> = labels
                        .iter()
                        .map(|(name, value)| format!("{name}={value:?}"))
                        .collect();
                    say(&format!(
                        "  LINT: duplicate rule {name}{{{}}}",
                        labels.join(", ")
                    ));
                }
            }
            Err(errors) => {
                bad += 1;
                say("  FAILED:");
                for error in errors {
                    say(&report::chain(&error));
                }
            }
        }
    }
    match (bad, repeated) {
        (0, 0) => Ok(()),
        (0, _) if lint_fatal => Err(Failure::Lint),
        (0, _) => Ok(()),
        _ => Err(Failure::Failed(format!(
            "{bad} of {} files are invalid",
            files.len()
        ))),
    }
}

/// Runs unit tests of rules.
pub(crate) fn test(files: &[PathBuf]) -> Result<(), Failure> {
    let mut bad = 0;
    for path in files {
        say(&format!("Unit Testing:  {}", path.display()));
        let failures = unit_test::run(path).unwrap_or_else(|error| vec![report::chain(&error)]);
        if failures.is_empty() {
            say("  SUCCESS");
            continue;
        }
        bad += 1;
        say("  FAILED:");
        for failure in failures {
            say(&format!("{failure}\n"));
        }
    }
    match bad {
        0 => Ok(()),
        _ => Err(Failure::Failed(format!(
            "{bad} of {} files failed",
            files.len()
        ))),
    }
}
