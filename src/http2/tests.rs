//! Frames and headers against another implementation of them, and a long search for inputs that are read otherwise.
//!
//! ```text
//! OTLP_FUZZ_SECONDS=600 OTLP_FUZZ_SEED=1 cargo test --release --lib http2::tests -- --ignored --nocapture
//! ```

use std::{
    env,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use ringline_h2::{
    frame::{Frame, decode_frame},
    hpack::{Decoder as OtherDecoder, Encoder as OtherEncoder, HeaderField},
};

use super::{
    frame::{FrameHead, HEAD_BYTES, MOST_PAYLOAD, put},
    hpack::{Decoder, put_literal},
};

type Field = (Vec<u8>, Vec<u8>);

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec()))).ok()?;
    Some(fields)
}

fn others(decoder: &mut OtherDecoder, block: &[u8]) -> Option<Vec<Field>> {
    let fields = decoder.decode(block).ok()?;
    Some(fields.into_iter().map(|field| (field.name, field.value)).collect())
}

/// Fields as servers send them, a few names again and again.
fn field() -> impl Strategy<Value = Field> {
    let name = prop_oneof![
        "[a-z][a-z0-9-]{0,20}",
        prop::sample::select(vec![":status", "content-type", "grpc-status", "grpc-message", "server", "date"])
            .prop_map(str::to_owned),
    ];
    (name, "[ -~]{0,60}").prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()))
}

proptest! {
    #[test]
    fn blocks_of_another_implementation_are_read_as_they_were_meant(
        blocks in prop::collection::vec(prop::collection::vec(field(), 0..12), 1..12),
    ) {
        // Huffman's code and the table that both sides keep are in them.
        let (mut theirs, mut ours) = (OtherEncoder::new(4_096), Decoder::default());
        for fields in blocks {
            let headers: Vec<_> = fields.iter().map(|(name, value)| HeaderField::new(name.clone(), value.clone())).collect();
            let mut block = Vec::new();
            theirs.encode(&headers, &mut block);
            prop_assert_eq!(decoded(&mut ours, &block), Some(fields));
        }
    }

    #[test]
    fn blocks_of_ours_are_read_by_another_implementation_as_they_were_meant(
        fields in prop::collection::vec((field(), any::<bool>()), 0..20),
    ) {
        let mut block = Vec::new();
        fields.iter().for_each(|((name, value), is_secret)| put_literal(&mut block, name, value, *is_secret));
        let fields: Vec<_> = fields.into_iter().map(|(field, _)| field).collect();
        prop_assert_eq!(others(&mut OtherDecoder::new(4_096), &block), Some(fields));
    }

    #[test]
    fn a_frame_of_ours_is_one_to_another_implementation(
        payload in prop::collection::vec(any::<u8>(), 0..300), stream in 1_u32..1 << 31, ends: bool,
    ) {
        let mut bytes = Vec::new();
        put(&mut bytes, 0, u8::from(ends), stream, &payload);
        let (frame, used) = decode_frame(&bytes, 16_384).unwrap().unwrap();
        prop_assert_eq!(used, bytes.len());
        let Frame::Data { stream_id, payload: read, end_stream } = frame else { panic!("{frame:?}") };
        prop_assert_eq!((stream_id, read, end_stream), (stream, payload, ends));
    }
}

/// Numbers from a seed, which is printed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % end.max(1)
    }
}

/// A valid block, with bytes of it changed, repeated and cut.
fn block(random: &mut Random, encoder: &mut OtherEncoder) -> Vec<u8> {
    let names = [":status", "content-type", "grpc-status", "grpc-message", "x", "a-name-that-is-somewhat-longer"];
    let headers: Vec<_> = (0..random.below(8))
        .map(|_| {
            let value: Vec<u8> = (0..random.below(40)).map(|_| b' ' + random.below(95) as u8).collect();
            HeaderField::new(names[random.below(names.len())], value)
        })
        .collect();
    let mut block = Vec::new();
    encoder.encode(&headers, &mut block);
    for _ in 0..random.below(4) {
        if block.is_empty() {
            break;
        }
        let (at, end) = (random.below(block.len()), random.below(block.len()));
        match random.below(4) {
            0 => block[at] = random.below(256) as u8,
            1 => block.truncate(at),
            2 => block.insert(at, [0x20, 0x3f, 0x7f, 0x80, 0xbe, 0xff][random.below(6)]),
            _ => block.extend_from_within(at.min(end)..at.max(end)),
        }
    }
    block
}

/// Blocks and heads of frames, until `is_over`. How many there were.
fn search(seed: u64, mut is_over: impl FnMut() -> bool) -> u64 {
    let mut random = Random(seed | 1);
    let mut inputs = 0;
    while !is_over() {
        let (mut encoder, mut theirs, mut ours) =
            (OtherEncoder::new(4_096), OtherDecoder::new(4_096), Decoder::default());
        // A connection: blocks follow each other until one is refused.
        for _ in 0..20 {
            let block = block(&mut random, &mut encoder);
            inputs += 1;
            match (decoded(&mut ours, &block), others(&mut theirs, &block)) {
                (Some(ours), Some(theirs)) => assert_eq!(ours, theirs, "{block:?}"),
                // Each has limits of its own; what either refuses ends the connection.
                _ => break,
            }
        }
        let bytes: Vec<u8> = (0..HEAD_BYTES + random.below(40)).map(|_| random.below(256) as u8).collect();
        let head = FrameHead::read(*bytes.first_chunk().expect("as many"));
        assert_eq!(FrameHead::read(head.bytes()), head);
        if let Ok(Some((_, used))) = decode_frame(&bytes, MOST_PAYLOAD as u32) {
            assert_eq!(used, HEAD_BYTES + head.length, "{bytes:?}");
        }
    }
    inputs
}

#[test]
fn a_short_search_finds_nothing() {
    let mut rounds = 0;
    let inputs = search(7, || {
        rounds += 1;
        rounds > 200
    });
    assert!(inputs > 200);
}

#[test]
#[ignore = "takes as long as it is given"]
fn a_search_of_any_length_finds_nothing() {
    let number = |name| env::var(name).ok().and_then(|number| number.parse().ok());
    let seconds = number("OTLP_FUZZ_SECONDS").unwrap_or(10);
    let begun = Instant::now();
    let seed = number("OTLP_FUZZ_SEED").unwrap_or(std::process::id().into());
    println!("seed {seed}");
    let inputs = search(seed, || begun.elapsed() >= Duration::from_secs(seconds));
    println!("{inputs} inputs in {seconds} s");
    assert!(inputs > 0);
}
