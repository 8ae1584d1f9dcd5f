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
        .map_err(|error| failed("make the token", &error))?;
    println!("{}", token.reveal());
    Ok(())
}

/// Opens the authority that an aggregator has made; a second one made here would be nobody's.
fn open(storage_path: &Path, config_file: Option<&Path>) -> Result<Pki, Failure> {
    let directory = storage_path.join("pki");
    if !directory.is_dir() {
        return Err(Failure::Failed(format!(
            "no certificate authority in {}: name the data directory of an aggregator that has run",
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
