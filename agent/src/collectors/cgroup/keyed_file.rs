//! Flat keyed files such as memory.stat: picks the few lines that are needed out of some fifty.

use crate::parse;

/// Picks the values of some keys out of a flat keyed file.
///
/// All cgroups of a running kernel list the keys in the same order, except the root. The picker learns up to two
/// orders. A file in a known order costs one comparison per line and no allocation.
#[derive(Debug)]
pub struct KeyedPicker<const N: usize> {
    keys: [&'static [u8]; N],
    orders: [Order; 2],
    /// The order to try first. The other one is replaced next.
    recent: usize,
}

/// The lines of a file: each key with its trailing blank, and its index among the wanted keys.
type Order = Vec<(Box<[u8]>, Option<usize>)>;

impl<const N: usize> KeyedPicker<N> {
    /// A picker of `keys`.
    #[must_use]
    pub const fn new(keys: [&'static [u8]; N]) -> Self {
        Self {
            keys,
            orders: [Vec::new(), Vec::new()],
            recent: 0,
        }
    }

    /// The values of the keys, `None` for those without a line. Returns `None` if the file is malformed.
    ///
    /// Negative values, which buggy kernels have reported, count as 0.
    pub fn pick(&mut self, data: &[u8]) -> Option<[Option<u64>; N]> {
        for index in [self.recent, 1 - self.recent] {
            if let Some(values) = pick_in_order(&self.orders[index], data) {
                self.recent = index;
                return Some(values);
            }
        }
        let order = self.learn(data)?;
        let values = pick_in_order(&order, data)?;
        self.recent = 1 - self.recent;
        self.orders[self.recent] = order;
        Some(values)
    }

    fn learn(&self, data: &[u8]) -> Option<Order> {
        let entry = |line: &[u8]| {
            let blank = line.iter().position(|&byte| byte == b' ')?;
            let (key, with_blank) = (line.get(..blank)?, line.get(..=blank)?);
            Some((
                with_blank.into(),
                self.keys.iter().position(|wanted| *wanted == key),
            ))
        };
        parse::lines(data).map(entry).collect()
    }
}

fn pick_in_order<const N: usize>(order: &Order, data: &[u8]) -> Option<[Option<u64>; N]> {
    let mut values = [None; N];
    let mut expected = order.iter();
    for line in parse::lines(data) {
        let (key, slot) = expected.next()?;
        let rest = line.strip_prefix(&**key)?;
        if let Some(slot) = *slot {
            values[slot] = Some(u64::try_from(parse::signed(rest)?).unwrap_or_default());
        }
    }
    expected.next().is_none().then_some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_is_learned_again_after_a_change() {
        let mut picker = KeyedPicker::new([b"anon", b"file"]);
        assert_eq!(
            picker.pick(b"anon 1\nkernel 2\nfile 3\n"),
            Some([Some(1), Some(3)])
        );
        assert_eq!(picker.pick(b"file 4\nanon -5\n"), Some([Some(0), Some(4)]));
        assert_eq!(picker.pick(b"anon_thp 9\n"), Some([None, None]));
        assert_eq!(picker.pick(b"anon\n"), None);
        assert_eq!(picker.pick(b"anon x\n"), None);
        assert_eq!(picker.pick(b"anon 1\nfile 2\n"), Some([Some(1), Some(2)]));
        assert_eq!(picker.pick(b""), Some([None, None]));
    }

    proptest! {
        #[test]
        fn no_input_panics(files: Vec<Vec<u8>>) {
            let mut picker = KeyedPicker::new([b"anon", b"file"]);
            for file in &files {
                let _values = picker.pick(file);
            }
        }

        #[test]
        fn values_do_not_depend_on_what_was_read_before(
            files in prop::collection::vec(prop::collection::vec((prop::sample::select(vec!["a", "b", "c", "d"]), 0_u32..9), 0..6), 1..6)
        ) {
            let text = |file: &[(&str, u32)]| file.iter().map(|(k, v)| format!("{k} {v}\n")).collect::<String>();
            let mut picker = KeyedPicker::new([b"a", b"c"]);
            for file in &files {
                let got = picker.pick(text(file).as_bytes());
                let fresh = KeyedPicker::new([b"a", b"c"]).pick(text(file).as_bytes());
                prop_assert_eq!(got, fresh);
            }
        }
    }
}
