use super::*;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::model::Labels;

use super::cache::Cache;
use super::format::{FOOTER_BYTES, Footer, SECTIONS, Section, file_bytes_min};
use super::reader::{BlockError, Caches};
use super::slice::Samples;
use super::writer::BlockWriter;
use crate::bytes::{put_bytes, put_varint};
use crate::index::SeriesId;
use crate::index::view::SeriesIndex as _;
use crate::manifest::Manifest;
use crate::series_hash::HashKey;
use crate::state::MemoryTable;

type Content = BTreeMap<Labels, Vec<(i64, u64)>>;

fn key() -> HashKey {
    HashKey::from_bytes([9; 32])
}

fn manifest() -> Manifest {
    Manifest::new(Arc::new(MemoryTable::default()))
}

fn caches() -> Arc<Caches> {
    Arc::new(Caches {
        chunks: Cache::new(1 << 20),
        indexes: Cache::new(1 << 20),
    })
}

/// A block with several groups: series that share a clock, some with gaps, and one with a clock of its own.
fn write_block(directory: &Path) -> (std::path::PathBuf, Content) {
    let mut content = Content::new();
    let mut writer = BlockWriter::create(directory, 1).unwrap();
    for group in ["a", "b"] {
        writer.group(group).unwrap();
        for number in 0..80_i64 {
            let pairs = [
                ("__name__", format!("m{number:02}")),
                ("group", group.to_owned()),
            ];
            let labels = Labels::from_pairs(pairs).unwrap();
            let mut samples = Samples::default();
            for tick in 0..120_i64 {
                if number % 9 != 4 || tick % 5 == 0 {
                    let time = tick * 10_000 + i64::from(number == 77) * (tick % 3 + 1);
                    samples.push(time, ((tick * number) as f64 / 4.0).to_bits());
                }
            }
            let pairs = samples
                .times_ms
                .iter()
                .copied()
                .zip(samples.bits.iter().copied());
            content.insert(labels.clone(), pairs.collect());
            writer.push(&labels, &mut samples).unwrap();
        }
    }
    (writer.finish(0, &[7, 8]).unwrap(), content)
}

fn open(path: &Path) -> Result<Block, BlockError> {
    Block::open(path, 1, key(), caches())
}

/// The samples of every series; a damaged chunk leaves its samples out and is counted.
fn read_block(block: &Block) -> Result<(Content, u32), BlockError> {
    let loaded = block.load()?;
    let mut content = Content::new();
    let mut damaged = std::collections::BTreeSet::new();
    for id in (0..loaded.index.len() as u32).map(SeriesId) {
        let mut list = Vec::new();
        for (number, column) in loaded.chunks_of(id, i64::MIN, i64::MAX) {
            let Ok(chunk) = block.chunk(&loaded, number, true) else {
                damaged.insert(number);
                continue;
            };
            let (mut scratch, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
            chunk.samples(column, &mut scratch, &mut times, &mut values);
            list.extend(times.into_iter().zip(values.into_iter().map(f64::to_bits)));
        }
        content.insert(loaded.index.labels(id), list);
    }
    Ok((content, damaged.len() as u32))
}

#[test]
fn block_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (path, content) = write_block(directory.path());
    let block = open(&path).unwrap();
    assert_eq!(read_block(&block).unwrap(), (content.clone(), 0));
    assert_eq!(block.replaces().unwrap(), [7, 8]);
    let loaded = block.load().unwrap();
    for labels in content.keys() {
        let id = loaded.index.find(key().hash(labels)).unwrap();
        assert_eq!(&loaded.index.labels(id), labels);
    }
    let groups: Vec<_> = loaded
        .index
        .groups
        .iter()
        .map(|g| (g.key.as_str(), g.series))
        .collect();
    assert_eq!(groups, [("a", 80), ("b", 80)]);
}

#[test]
fn flipped_bit_costs_a_chunk_or_is_an_error_but_never_a_wrong_value() {
    let directory = tempfile::tempdir().unwrap();
    let (path, content) = write_block(directory.path());
    let sound = fs::read(&path).unwrap();
    let mut random = 99_u64;
    let rounds = std::env::var("TIDEMARK_FLIPS").map_or(300, |text| text.parse().unwrap());
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let bit = (random >> 20) as usize % (sound.len() * 8);
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let Ok((got, damaged)) = open(&path).and_then(|block| read_block(&block)) else {
            continue;
        };
        assert!(damaged <= 1, "round {round}");
        for (labels, list) in &got {
            let want = &content[labels];
            assert!(
                list.iter().all(|one| want.contains(one)),
                "round {round} bit {bit}"
            );
            assert!(
                damaged == 1 || list == want,
                "round {round} bit {bit}: silent loss"
            );
        }
    }
}

/// A block file in which a section is another, with checksums that hold. `unpacked`: what the footer says of it.
fn forge(path: &Path, section: usize, content: &[u8], unpacked: usize) {
    let mut file = fs::read(path).unwrap();
    let footer_at = file.len() - FOOTER_BYTES;
    let mut footer = Footer::parse(&file[footer_at..], footer_at as u64).unwrap();
    file.truncate(footer_at);
    let stored = zstd::bulk::compress(content, 3).unwrap();
    footer.sections[section] = Section {
        offset: file.len() as u64,
        stored: stored.len() as u32,
        unpacked: unpacked as u32,
        crc: crc32c::crc32c(&stored),
    };
    file.extend_from_slice(&stored);
    file.extend_from_slice(&footer.to_bytes());
    fs::write(path, file).unwrap();
}

/// The symbols section of texts that share all but their last bytes: few bytes that stand for many.
fn symbols_sharing(count: u32, length: usize) -> Vec<u8> {
    let mut section = Vec::new();
    put_varint(&mut section, u64::from(count));
    put_varint(&mut section, 0);
    put_bytes(&mut section, &vec![b'a'; length]);
    for number in 1..count {
        put_varint(&mut section, length as u64);
        put_bytes(&mut section, format!("{number:08}").as_bytes());
    }
    section
}

#[test]
fn forged_block_takes_no_memory_that_its_length_does_not_vouch_for() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = write_block(directory.path());
    let sound = fs::read(&path).unwrap();
    let refused = |path: &Path| match open(path).and_then(|block| block.load().map(drop)) {
        Err(BlockError::Damaged(part)) => part,
        other => panic!("{other:?}"),
    };
    // 1.2 GB of text in some 100 KB.
    let symbols = symbols_sharing(20_000, 60_000);
    forge(&path, 2, &symbols, symbols.len());
    assert!(fs::metadata(&path).unwrap().len() < 1 << 20);
    assert_eq!(refused(&path), "index");
    for section in 0..SECTIONS {
        fs::write(&path, &sound).unwrap();
        forge(&path, section, &[0; 100], 1 << 30);
        assert_eq!(refused(&path), "footer", "section {section}");
    }
}

#[test]
fn block_whose_labels_pack_too_well_is_made_longer_and_comes_back() {
    const SERIES: u32 = 8000;
    let directory = tempfile::tempdir().unwrap();
    let mut writer = BlockWriter::create(directory.path(), 1).unwrap();
    writer.group("g").unwrap();
    let prefix = "p".repeat(4000);
    let labels = |number: u32| {
        let value = format!("{prefix}{number:06}");
        Labels::from_pairs([("__name__", "m"), ("path", &value)]).unwrap()
    };
    let mut samples = Samples::default();
    for number in 0..SERIES {
        samples.push(1000, 0);
        writer.push(&labels(number), &mut samples).unwrap();
    }
    let path = writer.finish(0, &[]).unwrap();
    let text_bytes = u64::from(SERIES) * 4006;
    assert!(fs::metadata(&path).unwrap().len() >= file_bytes_min(text_bytes));
    let loaded = open(&path).unwrap().load().unwrap();
    for number in [0, 1, 4321, SERIES - 1] {
        assert!(loaded.index.find(key().hash(&labels(number))).is_some());
    }
}

#[test]
fn truncated_block_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = write_block(directory.path());
    let sound = fs::read(&path).unwrap();
    for length in (0..sound.len()).step_by(97) {
        fs::write(&path, &sound[..length]).unwrap();
        assert!(open(&path).is_err(), "{length} bytes");
    }
}

#[test]
fn damaged_block_is_set_aside_and_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = directory.path().join("blocks");
    let quarantine = directory.path().join("corrupt");
    fs::create_dir(&blocks).unwrap();
    let (path, _) = write_block(&blocks);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 4;
    fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let block_list =
            block_list::BlockList::open(&blocks, &quarantine, key(), caches(), manifest()).unwrap();
        assert!(block_list.all().is_empty());
        assert_eq!(block_list.quarantined(0, 5).len(), 1);
        assert_eq!(block_list.quarantined(1 << 50, 1 << 51).len(), 0);
    }
    assert!(!path.try_exists().unwrap());
}

#[test]
fn what_a_merged_block_replaces_is_gone_after_a_crash_between() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = directory.path().join("blocks");
    fs::create_dir(&blocks).unwrap();
    for (id, replaces) in [(7, &[][..]), (9, &[7]), (10, &[])] {
        let mut writer = BlockWriter::create(&blocks, id).unwrap();
        let mut samples = Samples::default();
        samples.push(id as i64, 1);
        writer.group("g").unwrap();
        writer
            .push(&Labels::from_pairs([("a", "b")]).unwrap(), &mut samples)
            .unwrap();
        writer.finish(0, replaces).unwrap();
    }
    fs::write(blocks.join("0000000000000063.tmp"), b"unfinished").unwrap();
    let quarantine = directory.path().join("corrupt");
    let block_list =
        block_list::BlockList::open(&blocks, &quarantine, key(), caches(), manifest()).unwrap();
    let ids: Vec<u64> = block_list.all().iter().map(|block| block.id).collect();
    assert_eq!(ids, [9, 10]);
    assert_eq!(fs::read_dir(&blocks).unwrap().count(), 2);
    assert_eq!(block_list.new_id(), 11);
}
