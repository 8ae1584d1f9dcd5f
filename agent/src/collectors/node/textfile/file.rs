//! One text file, read only when it has changed.

use std::collections::HashMap;
use std::fs::{self, File, Metadata as FileMetadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::string::FromUtf8Error;
use std::time::UNIX_EPOCH;

use common::clock::{Clock as _, SystemClock};
use common::exposition::{ExpositionLine, ParseError, Parser};
use common::model::{Labels, Metadata};
use nix::fcntl::OFlag;

/// Upper bound on the size of a file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// File timestamps are as coarse as some milliseconds (kernel) or a second (some file systems). A file written more
/// recently than this may change again without a new timestamp.
const SETTLED_SECONDS: i64 = 2;

/// Why a file is dropped as a whole. Half a file could be misleading.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("read")]
    Read(#[from] io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("not UTF-8")]
    NotUtf8(#[from] FromUtf8Error),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("{0} has a timestamp; timestamps are not supported (same as node_exporter)")]
    Timestamp(Labels),
    #[error("{0:?} is not a valid metric or label name")]
    Name(String),
    #[error("{0} is a metric of the agent itself")]
    Taken(String),
}

impl FileError {
    /// Whether the contents are at fault, not the reading.
    pub(super) const fn is_of_contents(&self) -> bool {
        !matches!(self, Self::Read(_) | Self::NotRegular)
    }
}

/// Identifies one state of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    is_settled: bool,
}

impl Stamp {
    fn of(metadata: &FileMetadata) -> Self {
        // By the clock of file timestamps. A timestamp in the future, after that clock was set back, never counts as
        // settled.
        let age_seconds = SystemClock.now_ms() / 1000 - metadata.mtime();
        Self {
            inode: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_settled: age_seconds > SETTLED_SECONDS,
        }
    }

    /// The stamp of the file at `path`; follows links.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&fs::metadata(path)?))
    }

    /// Whether a file with this stamp is certainly unchanged since `before`.
    pub(super) fn is_still(self, before: Self) -> bool {
        before.is_settled && self == before
    }
}

/// Contents of a file.
#[derive(Debug)]
pub(super) struct Contents {
    /// Labels including the metric name, and values.
    pub(super) samples: Vec<(Labels, f64)>,
    /// By family.
    pub(super) metadata: HashMap<String, Metadata>,
    /// When it was written, in seconds since the epoch.
    pub(super) modified_seconds: Option<f64>,
}

/// Opens a regular file. Anything else might block, a named pipe forever.
fn open(path: &Path) -> Result<File, FileError> {
    if !fs::metadata(path)?.is_file() {
        return Err(FileError::NotRegular);
    }
    // The file may have been replaced meanwhile.
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(FileError::NotRegular);
    }
    Ok(file)
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Contents, FileError> {
    let file = open(path)?;
    let modified = file.metadata()?.modified().ok();
    let since_epoch = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    let text = String::from_utf8(bytes)?;
    let mut contents = Contents {
        samples: Vec::new(),
        metadata: HashMap::new(),
        modified_seconds: since_epoch.map(|time| time.as_secs_f64()),
    };
    for entry in Parser::new(&text) {
        match entry? {
            ExpositionLine::Help { family, text } => {
                contents.of(&family).help = text.into_owned();
            }
            ExpositionLine::Type {
                family,
                metric_type,
            } => contents.of(&family).metric_type = metric_type,
            ExpositionLine::Sample {
                labels,
                timestamp_ms: Some(_),
                ..
            } => return Err(FileError::Timestamp(labels)),
            ExpositionLine::Sample { labels, value, .. } => {
                check_names(&labels)?;
                contents.samples.push((labels, value));
            }
        }
    }
    Ok(contents)
}

/// Refuses UTF-8 names and names that start with a digit, as node_exporter does: a page with them cannot be read by every scraper.
fn check_names(labels: &Labels) -> Result<(), FileError> {
    let is_valid = |name: &str, is_metric: bool| {
        let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || is_metric && c == ':';
        name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
    };
    let metric = labels.metric_name().unwrap_or_default();
    let label = labels
        .iter()
        .map(|(name, _)| name)
        .find(|name| !is_valid(name, false));
    let bad = (!is_valid(metric, true)).then_some(metric).or(label);
    bad.map_or(Ok(()), |name| Err(FileError::Name(name.to_owned())))
}

impl Contents {
    fn of(&mut self, family: &str) -> &mut Metadata {
        self.metadata.entry(family.to_owned()).or_default()
    }

    /// The family of a series. Histograms and summaries have series with suffixes.
    pub(super) fn family_of<'a>(&self, name: &'a str) -> &'a str {
        let stems = ["_bucket", "_sum", "_count"].into_iter();
        stems
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|stem| self.metadata.contains_key(*stem))
            .unwrap_or(name)
    }
}
