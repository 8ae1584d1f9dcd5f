//! Frames of an agent.

use common::limits::FRAME_BYTES_MAX;
use common::wire::{
    Compressor, Frame, FrameBuffer, SchemaEntry, SchemaReader, TickState, compress,
};

/// Maximum `series_ref` of a session in this harness. The aggregator allows 200,000.
const SERIES_REFS_MAX: u32 = 1000;

/// A stream of frames with their lengths, split at arbitrary positions. A decoded frame is unchanged when it is encoded and
/// decoded again.
///
/// # Panics
/// A frame changes, or the result depends on the split.
pub fn frames(input: &[u8]) {
    let whole = read_all(&[input]);
    let (head, tail) = input.split_at(input.len() / 2);
    assert_eq!(read_all(&[head, tail]), whole);
}

/// Returns the frames as text, up to the first malformed one.
fn read_all(pieces: &[&[u8]]) -> Vec<String> {
    let mut buffer = FrameBuffer::new(FRAME_BYTES_MAX);
    let mut found = Vec::new();
    for piece in pieces {
        buffer.extend(piece);
        while let Ok(Some(message)) = buffer.next_message() {
            let Ok(frame) = Frame::decode(message) else {
                return found;
            };
            let mut again = Vec::new();
            frame.encode(&mut again).expect("it fitted before");
            let body = again.get(4..).unwrap_or_default();
            let text = format!("{frame:?}");
            let decoded = Frame::decode(body).expect("what was encoded can be decoded");
            assert_eq!(format!("{decoded:?}"), text);
            found.push(text);
        }
    }
    found
}

/// Payloads of the frames of one session: pieces of kind, length and bytes, compressed here so that mutations reach the
/// content.
///
/// # Panics
/// The codec's state and the defined series differ.
pub fn session(input: &[u8]) {
    let mut state = TickState::default();
    let mut compressor = Compressor::default();
    let mut ticks = Vec::new();
    let mut rest = input;
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = (usize::from(high) << 8 | usize::from(low)).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        let mut payload = Vec::new();
        match kind % 5 {
            0 => compressor.compress(body, None, &mut payload),
            1 => payload.extend_from_slice(body),
            2 => {
                compressor.compress(body, None, &mut payload);
                if !take_schema(&mut state, &payload) {
                    return;
                }
                continue;
            }
            3 => {
                compressor.compress(body, None, &mut payload);
                if state
                    .decode_base(&payload, SERIES_REFS_MAX as usize)
                    .is_err()
                {
                    return;
                }
                continue;
            }
            _ => state.forget_dictionary(),
        }
        if state.decode(&payload, &mut ticks).is_err() {
            return;
        }
        let ascending = ticks.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(ascending && ticks.len() <= state.capacity());
        same_by_base(&state, &mut compressor);
    }
}

fn take_schema(state: &mut TickState, payload: &[u8]) -> bool {
    let Ok(mut reader) = SchemaReader::new(payload) else {
        return false;
    };
    loop {
        match reader.next_entry() {
            Ok(None) => return true,
            Ok(Some(SchemaEntry::Added { series_ref, .. })) if series_ref < SERIES_REFS_MAX => {
                state.define(series_ref);
            }
            Ok(Some(SchemaEntry::Added { .. })) | Err(_) => return false,
            Ok(Some(SchemaEntry::Removed(_) | SchemaEntry::Family { .. })) => {}
        }
    }
}

/// Checks that a state sent as a base is the same at the other end.
fn same_by_base(state: &TickState, compressor: &mut Compressor) {
    let mut payload = Vec::new();
    state.clone().encode_base(compressor, &mut payload);
    let mut other = TickState::default();
    let taken = other.decode_base(&payload, SERIES_REFS_MAX as usize);
    taken.expect("a base that was written can be read");
    assert!(other == *state, "a base keeps every bit");
}

/// Ticks from the input: a byte with the number of series, then eight bytes per value. Over a chain of ticks, decoding
/// restores every bit.
///
/// # Panics
/// A value differs.
pub fn values(input: &[u8]) {
    let Some((&series, rest)) = input.split_first() else {
        return;
    };
    let series = u32::from(series % 16) + 1;
    let (mut here, mut there) = (TickState::default(), TickState::default());
    for number in 0..series {
        here.define(number);
        there.define(number);
    }
    let mut compressor = Compressor::default();
    let numbers: Vec<f64> = rest
        .chunks_exact(8)
        .map(|bytes| {
            f64::from_bits(
                bytes
                    .iter()
                    .fold(0, |all, &byte| all << 8 | u64::from(byte)),
            )
        })
        .collect();
    let mut decoded = Vec::new();
    for tick in numbers.chunks(series as usize) {
        // A series is absent if its value has a certain bit, so that absence is tested too.
        let cells = (0..series).zip(tick.iter().copied());
        let cells: Vec<(u32, f64)> = cells
            .filter(|(_, value)| value.to_bits() & 0x80 == 0)
            .collect();
        let mut payload = Vec::new();
        here.encode(cells.iter().copied(), &mut compressor, &mut payload);
        let read = there.decode(&payload, &mut decoded);
        read.expect("a tick that was written can be read");
        let bits = |cells: &[(u32, f64)]| -> Vec<(u32, u64)> {
            let bits = cells
                .iter()
                .map(|&(number, value)| (number, value.to_bits()));
            bits.collect()
        };
        assert_eq!(bits(&decoded), bits(&cells));
    }
    let mut raw = Vec::new();
    let _may_fail = compress::decompress(input, Some(rest), &mut raw);
    assert!(raw.len() <= FRAME_BYTES_MAX, "never more than a frame");
}
