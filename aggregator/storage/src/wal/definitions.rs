//! Encoding of column definitions, which name the series of a group's columns. One record holds many.
//!
//! ```text
//! texts count varint, { text }* | series count varint, { series }*
//! series: distance of the column to the expected one, zigzag varint | shape varint | values
//! shape:  0 for a new shape: count varint, { text number }*; else the number of an earlier shape, from 1
//! values: for each name 0 for the next unused text; else 1 + zigzag distance to the text that the
//!         previous series of that shape has there
//! ```
//! Series of one source come in a repeating order, so nearly all of this is zeros and ones, which the record's zstd
//! compresses well.

use common::model::Labels;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::bytes::{Malformed, Reader, put_bytes, put_varint, unzigzag, zigzag};
use crate::labels::check_pairs;
use crate::series_hash::{HashKey, SeriesHash};
use crate::value_kind::ValueKind;

/// The definition of one column of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) column: u32,
    /// The same in all definitions of a record.
    pub(crate) kind: ValueKind,
    pub(crate) labels: Labels,
}

/// Maximum number of label bytes in one record: more than those of 2,048 series at all limits. A text is stored once
/// but may be referred to many times.
const LABEL_BYTES_MAX: usize = 1 << 30;

/// Label names, and for each the text number of its value in the last series.
#[derive(Debug, Default)]
struct Shape {
    names: Vec<usize>,
    last: Vec<usize>,
}

#[derive(Debug, Default)]
struct Texts<'l> {
    list: Vec<&'l str>,
    numbers: HashMap<&'l str, usize, FxBuildHasher>,
}

impl<'l> Texts<'l> {
    fn number(&mut self, text: &'l str) -> usize {
        let next = self.list.len();
        let number = *self.numbers.entry(text).or_insert(next);
        if number == next {
            self.list.push(text);
        }
        number
    }
}

/// Appends definitions to `to`.
pub(super) fn put(to: &mut Vec<u8>, definitions: &[Definition]) {
    let mut texts = Texts::default();
    let mut shapes: Vec<Shape> = Vec::new();
    let mut numbers: HashMap<Vec<usize>, usize, FxBuildHasher> = HashMap::default();
    let mut series = Vec::with_capacity(definitions.len() * 16);
    let mut expected = 0;
    for Definition { column, labels, .. } in definitions {
        put_varint(&mut series, zigzag(i64::from(*column) - expected));
        expected = i64::from(*column) + 1;
        let names: Vec<usize> = labels.iter().map(|(name, _)| texts.number(name)).collect();
        let known = numbers.get(&names).copied();
        let shape = known.unwrap_or_else(|| {
            put_new_shape(&mut series, &names);
            numbers.insert(names.clone(), shapes.len());
            shapes.push(Shape {
                last: vec![0; names.len()],
                names,
            });
            shapes.len() - 1
        });
        if known.is_some() {
            put_varint(&mut series, shape as u64 + 1);
        }
        for ((_, value), last) in labels.iter().zip(&mut shapes[shape].last) {
            let next = texts.list.len();
            let number = texts.number(value);
            if number == next {
                put_varint(&mut series, 0);
            } else {
                put_varint(&mut series, 1 + zigzag(number as i64 - *last as i64));
            }
            *last = number;
        }
    }
    put_varint(to, texts.list.len() as u64);
    for text in texts.list {
        put_bytes(to, text.as_bytes());
    }
    put_varint(to, definitions.len() as u64);
    to.extend_from_slice(&series);
}

fn put_new_shape(to: &mut Vec<u8>, names: &[usize]) {
    put_varint(to, 0);
    put_varint(to, names.len() as u64);
    for &name in names {
        put_varint(to, name as u64);
    }
}

/// One series of a record. Names and values are numbers of texts of the record.
struct Visited<'r, 't> {
    column: u32,
    /// The number of the shape in the record.
    shape: usize,
    names: &'r [usize],
    values: &'r [usize],
    pairs: &'r [(&'t str, &'t str)],
}

/// A series of [`DecodedDefinitions`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodedSeries {
    pub(crate) column: u32,
    /// Index into [`DecodedDefinitions::shapes`].
    pub(crate) shape: u32,
    pub(crate) hash: SeriesHash,
}

/// A record of definitions, decoded without labels: series as numbers of the record's texts, for a replay, which interns
/// each text of a record once.
#[derive(Debug, Default)]
pub(crate) struct DecodedDefinitions {
    pub(crate) group: u32,
    pub(crate) key: String,
    pub(crate) kind: ValueKind,
    /// Names of each shape.
    pub(crate) shapes: Vec<Vec<u32>>,
    pub(crate) series: Vec<DecodedSeries>,
    /// Values of all series, one after the other.
    values: Vec<u32>,
    text: String,
    /// Where each text ends in `text`.
    ends: Vec<usize>,
}

impl DecodedDefinitions {
    pub(crate) fn texts_len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn text(&self, number: u32) -> &str {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        // The ends are those of whole texts, so the range is always valid.
        self.text.get(start..self.ends[number]).unwrap_or_default()
    }

    /// Each series and the texts of its values.
    pub(crate) fn series(&self) -> impl Iterator<Item = (&DecodedSeries, &[u32])> {
        let mut rest = self.values.as_slice();
        self.series.iter().map(move |series| {
            let (own, others) = rest.split_at(self.shapes[series.shape as usize].len());
            rest = others;
            (series, own)
        })
    }

    /// Reads the definitions behind group and key.
    ///
    /// # Errors
    /// See [`read`].
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, key: &HashKey) -> Result<(), Malformed> {
        let texts = read_texts(reader)?;
        for text in &texts {
            self.text.push_str(text);
            self.ends.push(self.text.len());
        }
        let mut packed = Vec::new();
        visit(reader, &texts, |one| {
            if one.shape == self.shapes.len() {
                let names = one.names.iter().map(|&name| name as u32);
                self.shapes.push(names.collect());
            }
            packed.clear();
            Labels::pack_sorted(one.pairs, &mut packed);
            self.series.push(DecodedSeries {
                column: one.column,
                shape: one.shape as u32,
                hash: key.hash_bytes(&packed),
            });
            self.values
                .extend(one.values.iter().map(|&value| value as u32));
        })
    }
}

/// Reads what [`put`] wrote.
///
/// # Errors
/// The bytes are malformed, or give labels that no series can have.
pub(super) fn read(reader: &mut Reader<'_>, kind: ValueKind) -> Result<Vec<Definition>, Malformed> {
    let texts = read_texts(reader)?;
    let mut definitions = Vec::new();
    visit(reader, &texts, |one| {
        definitions.push(Definition {
            column: one.column,
            kind,
            labels: Labels::from_sorted(one.pairs.iter().copied()),
        });
    })?;
    Ok(definitions)
}

fn read_texts<'t>(reader: &mut Reader<'t>) -> Result<Vec<&'t str>, Malformed> {
    let count = reader.count(1)?;
    let mut texts = Vec::with_capacity(count);
    for _ in 0..count {
        texts.push(reader.str()?);
    }
    Ok(texts)
}

/// Reads the series of a record, whose texts are `texts`.
fn visit<'t>(
    reader: &mut Reader<'_>,
    texts: &[&'t str],
    mut each: impl FnMut(Visited<'_, 't>),
) -> Result<(), Malformed> {
    let count = reader.count(2)?;
    let mut shapes: Vec<Shape> = Vec::new();
    let (mut expected, mut used) = (0_i64, 0);
    let mut pairs = Vec::new();
    let mut label_bytes = 0;
    for _ in 0..count {
        expected = expected.checked_add(reader.signed()?).ok_or(Malformed)?;
        let column = u32::try_from(expected).map_err(|_| Malformed)?;
        expected += 1;
        let number = match reader.varint()? {
            0 => {
                shapes.push(read_new_shape(reader, texts.len(), &mut used)?);
                shapes.len() - 1
            }
            number => usize::try_from(number - 1).map_err(|_| Malformed)?,
        };
        let shape = shapes.get_mut(number).ok_or(Malformed)?;
        pairs.clear();
        read_values(reader, shape, texts, &mut used, &mut pairs)?;
        check_pairs(&pairs)?;
        label_bytes += pairs.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        if label_bytes > LABEL_BYTES_MAX {
            return Err(Malformed);
        }
        each(Visited {
            column,
            shape: number,
            names: &shape.names,
            values: &shape.last,
            pairs: &pairs,
        });
    }
    Ok(())
}

fn read_new_shape(
    reader: &mut Reader<'_>,
    texts: usize,
    used: &mut usize,
) -> Result<Shape, Malformed> {
    let count = reader.count(1)?;
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.varint_u32()? as usize;
        if name >= texts {
            return Err(Malformed);
        }
        *used = (*used).max(name + 1);
        names.push(name);
    }
    Ok(Shape {
        last: vec![0; names.len()],
        names,
    })
}

fn read_values<'t>(
    reader: &mut Reader<'_>,
    shape: &mut Shape,
    texts: &[&'t str],
    used: &mut usize,
    pairs: &mut Vec<(&'t str, &'t str)>,
) -> Result<(), Malformed> {
    for (&name, last) in shape.names.iter().zip(&mut shape.last) {
        let number = match reader.varint()? {
            0 => *used,
            distance => {
                let last = *last as i64;
                let number = last.checked_add(unzigzag(distance - 1)).ok_or(Malformed)?;
                usize::try_from(number).map_err(|_| Malformed)?
            }
        };
        let value = texts.get(number).ok_or(Malformed)?;
        *used = (*used).max(number + 1);
        *last = number;
        pairs.push((texts.get(name).ok_or(Malformed)?, value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn definitions(list: &[(u32, Vec<(String, String)>)]) -> Vec<Definition> {
        let one = |(column, pairs): &(u32, Vec<(String, String)>)| {
            let pairs = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let labels = Labels::from_pairs(pairs).ok()?;
            Some(Definition {
                column: *column,
                kind: ValueKind::Float,
                labels,
            })
        };
        list.iter().filter_map(one).collect()
    }

    #[test]
    fn series_of_one_source_take_few_bytes() {
        let one = |column: u32| {
            let name = format!("container_metric_{:03}_total", column % 35);
            let pairs = [
                ("__name__", name),
                ("container", format!("c-{}", column / 35 % 2)),
                ("pod", format!("deployment-7c9f-{}", column / 70)),
                ("node", "node-17.cluster.local".to_owned()),
            ];
            let labels = Labels::from_pairs(pairs).unwrap();
            let kind = ValueKind::Float;
            Definition {
                column,
                kind,
                labels,
            }
        };
        let list: Vec<Definition> = (0..3500).map(one).collect();
        let mut bytes = Vec::new();
        put(&mut bytes, &list);
        let packed = zstd::bulk::compress(&bytes, 1).unwrap();
        assert!(packed.len() < 3500, "{} bytes", packed.len());
        assert_eq!(read(&mut Reader::new(&bytes), ValueKind::Float), Ok(list));
    }

    /// Generates strings of any characters. The strategy of `String` is a pattern and takes minutes in a debug build.
    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(any::<char>(), 0..12).prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn definitions_come_back(
            list in prop::collection::vec((any::<u32>(), prop::collection::vec((text(), text()), 0..4)), 0..8),
            few in prop::collection::vec((0..9_u32, prop::collection::vec(("[a-c]", "[x-z]"), 0..4)), 0..40),
        ) {
            for list in [definitions(&list), definitions(&few)] {
                let mut bytes = Vec::new();
                put(&mut bytes, &list);
                prop_assert_eq!(read(&mut Reader::new(&bytes), ValueKind::Float), Ok(list));
            }
        }

        #[test]
        fn arbitrary_bytes_are_an_error_not_a_panic(bytes: Vec<u8>) {
            let _unused = read(&mut Reader::new(&bytes), ValueKind::Float).is_ok();
        }
    }
}
