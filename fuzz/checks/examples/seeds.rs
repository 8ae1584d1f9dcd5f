//! Writes the initial binary inputs of the corpus with this tree's encoders. Run it after a format has changed:
//! `cargo run -p fuzz-checks --example seeds`.

use std::error::Error;
use std::fs;
use std::path::Path;

use common::model::{Labels, Metadata, MetricType};
use common::wire::frame::Limits;
use common::wire::{Compressor, Frame, RefusalCode, SchemaWriter, TickState};
use tidemark_storage::fuzzing;

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut seeds = fuzzing::examples();
    frames(&mut seeds)?;
    session(&mut seeds)?;
    values(&mut seeds);
    remote(&mut seeds);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (index, (target, bytes)) in seeds.iter().enumerate() {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{index:02}")), bytes)?;
    }
    Ok(())
}

fn frames(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let limits = Limits {
        frame_bytes_max: 4 << 20,
        series_max: 200_000,
    };
    let all = [
        Frame::Hello {
            versions: vec![1, 2],
            node: "n1",
            instance: [7; 16],
            oldest_sequence: 1 << 32,
            interval_ms: 10_000,
            program: "tidemark-agent 0.1.0",
        },
        Frame::Welcome {
            version: 1,
            limits,
            durable_sequence: Some(3),
            now_ms: 1_700_000_000_000,
        },
        Frame::Refused {
            code: RefusalCode::OtherNode,
            reason: "no",
        },
        Frame::Ack { sequence: 9 },
        Frame::Samples {
            sequence: 4,
            timestamp_ms: -1,
            payload: b"abc",
        },
        Frame::Join {
            token: "t",
            node: "n",
            request: b"csr",
        },
        Frame::Issued {
            chain: vec![b"a", b"b"],
            roots: vec![b"c"],
        },
        Frame::Bye,
    ];
    let mut stream = Vec::new();
    for frame in &all {
        let mut one = Vec::new();
        frame.encode(&mut one)?;
        stream.extend_from_slice(&one);
        seeds.push(("wire_frames", one));
    }
    seeds.push(("wire_frames", stream));
    Ok(())
}

/// A schema of three series and a tick, uncompressed, because the target compresses it.
fn session(seeds: &mut Seeds) -> Result<(), Box<dyn Error>> {
    let stored = |payload: &[u8]| {
        let mut raw = Vec::new();
        common::wire::compress::decompress(payload, None, &mut raw).map(|()| raw)
    };
    let piece = |kind: u8, body: &[u8], input: &mut Vec<u8>| -> Result<(), Box<dyn Error>> {
        input.push(kind);
        input.extend_from_slice(&u16::try_from(body.len())?.to_be_bytes());
        input.extend_from_slice(body);
        Ok(())
    };
    let mut compressor = Compressor::default();
    let mut writer = SchemaWriter::default();
    let metadata = Metadata {
        metric_type: MetricType::Gauge,
        help: "H".to_owned(),
        unit: String::new(),
    };
    writer.family("up", &metadata);
    let mut state = TickState::default();
    for (number, job) in [(0, "a"), (1, "b"), (2, "c")] {
        writer.added(
            number,
            &Labels::from_pairs([("__name__", "up"), ("job", job)])?,
        );
        state.define(number);
    }
    let mut schema = Vec::new();
    writer.finish(&mut compressor, &mut schema);
    let mut input = Vec::new();
    piece(2, &stored(&schema)?, &mut input)?;
    for tick in [[1.0, 2.5, f64::NAN], [2.0, 2.5, 0.1]] {
        let mut payload = Vec::new();
        state.forget_dictionary();
        state.encode((0..).zip(tick), &mut compressor, &mut payload);
        piece(4, &[], &mut input)?;
        piece(0, &stored(&payload)?, &mut input)?;
    }
    let mut base = Vec::new();
    state.encode_base(&mut compressor, &mut base);
    let mut with_base = input.clone();
    piece(3, &stored(&base)?, &mut with_base)?;
    seeds.push(("wire_session", input));
    seeds.push(("wire_session", with_base));
    Ok(())
}

fn values(seeds: &mut Seeds) {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        1.1,
        1e9,
        123_456.789,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::INFINITY,
        f64::NAN,
        -1e-9,
        4e18,
        4e19,
    ];
    let mut input = vec![2];
    for number in numbers.iter().chain(&numbers) {
        input.extend_from_slice(&f64::to_be_bytes(*number));
    }
    seeds.push(("wire_values", input.clone()));
    let steps = numbers.len() as u8;
    let mut chunk = vec![0];
    chunk.extend(std::iter::repeat_n(9, usize::from(steps) * 2));
    chunk.extend_from_slice(input.get(1..).unwrap_or_default());
    seeds.push(("storage_chunk_values", chunk));
}

/// Hand-written Protobuf with tags and lengths of one byte each.
fn remote(seeds: &mut Seeds) {
    let message = |fields: &[(u8, Vec<u8>)]| -> Vec<u8> {
        let one = |(number, bytes): &(u8, Vec<u8>)| {
            let mut out = vec![number << 3 | 2, bytes.len() as u8];
            out.extend_from_slice(bytes);
            out
        };
        fields.iter().flat_map(one).collect()
    };
    let label = |name: &str, value: &str| message(&[(1, name.into()), (2, value.into())]);
    let sample = |value: f64, time: u8| {
        let mut out = vec![1 << 3 | 1];
        out.extend_from_slice(&value.to_le_bytes());
        out.extend_from_slice(&[2 << 3, time]);
        out
    };
    let series = message(&[
        (1, label("__name__", "m")),
        (1, label("job", "j")),
        (2, sample(1.5, 9)),
        (2, sample(f64::NAN, 10)),
        (3, message(&[(1, label("trace_id", "t"))])),
    ]);
    let mut family = vec![1 << 3, 1];
    family.extend(message(&[
        (2, "m".into()),
        (4, "help".into()),
        (5, "s".into()),
    ]));
    let mut first = vec![0];
    first.extend(message(&[(1, series), (3, family)]));
    seeds.push(("http_remote_write", first));
    let mut second = vec![1];
    let series = message(&[(1, vec![1, 2, 3, 4]), (2, sample(2.0, 7))]);
    let symbols = ["", "__name__", "n", "job", "j"].map(|symbol| (4, symbol.into()));
    second.extend(message(&symbols));
    second.extend(message(&[(5, series)]));
    seeds.push(("http_remote_write", second));
    let mut matcher = vec![1 << 3, 2];
    matcher.extend(message(&[
        (2, "__name__".into()),
        (3, "up|requests_.*".into()),
    ]));
    let mut query = vec![1 << 3, 0, 2 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    query.extend(message(&[(3, matcher)]));
    for form in [0, 1] {
        let mut read = vec![0];
        read.extend(message(&[(1, query.clone())]));
        read.extend_from_slice(&[2 << 3, form]);
        seeds.push(("http_remote_read", read));
    }
}
