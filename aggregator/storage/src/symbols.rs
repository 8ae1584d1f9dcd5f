//! Interned strings: each label name and value is stored once and has a number.

use hashbrown::HashTable;

/// The number of an interned string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Symbol(pub(crate) u32);

/// The table of interned strings. Strings are never removed; a new table is built without the unused ones.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    text: String,
    /// Where each string ends in `text`. It begins at the end of the previous one.
    ends: Vec<u32>,
    by_text: HashTable<u32>,
}

fn hash(text: &str) -> u64 {
    use std::hash::{BuildHasher as _, BuildHasherDefault};
    BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(text)
}

fn text_of<'a>(text: &'a str, ends: &[u32], symbol: u32) -> &'a str {
    let index = symbol as usize;
    let start = index.checked_sub(1).map_or(0, |before| ends[before]);
    text.get(start as usize..ends[index] as usize)
        .unwrap_or_default()
}

impl Symbols {
    /// Returns the number of `text`, and assigns one if it has none. Returns `None` when 4 GiB of text are interned.
    pub(crate) fn intern(&mut self, text: &str) -> Option<Symbol> {
        if let Some(symbol) = self.find(text) {
            return Some(symbol);
        }
        let end = u32::try_from(self.text.len() + text.len()).ok()?;
        let symbol = u32::try_from(self.ends.len()).ok()?;
        self.text.push_str(text);
        self.ends.push(end);
        let (all, ends) = (&self.text, &self.ends);
        self.by_text
            .insert_unique(hash(text), symbol, |&other| hash(text_of(all, ends, other)));
        Some(Symbol(symbol))
    }

    /// The number of `text` if it was interned.
    pub(crate) fn find(&self, text: &str) -> Option<Symbol> {
        self.by_text
            .find(hash(text), |&other| {
                text_of(&self.text, &self.ends, other) == text
            })
            .copied()
            .map(Symbol)
    }

    /// The string with that number.
    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        text_of(&self.text, &self.ends, symbol.0)
    }

    /// Returns the number of strings.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all strings together.
    pub(crate) const fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the approximate memory in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.by_text.capacity() * 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_a_number() {
        let mut symbols = Symbols::default();
        let numbers: Vec<_> = ["a", "", "b", "a", "", "ü"]
            .iter()
            .map(|text| symbols.intern(text).unwrap().0)
            .collect();
        assert_eq!(numbers, [0, 1, 2, 0, 1, 3]);
        assert_eq!(symbols.text(Symbol(3)), "ü");
        assert_eq!(symbols.find("c"), None);
    }
}
