//! Log lines on standard error, as logfmt or JSON.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `--log.level` is neither a level nor a list of directives.
    #[error("--log.level: {0:?} is neither error, warn, info, debug, trace nor tracing directives")]
    Level(String),
    /// Logging was set up before.
    #[error("logging is already set up")]
    Twice,
}

/// Targets of libraries that log each failed request at ERROR, though the caller logs the failure once. Shown only if
/// `--log.level` names them.
const SILENCED: [&str; 1] = ["kube_client::client::builder"];

/// Sets up logging for the process.
///
/// # Errors
/// See [`LoggingError`].
pub fn init(level: &str, format: &str) -> Result<(), LoggingError> {
    let filter = filter(level).ok_or_else(|| LoggingError::Level(level.to_owned()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = if format == "json" {
        builder.json().flatten_event(true).finish().try_init()
    } else {
        builder.event_format(Logfmt).finish().try_init()
    };
    result.map_err(|_| LoggingError::Twice)
}

fn filter(level: &str) -> Option<EnvFilter> {
    let mut filter = EnvFilter::builder().parse(level).ok()?;
    for target in SILENCED {
        let crate_name = target.split("::").next().unwrap_or(target);
        if !level.contains(crate_name) {
            filter = filter.add_directive(format!("{target}=off").parse().ok()?);
        }
    }
    Some(filter)
}

/// `time=… level=INFO source=module msg="…" key=value`
#[derive(Debug)]
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("time=")?;
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        write!(
            writer,
            " level={} source={}",
            metadata.level(),
            metadata.target()
        )?;
        let mut fields = Fields {
            line: String::new(),
        };
        event.record(&mut fields);
        writer.write_str(&fields.line)?;
        writer.write_char('\n')
    }
}

struct Fields {
    line: String,
}

impl Fields {
    fn push(&mut self, name: &str, value: &str) {
        let name = if name == "message" { "msg" } else { name };
        let bare = !value.is_empty()
            && value
                .chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\'));
        // Writing to a string can't fail.
        let (Ok(()) | Err(fmt::Error)) = if bare {
            write!(self.line, " {name}={value}")
        } else {
            write!(self.line, " {name}={value:?}")
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noisy_targets_are_silenced_unless_named() {
        let shown = |level| filter(level).unwrap().to_string();
        let off = "kube_client::client::builder=off";
        assert!(shown("info").contains(off), "{}", shown("info"));
        assert!(!shown("info,kube_client=debug").contains(off));
        assert!(filter("tidemark=loud").is_none());
    }

    #[test]
    fn values_are_quoted_only_when_necessary() {
        let mut fields = Fields {
            line: String::new(),
        };
        fields.push("message", "listening");
        fields.push("address", "127.0.0.1:9090");
        fields.push("error", "no \"such\" file\nor directory");
        fields.push("empty", "");
        assert_eq!(
            fields.line,
            " msg=listening address=127.0.0.1:9090 \
             error=\"no \\\"such\\\" file\\nor directory\" empty=\"\""
        );
    }
}
