//! Golden bytes of every frame, and malformed bytes.

use proptest::prelude::*;

use super::*;
use crate::wire::{SchemaReader, TickState};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn check(frame: &Frame<'_>, want: &str) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    assert_eq!(hex(&bytes), want, "{}", frame.name());
    assert_eq!(&Frame::decode(&bytes[4..]).unwrap(), frame);
    for len in 0..bytes.len() - 4 {
        Frame::decode(&bytes[4..4 + len]).unwrap_err();
    }
    bytes.push(0);
    let error = Frame::decode(&bytes[4..]).unwrap_err();
    assert!(
        matches!(error, WireError::Trailing { bytes: 1 }),
        "{error:?}"
    );
}

#[test]
fn golden_frames() {
    let hello = Frame::Hello {
        versions: vec![1],
        node: "n1",
        instance: *b"0123456789abcdef",
        oldest_sequence: 300,
        interval_ms: 10_000,
        program: "0.1.0",
    };
    check(
        &hello,
        "22000000000101026e3130313233343536373839616263646566fb2c01fb102705302e312e30",
    );
    let limits = Limits {
        frame_bytes_max: 4 << 20,
        series_max: 9,
    };
    let welcome = Frame::Welcome {
        version: 1,
        limits,
        durable_sequence: Some(7),
        now_ms: -1,
    };
    check(&welcome, "0b0000000101fc0000400009010701");
    let code = RefusalCode::OtherNode;
    let reason = "no";
    check(&Frame::Refused { code, reason }, "050000000202026e6f");
    let payload = &[1, 2, 3];
    let reset = true;
    check(&Frame::Schema { reset, payload }, "06000000030103010203");
    check(&Frame::Base { payload }, "050000000403010203");
    let samples = Frame::Samples {
        sequence: 1,
        timestamp_ms: 2,
        payload,
    };
    check(&samples, "0700000005010403010203");
    check(&Frame::Ack { sequence: 250 }, "0200000006fa");
    let request = &[9];
    check(&Frame::Renew { request }, "03000000070109");
    let (token, node) = ("a.b", "n");
    let join = Frame::Join {
        token,
        node,
        request,
    };
    check(&join, "090000000803612e62016e0109");
    let chain = vec![&[1u8][..], &[2]];
    let roots = vec![&[3u8][..]];
    check(
        &Frame::Issued { chain, roots },
        "09000000090201010102010103",
    );
    check(&Frame::Bye, "010000000a");
}

#[test]
fn refusal_codes_have_stable_numbers() {
    for (index, code) in RefusalCode::ALL.into_iter().enumerate() {
        let mut bytes = Vec::new();
        Frame::Refused { code, reason: "" }
            .encode(&mut bytes)
            .unwrap();
        assert_eq!(bytes[5], index as u8, "{}", code.as_str());
    }
}

#[test]
fn claimed_lengths_allocate_nothing() {
    // A Hello whose list of versions claims 2^58 entries, and an Issued whose chain does.
    for variant in [0u8, 9] {
        let mut bytes = vec![variant, 253];
        bytes.extend_from_slice(&(1u64 << 58).to_le_bytes());
        let error = Frame::decode(&bytes).unwrap_err();
        assert!(matches!(error, WireError::Decode(_)), "{error:?}");
    }
    let mut buffer = FrameBuffer::new(1000);
    buffer.extend(&1001u32.to_le_bytes());
    let error = buffer.next_message().unwrap_err();
    assert!(
        matches!(error, WireError::TooLong { bytes: 1001, .. }),
        "{error:?}"
    );
    let mut buffer = FrameBuffer::new(1000);
    buffer.extend(&1000u32.to_le_bytes());
    assert_eq!(buffer.next_message().unwrap(), None);
    assert!(buffer.bytes.capacity() < 100);
}

#[test]
fn frame_beyond_the_limit_is_not_encoded() {
    let big = vec![0; FRAME_BYTES_MAX];
    let mut out = vec![7];
    Frame::Base { payload: &big }.encode(&mut out).unwrap_err();
    assert_eq!(out, [7]);
}

proptest! {
    #[test]
    fn hostile_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(frame) = Frame::decode(&bytes) {
            let mut again = Vec::new();
            frame.encode(&mut again).unwrap();
            let back = Frame::decode(&again[4..]).unwrap();
            prop_assert_eq!(back, frame);
        }
    }

    #[test]
    fn stream_cut_anywhere_gives_the_same_messages(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..10),
        cuts in proptest::collection::vec(1usize..9, 1..50),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            stream.extend_from_slice(&(message.len() as u32).to_le_bytes());
            stream.extend_from_slice(message);
        }
        let mut buffer = FrameBuffer::new(20);
        let mut got = Vec::new();
        let (mut rest, mut cuts) = (stream.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = tail;
            buffer.extend(chunk);
            while let Some(message) = buffer.next_message().unwrap() {
                got.push(message.to_vec());
            }
        }
        prop_assert_eq!(got, messages);
        prop_assert!(buffer.is_empty());
    }
}

#[test]
fn unknown_kinds_are_refused_by_name() {
    #[track_caller]
    fn check<T>(result: Result<T, WireError>, want: &str) {
        assert_eq!(
            result.err().map(|error| error.to_string()).as_deref(),
            Some(want)
        );
    }
    check(Frame::decode(&[200]), "unknown Frame 200");
    // Refused with the code 99 and an empty reason.
    check(Frame::decode(&[2, 99, 0]), "unknown RefusalCode 99");
    let stored = |raw: &[u8]| [&[0, raw.len() as u8], raw].concat();
    let mut schema = SchemaReader::new(&stored(&[7])).unwrap();
    check(schema.next_entry(), "unknown schema entry 7");
    check(
        SchemaReader::new(&[9, 1, 0]),
        "unknown kind of compression 9",
    );
    let mut state = TickState::default();
    check(
        state.decode(&stored(&[77, 0]), &mut Vec::new()),
        "unknown layout of samples 77",
    );
}
