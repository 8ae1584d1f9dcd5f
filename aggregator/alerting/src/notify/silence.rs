//! Silences, which suppress notifications for matching alerts during a period.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::model::{Labels, MatchOp, Matcher};
use common::report::chain;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::matcher::matches_all;
use crate::store::{Change, Durability, StateStore, StoreError, Table};

/// Retention of expired silences.
pub const RETENTION_MS: i64 = 120 * 3600 * 1000;
/// Maximum number of silences.
pub const SILENCES_MAX: usize = 5000;
/// Maximum size of one silence as JSON, in bytes.
pub const SILENCE_BYTES_MAX: usize = 16 << 10;

/// A matcher of a silence in the format of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceMatcher {
    /// The label name.
    pub name: String,
    /// The value or regular expression.
    pub value: String,
    /// Whether the value is a regular expression.
    pub is_regex: bool,
    /// Whether the label must match the value; `false` negates the matcher.
    #[serde(default = "yes")]
    pub is_equal: bool,
}

const fn yes() -> bool {
    true
}

/// A silence. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The UUID of the silence.
    pub id: String,
    /// The matchers. An alert is silenced if all of them match.
    pub matchers: Vec<SilenceMatcher>,
    /// The start time.
    pub starts_at_ms: i64,
    /// The end time.
    pub ends_at_ms: i64,
    /// The time of the last change.
    pub updated_at_ms: i64,
    /// The author.
    pub created_by: String,
    /// The author's comment.
    pub comment: String,
}

/// The state of a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    /// The silence suppresses notifications.
    Active,
    /// The silence has not started yet.
    Pending,
    /// The silence has ended.
    Expired,
}

impl SilenceState {
    /// Returns the name of the state in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

impl Silence {
    /// Returns the state at `now_ms`.
    #[must_use]
    pub const fn state(&self, now_ms: i64) -> SilenceState {
        if now_ms < self.starts_at_ms {
            SilenceState::Pending
        } else if now_ms < self.ends_at_ms {
            SilenceState::Active
        } else {
            SilenceState::Expired
        }
    }
}

/// An error while setting or expiring a silence.
#[derive(Debug, thiserror::Error)]
pub enum SilenceError {
    /// No silence has this id.
    #[error("silence {0} not found")]
    NotFound(String),
    /// The silence is invalid.
    #[error("invalid silence: {0}")]
    Invalid(String),
    /// The silence is too large, or there are too many silences.
    #[error("{0}")]
    Limit(String),
    /// The silence could not be stored and has no effect.
    #[error("store silence")]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone)]
struct Entry {
    silence: Silence,
    matchers: Vec<Matcher>,
}

/// All silences.
///
/// **Invariant:** every silence in memory is also on disk.
#[derive(Debug)]
pub struct Silences {
    store: Arc<dyn StateStore>,
    by_id: BTreeMap<String, Entry>,
}

impl Silences {
    /// Loads the silences from `store`.
    #[must_use]
    pub fn open(store: Arc<dyn StateStore>) -> Self {
        let mut by_id = BTreeMap::new();
        for (_, value) in store.scan(Table::Silences) {
            let silence: Result<Silence, _> = serde_json::from_slice(&value);
            let entry = silence
                .map_err(|error| error.to_string())
                .and_then(|silence| {
                    let matchers = compile(&silence.matchers)?;
                    Ok(Entry { silence, matchers })
                });
            match entry {
                Ok(entry) => drop(by_id.insert(entry.silence.id.clone(), entry)),
                Err(error) => warn!(error, "stored silence cannot be read"),
            }
        }
        Self { store, by_id }
    }

    /// Iterates over all silences in ascending order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.by_id.values().map(|entry| &entry.silence)
    }

    /// Returns the silence with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.by_id.get(id).map(|entry| &entry.silence)
    }

    /// Returns the ids of the active silences that match `labels`, in ascending order.
    #[must_use]
    pub fn matching(&self, labels: &Labels, now_ms: i64) -> Vec<&str> {
        let active = self
            .by_id
            .values()
            .filter(|entry| entry.silence.state(now_ms) == SilenceState::Active);
        active
            .filter(|entry| matches_all(&entry.matchers, labels))
            .map(|entry| entry.silence.id.as_str())
            .collect()
    }

    /// Creates or changes a silence and returns its id. The silence is durable when this returns.
    ///
    /// An empty id creates a silence with the id `fresh_id`. A change that would rewrite history expires the old
    /// silence and creates a new one.
    ///
    /// # Errors
    /// See [`SilenceError`]. Nothing changes on an error.
    pub fn set(
        &mut self,
        mut silence: Silence,
        fresh_id: String,
        now_ms: i64,
    ) -> Result<String, SilenceError> {
        let matchers = validate(&silence)?;
        let mut changes = Vec::new();
        let mut ended = None;
        if silence.id.is_empty() {
            silence.starts_at_ms = silence.starts_at_ms.max(now_ms);
            silence.id = fresh_id;
        } else {
            let Some(old) = self.get(&silence.id) else {
                return Err(SilenceError::NotFound(silence.id));
            };
            if !can_update(old, &silence, now_ms) {
                if old.state(now_ms) != SilenceState::Expired {
                    let old = expired(old, now_ms);
                    changes.push(put(&old)?);
                    ended = Some(old);
                }
                silence.starts_at_ms = silence.starts_at_ms.max(now_ms);
                silence.id = fresh_id;
            }
        }
        silence.updated_at_ms = now_ms;
        if silence.ends_at_ms <= silence.starts_at_ms {
            return Err(SilenceError::Invalid(
                "end time must not be before start time".to_owned(),
            ));
        }
        if !self.by_id.contains_key(&silence.id) && self.by_id.len() >= SILENCES_MAX {
            return Err(SilenceError::Limit(format!(
                "exceeded maximum number of silences: {SILENCES_MAX}"
            )));
        }
        changes.push(put(&silence)?);
        self.store.commit(changes, Durability::Synced)?;
        if let Some(ended) = ended
            && let Some(entry) = self.by_id.get_mut(&ended.id)
        {
            entry.silence = ended;
        }
        let id = silence.id.clone();
        self.by_id.insert(id.clone(), Entry { silence, matchers });
        Ok(id)
    }

    /// Ends a silence now. Does nothing if it has already expired.
    ///
    /// # Errors
    /// Returns an error if the silence does not exist or the change could not be stored.
    pub fn expire(&mut self, id: &str, now_ms: i64) -> Result<(), SilenceError> {
        let Some(entry) = self.by_id.get_mut(id) else {
            return Err(SilenceError::NotFound(id.to_owned()));
        };
        if entry.silence.state(now_ms) == SilenceState::Expired {
            return Ok(());
        }
        let silence = expired(&entry.silence, now_ms);
        self.store
            .commit(vec![put(&silence)?], Durability::Synced)?;
        entry.silence = silence;
        Ok(())
    }

    /// Removes silences that ended more than [`RETENTION_MS`] ago.
    pub fn collect_garbage(&mut self, now_ms: i64) {
        let is_old = |entry: &Entry| entry.silence.ends_at_ms + RETENTION_MS < now_ms;
        let old: Vec<String> = self
            .by_id
            .iter()
            .filter(|(_, entry)| is_old(entry))
            .map(|(id, _)| id.clone())
            .collect();
        let changes = old
            .iter()
            .map(|id| Change::remove(Table::Silences, id.as_bytes()))
            .collect();
        match self.store.commit(changes, Durability::Written) {
            Ok(()) => self.by_id.retain(|id, _| !old.contains(id)),
            Err(error) => warn!(error = chain(&error), "remove expired silences"),
        }
    }
}

fn put(silence: &Silence) -> Result<Change, SilenceError> {
    let change = Change::put(Table::Silences, silence.id.as_bytes(), silence)?;
    let bytes = change.value.as_ref().map_or(0, Vec::len);
    if bytes > SILENCE_BYTES_MAX {
        let message = format!("silence of {bytes} bytes, at most {SILENCE_BYTES_MAX} allowed");
        return Err(SilenceError::Limit(message));
    }
    Ok(change)
}

fn expired(silence: &Silence, now_ms: i64) -> Silence {
    Silence {
        starts_at_ms: silence.starts_at_ms.min(now_ms),
        ends_at_ms: now_ms,
        updated_at_ms: now_ms,
        ..silence.clone()
    }
}

/// Reports whether the change leaves the past of the silence intact.
fn can_update(old: &Silence, new: &Silence, now_ms: i64) -> bool {
    if old.matchers != new.matchers {
        return false;
    }
    match old.state(now_ms) {
        SilenceState::Active => {
            old.starts_at_ms / 1000 == new.starts_at_ms / 1000 && new.ends_at_ms >= now_ms
        }
        SilenceState::Pending => new.starts_at_ms >= now_ms,
        SilenceState::Expired => false,
    }
}

fn validate(silence: &Silence) -> Result<Vec<Matcher>, SilenceError> {
    if silence.matchers.is_empty() {
        return Err(SilenceError::Invalid(
            "at least one matcher required".to_owned(),
        ));
    }
    let matchers = compile(&silence.matchers).map_err(SilenceError::Invalid)?;
    // As in Alertmanager, negative matchers never count as matching the empty string.
    let is_open = |matcher: &Matcher| {
        matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex) && matcher.matches_empty()
    };
    if matchers.iter().all(is_open) {
        return Err(SilenceError::Invalid(
            "at least one matcher must not match the empty string".to_owned(),
        ));
    }
    Ok(matchers)
}

fn compile(matchers: &[SilenceMatcher]) -> Result<Vec<Matcher>, String> {
    let one = |(index, matcher): (usize, &SilenceMatcher)| {
        if matcher.name.is_empty() {
            return Err(format!(
                "invalid label matcher {index}: invalid label name {:?}",
                matcher.name
            ));
        }
        let op = match (matcher.is_regex, matcher.is_equal) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::Regex,
            (true, false) => MatchOp::NotRegex,
        };
        Matcher::new(matcher.name.clone(), op, matcher.value.clone())
            .map_err(|error| format!("invalid label matcher {index}: {error}"))
    };
    matchers.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn silence(id: &str, value: &str, starts_at_ms: i64, ends_at_ms: i64) -> Silence {
        Silence {
            id: id.to_owned(),
            matchers: vec![SilenceMatcher {
                name: "a".to_owned(),
                value: value.to_owned(),
                is_regex: false,
                is_equal: true,
            }],
            starts_at_ms,
            ends_at_ms,
            updated_at_ms: 0,
            created_by: "me".to_owned(),
            comment: "why".to_owned(),
        }
    }

    fn silences() -> Silences {
        Silences::open(Arc::new(MemoryStore::default()))
    }

    #[test]
    fn silence_is_in_force_between_its_times_and_survives_reopening() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let mut silences = Silences::open(Arc::clone(&store));
        silences
            .set(silence("", "1", 2000, 5000), "x".to_owned(), 1000)
            .unwrap();
        let labels = Labels::from_pairs([("a", "1")]).unwrap();
        for silences in [&silences, &Silences::open(store)] {
            assert!(silences.matching(&labels, 1999).is_empty());
            assert_eq!(silences.matching(&labels, 2000), ["x"]);
            assert!(silences.matching(&labels, 5000).is_empty());
            assert!(silences.matching(&Labels::empty(), 2000).is_empty());
        }
    }

    #[test]
    fn changing_what_was_in_force_makes_a_new_silence() {
        let mut silences = silences();
        silences
            .set(silence("", "1", 0, 5000), "x".to_owned(), 1000)
            .unwrap();
        assert_eq!(
            silences
                .set(silence("x", "1", 1000, 9000), "y".to_owned(), 2000)
                .unwrap(),
            "x",
            "longer"
        );
        assert_eq!(
            silences
                .set(silence("x", "2", 1000, 9000), "y".to_owned(), 2000)
                .unwrap(),
            "y",
            "other matchers"
        );
        assert_eq!(
            silences.get("x").unwrap().state(2000),
            SilenceState::Expired
        );
        assert!(matches!(
            silences.set(silence("z", "2", 0, 9000), "q".to_owned(), 2000),
            Err(SilenceError::NotFound(_))
        ));
    }

    #[test]
    fn senseless_silences_are_refused() {
        let mut silences = silences();
        let mut refused = |silence: Silence| {
            silences
                .set(silence, "x".to_owned(), 1000)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(silence("", "", 0, 5000)),
            "invalid silence: at least one matcher must not match the empty string"
        );
        assert_eq!(
            refused(silence("", "1", 0, 900)),
            "invalid silence: end time must not be before start time"
        );
        let mut empty = silence("", "1", 0, 5000);
        empty.matchers.clear();
        assert_eq!(
            refused(empty),
            "invalid silence: at least one matcher required"
        );
        assert!(
            refused(Silence {
                comment: "x".repeat(SILENCE_BYTES_MAX),
                ..silence("", "1", 0, 5000)
            })
            .contains("bytes")
        );
    }

    #[test]
    fn expiry_and_garbage() {
        let mut silences = silences();
        silences
            .set(silence("", "1", 0, 5000), "x".to_owned(), 1000)
            .unwrap();
        silences.expire("x", 2000).unwrap();
        silences.expire("x", 2000).unwrap();
        assert!(matches!(
            silences.expire("y", 2000),
            Err(SilenceError::NotFound(_))
        ));
        silences.collect_garbage(2000 + RETENTION_MS);
        assert_eq!(silences.iter().count(), 1);
        silences.collect_garbage(2001 + RETENTION_MS);
        assert_eq!(silences.iter().count(), 0);
    }
}
