//! `tidemarkctl cert`.

use std::path::Path;
use std::sync::Arc;

use aggregator::config::file::ConfigFile;
use aggregator::pki::{AggregatorName, Pki};
use common::clock::SystemClock;
use common::report::chain;

use super::args::Cert;
use super::output::Failure;

#[expect(clippy::print_stdout, reason = "the token is the result")]
pub(crate) fn run(command: &Cert) -> Result<(), Failure> {
    let Cert::Token {
        storage_path,
        config_file,
        nodes,
        lifetime,
        uses,
    } = command;
    let lifetime =
        common::duration::parse(lifetime).map_err(|error| failed("--lifetime", &error))?;
    let pki = open(storage_path, config_file.as_deref())?;
    let token = pki
        .create_token(nodes, lifetime, *uses)
        .map_err(|error| failed("create the token", &error))?;
    println!("{}", token.reveal());
    Ok(())
}

/// Opens the authority of an aggregator. Creating one here would be of no use: no aggregator would have it.
fn open(storage_path: &Path, config_file: Option<&Path>) -> Result<Pki, Failure> {
    let directory = storage_path.join("pki");
    if !directory.is_dir() {
        return Err(Failure::Failed(format!(
            "no certificate authority in {}: pass the data directory of an aggregator that has been started",
            directory.display()
        )));
    }
    let config = match config_file {
        Some(path) => ConfigFile::load(path).map_err(|error| failed("--config.file", &error))?,
        None => ConfigFile::default(),
    };
    let name = AggregatorName::from(&config.tls);
    Pki::open(storage_path, name, Arc::new(SystemClock))
        .map_err(|error| failed("open the certificates", &error))
}

fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Failed(format!("{what}: {}", chain(error)))
}
