//! Ticks skipped in favour of newer ones and still to be sent, for each receiver.

use std::io;
use std::path::{Path, PathBuf};

use super::files::write_durably;
use super::{Receiver, SpoolError};

/// Gaps kept separately. When there are more, the two newest are merged and the ticks between them are sent again.
const GAPS_MAX: usize = 16;
const GAP_BYTES: usize = 16;

/// Ticks after `after`, up to and including `until`.
///
/// `until` is the tick that was sent first in place of the others. It is sent again with the gap, because its schema changes end
/// series that disappeared within the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Everything up to this sequence is on disk at the aggregator; 0 for nothing.
    pub after: u64,
    /// Last sequence of the gap.
    pub until: u64,
}

/// Gaps of one receiver, in ascending order, without overlap or contact.
///
/// **Invariant:** a gap is on disk before the first tick after it is sent. So when an aggregator has a tick after a gap, this list
/// is complete for everything before that tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    /// Returns the oldest gap.
    pub(super) fn first(&self) -> Option<Gap> {
        self.0.first().copied()
    }

    /// Returns whether some tick from `first` to `last`, both inclusive, is in a gap.
    pub(super) fn overlap(&self, first: u64, last: u64) -> bool {
        self.0
            .iter()
            .any(|gap| first <= gap.until && last > gap.after)
    }

    /// Counts the ticks from `first` to `last`, both inclusive, that the receiver lacks. It has the last tick of each gap, which was
    /// sent in place of the others.
    pub(super) fn missing(&self, first: u64, last: u64) -> u64 {
        let missing = self.0.iter().map(|gap| {
            let from = first.max(gap.after.saturating_add(1));
            let until = last.saturating_add(1).min(gap.until);
            until.saturating_sub(from)
        });
        missing.sum()
    }

    /// Adds a gap that is newer than all others.
    pub(super) fn add(&mut self, gap: Gap) {
        match self.0.last_mut() {
            Some(last) if last.until >= gap.after => last.until = last.until.max(gap.until),
            _ => self.0.push(gap),
        }
        if self.0.len() > GAPS_MAX
            && let (Some(newest), Some(last)) = (self.0.pop(), self.0.last_mut())
        {
            last.until = newest.until;
        }
    }

    /// Removes everything after `sequence`, because the live lane will send it. Returns whether anything was removed.
    pub(super) fn truncate_after(&mut self, sequence: u64) -> bool {
        let before = self.0.clone();
        self.0.retain(|gap| gap.after < sequence);
        if let Some(last) = self.0.last_mut() {
            last.until = last.until.min(sequence);
        }
        *self != Self(before)
    }

    /// Removes the ticks up to `sequence`, which need not be sent any more.
    pub(super) fn fill(&mut self, sequence: u64) {
        for gap in &mut self.0 {
            gap.after = gap.after.max(sequence);
        }
        self.0.retain(|gap| gap.after < gap.until);
    }

    /// Reads the receiver's file. A damaged file counts as one gap over all ticks.
    pub(super) fn load(directory: &Path, receiver: Receiver) -> Result<Self, SpoolError> {
        let path = path(directory, receiver);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self::decode(&bytes).unwrap_or_else(|| {
                tracing::error!(path = %path.display(), "list of gaps is damaged; all ticks will be sent again");
                let (after, until) = (0, u64::MAX);
                Self(vec![Gap { after, until }])
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SpoolError::io("read list of gaps", &path)(source)),
        }
    }

    /// Replaces the receiver's file.
    pub(super) fn save(&self, directory: &Path, receiver: Receiver) -> Result<(), SpoolError> {
        let path = path(directory, receiver);
        write_durably(&path, &self.encode()).map_err(SpoolError::io("write list of gaps", &path))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * GAP_BYTES + 4);
        for gap in &self.0 {
            bytes.extend_from_slice(&gap.after.to_le_bytes());
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
            let (after, until) = gap.split_at(8);
            Some(Gap {
                after: number(after)?,
                until: number(until)?,
            })
        });
        rest.is_empty()
            .then(|| gaps.collect::<Option<_>>())?
            .map(Self)
    }
}

fn path(directory: &Path, receiver: Receiver) -> PathBuf {
    directory.join(format!("gaps-{}", receiver.index()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaps(list: &[(u64, u64)]) -> Gaps {
        let gap = |&(after, until)| Gap { after, until };
        Gaps(list.iter().map(gap).collect())
    }

    #[test]
    fn gaps_that_touch_become_one() {
        let mut found = gaps(&[(10, 20)]);
        let (after, until) = (20, 30);
        found.add(Gap { after, until });
        let (after, until) = (40, 50);
        found.add(Gap { after, until });
        assert_eq!(found, gaps(&[(10, 30), (40, 50)]));
    }

    #[test]
    fn gaps_are_merged_above_the_limit_and_none_is_lost() {
        let mut found = Gaps::default();
        for start in 0..100 {
            let after = start * 10;
            found.add(Gap {
                after,
                until: after + 5,
            });
        }
        assert_eq!(found.0.len(), GAPS_MAX);
        assert!((0..100).all(|start| found.overlap(start * 10 + 1, start * 10 + 5)));
    }

    #[test]
    fn saved_gaps_are_loaded_and_a_damaged_file_means_everything() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Gaps::load(dir.path(), Receiver::Primary).unwrap(),
            Gaps::default()
        );
        let written = gaps(&[(1, 5), (7, u64::MAX)]);
        written.save(dir.path(), Receiver::Primary).unwrap();
        assert_eq!(Gaps::load(dir.path(), Receiver::Primary).unwrap(), written);
        let path = path(dir.path(), Receiver::Primary);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(
            Gaps::load(dir.path(), Receiver::Primary).unwrap(),
            gaps(&[(0, u64::MAX)])
        );
    }

    /// Operation on the gaps among sequences 1 to 99.
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
                        let (after, until) = (end + 1, end + 1 + len);
                        gaps.add(Gap { after, until });
                        model.extend(after + 1..=until);
                        end = until;
                    }
                    Step::Skip(_) => {}
                    Step::Cut(at) => {
                        gaps.truncate_after(at);
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
