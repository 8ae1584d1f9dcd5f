//! Ticks that were passed over to send newer ones first, and are still to be sent.

use std::io;
use std::path::{Path, PathBuf};

use super::SpoolError;
use super::files::write_durably;

/// Gaps that are kept apart; beyond, the two newest become one, and what lies between is sent again.
const GAPS_MAX: usize = 16;
const GAP_BYTES: usize = 16;

/// The ticks behind `behind` up to and with `until`.
///
/// `until` is the first tick that was sent in their place: with it go the ends of series that were gone by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Everything up to here is on disk at the aggregator; 0 for nothing.
    pub behind: u64,
    /// The last one.
    pub until: u64,
}

/// The gaps of one receiver, in ascending order, none touching another.
///
/// **Invariant:** a gap is on disk before the first tick behind it is sent. So an aggregator that has a tick behind a gap is
/// never asked what it has before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    /// The oldest one.
    pub(super) fn first(&self) -> Option<Gap> {
        self.0.first().copied()
    }

    /// Whether a tick between `first` and `last`, both included, is in a gap.
    pub(super) fn overlap(&self, first: u64, last: u64) -> bool {
        self.0
            .iter()
            .any(|gap| first <= gap.until && last > gap.behind)
    }

    /// How many ticks between `first` and `last`, both included, the receiver lacks. The last one of a gap it has: that was
    /// sent in place of the others.
    pub(super) fn missing(&self, first: u64, last: u64) -> u64 {
        let missing = self.0.iter().map(|gap| {
            let from = first.max(gap.behind.saturating_add(1));
            let until = last.saturating_add(1).min(gap.until);
            until.saturating_sub(from)
        });
        missing.sum()
    }

    /// Adds one behind all others.
    pub(super) fn add(&mut self, gap: Gap) {
        match self.0.last_mut() {
            Some(last) if last.until >= gap.behind => last.until = last.until.max(gap.until),
            _ => self.0.push(gap),
        }
        if self.0.len() > GAPS_MAX
            && let (Some(newest), Some(last)) = (self.0.pop(), self.0.last_mut())
        {
            last.until = newest.until;
        }
    }

    /// Forgets what lies behind `sequence`, which is still to be sent anyway. Returns whether there was anything.
    pub(super) fn cut_behind(&mut self, sequence: u64) -> bool {
        let before = self.0.clone();
        self.0.retain(|gap| gap.behind < sequence);
        if let Some(last) = self.0.last_mut() {
            last.until = last.until.min(sequence);
        }
        *self != Self(before)
    }

    /// The ticks up to `sequence` are no longer to be sent.
    pub(super) fn fill(&mut self, sequence: u64) {
        for gap in &mut self.0 {
            gap.behind = gap.behind.max(sequence);
        }
        self.0.retain(|gap| gap.behind < gap.until);
    }

    /// Reads the file of the receiver number `copy`; a damaged one counts as "nothing was sent".
    pub(super) fn load(directory: &Path, copy: usize) -> Result<Self, SpoolError> {
        let path = path(directory, copy);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self::decode(&bytes).unwrap_or_else(|| {
                tracing::error!(path = %path.display(), "list of gaps is damaged: all ticks are sent again");
                let (behind, until) = (0, u64::MAX);
                Self(vec![Gap { behind, until }])
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SpoolError::Io { path, source }),
        }
    }

    /// Replaces the file.
    pub(super) fn save(&self, directory: &Path, copy: usize) -> Result<(), SpoolError> {
        let path = path(directory, copy);
        write_durably(&path, &self.encode()).map_err(SpoolError::io(&path))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * GAP_BYTES + 4);
        for gap in &self.0 {
            bytes.extend_from_slice(&gap.behind.to_le_bytes());
            bytes.extend_from_slice(&gap.until.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(content).to_le_bytes() != *crc {
            return None;
        }
        let (gaps, rest) = content.as_chunks::<GAP_BYTES>();
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let gaps = gaps.iter().map(|gap| {
            let (behind, until) = gap.split_at(8);
            Some(Gap {
                behind: number(behind)?,
                until: number(until)?,
            })
        });
        rest.is_empty()
            .then(|| gaps.collect::<Option<_>>())?
            .map(Self)
    }
}

fn path(directory: &Path, copy: usize) -> PathBuf {
    directory.join(format!("gaps-{copy}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaps(list: &[(u64, u64)]) -> Gaps {
        let gap = |&(behind, until)| Gap { behind, until };
        Gaps(list.iter().map(gap).collect())
    }

    #[test]
    fn gaps_that_touch_become_one() {
        let mut found = gaps(&[(10, 20)]);
        let (behind, until) = (20, 30);
        found.add(Gap { behind, until });
        let (behind, until) = (40, 50);
        found.add(Gap { behind, until });
        assert_eq!(found, gaps(&[(10, 30), (40, 50)]));
    }

    #[test]
    fn number_of_gaps_is_bounded_and_none_is_forgotten() {
        let mut found = Gaps::default();
        for start in 0..100 {
            let behind = start * 10;
            found.add(Gap {
                behind,
                until: behind + 5,
            });
        }
        assert_eq!(found.0.len(), GAPS_MAX);
        assert!((0..100).all(|start| found.overlap(start * 10 + 1, start * 10 + 5)));
    }

    #[test]
    fn file_comes_back_and_a_damaged_one_asks_for_everything() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Gaps::load(dir.path(), 0).unwrap(), Gaps::default());
        let written = gaps(&[(1, 5), (7, u64::MAX)]);
        written.save(dir.path(), 0).unwrap();
        assert_eq!(Gaps::load(dir.path(), 0).unwrap(), written);
        let path = path(dir.path(), 0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Gaps::load(dir.path(), 0).unwrap(), gaps(&[(0, u64::MAX)]));
    }

    /// What is done to gaps, over the sequences from 1 to 99.
    #[derive(Debug, Clone)]
    enum Step {
        Skip(u64),
        Cut(u64),
        Fill(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (5_u64..20).prop_map(Step::Skip),
            (1_u64..100).prop_map(Step::Cut),
            (1_u64..100).prop_map(Step::Fill),
        ]
    }

    proptest! {
        #[test]
        fn behave_as_a_set_of_sequences(steps in prop::collection::vec(step(), 0..40)) {
            let mut gaps = Gaps::default();
            let mut model = std::collections::BTreeSet::new();
            let mut end = 0;
            for step in steps {
                match step {
                    Step::Skip(len) if end + 1 + len < 100 => {
                        let (behind, until) = (end + 1, end + 1 + len);
                        gaps.add(Gap { behind, until });
                        model.extend(behind + 1..=until);
                        end = until;
                    }
                    Step::Skip(_) => {}
                    Step::Cut(at) => {
                        gaps.cut_behind(at);
                        model.retain(|&sequence| sequence <= at);
                        end = end.min(at);
                    }
                    Step::Fill(at) => {
                        gaps.fill(at);
                        model.retain(|&sequence| sequence > at);
                    }
                }
                for sequence in 1..100 {
                    prop_assert_eq!(gaps.overlap(sequence, sequence), model.contains(&sequence));
                }
            }
        }
    }
}
