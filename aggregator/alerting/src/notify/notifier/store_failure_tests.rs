//! The log line for a failing state store includes the cause.

use std::fmt::{Debug, Write as _};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::annotations::Annotations;
use crate::store::StoreError;

/// A store that fails each commit with this OS error.
#[derive(Debug)]
struct FailingStore(i32);

impl StateStore for FailingStore {
    fn commit(&self, _: Vec<Change>, _: Durability) -> Result<(), StoreError> {
        Err(StoreError::Io {
            action: "write",
            path: "state.log".to_owned(),
            source: io::Error::from_raw_os_error(self.0),
        })
    }

    fn scan(&self, _: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        Vec::new()
    }
}

/// Collects the fields of all events.
#[derive(Default, Clone)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn log_line_of_a_failed_commit_has_the_reason() {
    for (errno, reason) in [
        (28, "No space left on device"),
        (5, "Input/output error"),
        (13, "Permission denied"),
    ] {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let text = "route: {receiver: w, group_wait: 0s}\nreceivers: [{name: w, webhook_configs: [{url: 'http://h'}]}]";
            let config = Arc::new(Config::parse(text, Path::new(".")).unwrap());
            let store = Arc::new(FailingStore(errno));
            let mut notifier = Notifier::new(config, store, String::new(), 0);
            let alert = Alert {
                labels: Labels::from_pairs([("a", "b")]).unwrap(),
                annotations: Annotations::empty(),
                starts_at_ms: 0,
                ends_at_ms: 1000,
                updated_at_ms: 0,
                generator_url: String::new(),
                timeout: false,
            };
            notifier.receive(vec![alert], 0);
            let deliveries = notifier.tick(0);
            notifier.finish(&deliveries[0], true, 0);
        });
        let log = log.0.lock().unwrap().clone();
        for message in ["store received alerts", "record notification"] {
            assert!(log.contains(message), "{log}");
        }
        assert_eq!(
            log.matches(&format!("write state.log: {reason}")).count(),
            2,
            "{log}"
        );
    }
}
