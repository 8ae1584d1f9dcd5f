//! Checks the state log without changing it. No process may have the log open.

use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::log::{FILE_MAGIC, decode};

/// Summary of a state log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedLog {
    /// The path of the log.
    pub path: PathBuf,
    /// The size of the log in bytes.
    pub bytes: u64,
    /// The number of valid records.
    pub records: u64,
    /// The offsets at which damage begins. Damage at the end of the file may be an interrupted write.
    pub damage: Vec<u64>,
}

/// Checks the log in the folder of a [`super::DurableStore`]. Returns `None` if the log does not exist.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn check_log(folder: &Path) -> Result<Option<CheckedLog>, StoreError> {
    let path = folder.join("state.log");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.display().to_string();
            return Err(StoreError::Io {
                action: "read",
                path,
                source,
            });
        }
    };
    let mut checked = CheckedLog {
        bytes: bytes.len() as u64,
        path,
        records: 0,
        damage: Vec::new(),
    };
    let magic = FILE_MAGIC.len();
    let Some((head, body)) = bytes.split_at_checked(magic) else {
        checked.damage.push(0);
        return Ok(Some(checked));
    };
    if head != FILE_MAGIC {
        checked.damage.push(0);
    }
    let replay = decode(body);
    checked.records = replay.transactions.len() as u64;
    let torn = (replay.good_bytes < body.len()).then_some(replay.good_bytes);
    let places = replay.damage.into_iter().chain(torn);
    checked.damage.extend(places.map(|at| (magic + at) as u64));
    Ok(Some(checked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Durability, DurableStore, StateStore as _, Table};
    use tidemark_storage::StateDb;

    #[test]
    fn any_flipped_bit_and_any_cut_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_log(folder.path()).unwrap(), None);
        let database = StateDb::open(folder.path()).table("alerting");
        let store = DurableStore::open(folder.path(), database).unwrap();
        let path = folder.path().join("state.log");
        let mut starts = vec![0];
        for key in 0..4 {
            starts.push(std::fs::metadata(&path).unwrap().len());
            let change = Change {
                table: Table::Silences,
                key: vec![key],
                value: Some(vec![key; 20]),
            };
            store.commit(vec![change], Durability::Synced).unwrap();
        }
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let checked = check_log(folder.path()).unwrap().unwrap();
            (checked.records, checked.damage)
        };
        assert_eq!(check(&whole), (4, vec![]));
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let at = starts.iter().rfind(|&&start| start <= (bit / 8) as u64);
            let records = if bit / 8 < FILE_MAGIC.len() { 4 } else { 3 };
            assert_eq!(check(&bytes), (records, vec![*at.unwrap()]), "bit {bit}");
        }
        for cut in 0..whole.len() {
            let is_whole = starts.get(1..).unwrap().contains(&(cut as u64));
            let (_, damage) = check(&whole[..cut]);
            let start = starts.iter().rfind(|&&start| start <= cut as u64).unwrap();
            let want = if is_whole { vec![] } else { vec![*start] };
            assert_eq!(damage, want, "cut at {cut}");
        }
    }
}
