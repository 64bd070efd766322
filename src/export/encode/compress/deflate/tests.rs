//! All input can be decompressed again by another implementation, and never becomes much larger.

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use proptest::prelude::*;

use super::{
    symbols::{LENGTHS, MAX_MATCH},
    *,
};

mod fuzz;
mod measure;
mod others;
mod spans;

/// The body made of pieces.
fn deflated<'p>(deflate: &mut Deflate, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut body = b"before".to_vec();
    let mut output = Output::new(&mut body);
    deflate.begin();
    for mut piece in pieces {
        loop {
            piece = deflate.fill(piece);
            if !deflate.is_full() {
                assert!(piece.is_empty(), "what fits is taken");
                break;
            }
            deflate.compress(&mut output);
        }
    }
    deflate.finish(&mut output);
    assert_eq!(&body[..6], b"before");
    body.split_off(6)
}

/// Inflates a body, and checks that nothing follows it.
fn inflated(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut decoder = DeflateDecoder::new(body);
    decoder.read_to_end(&mut plain).expect("a valid stream");
    assert_eq!(decoder.total_in(), body.len() as u64, "the stream ends where the body does");
    plain
}

/// Checks one input, cut at `cuts`, and returns the size of its body.
#[track_caller]
fn check(deflate: &mut Deflate, input: &[u8], cuts: &[usize]) -> usize {
    let mut pieces = Vec::new();
    let mut rest = input;
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let body = deflated(deflate, pieces);
    assert!(inflated(&body) == input, "{} bytes come out different", input.len());
    // Header and trailer of gzip take 18 of the 64 bytes.
    let most = input.len() + input.len() / 1000 + 64 - 18;
    assert!(body.len() <= most, "{} bytes became {}", input.len(), body.len());
    body.len()
}

/// Bytes without any order, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn inputs_of_every_small_size_come_out_again() {
    let mut deflate = Deflate::new();
    for len in 0..700 {
        for input in [vec![7; len], noise(len as u64, len), (0..len).map(|at| at as u8 % 5).collect()] {
            check(&mut deflate, &input, &[]);
        }
    }
}

#[test]
fn sizes_around_chunks_the_reach_of_matches_and_the_window_come_out_again() {
    let mut deflate = Deflate::new();
    for edge in [CHUNK, 2 * CHUNK, 4 * CHUNK, 7 * CHUNK, 8 * CHUNK, 9 * CHUNK, 12 * CHUNK, 13 * CHUNK] {
        for len in [edge - 9, edge - 8, edge - 1, edge, edge + 1, edge + 2, edge + 3, edge + 9] {
            let text: Vec<_> = (0..len).map(|at| b"span "[at % 5] ^ (at / 700) as u8 & 3).collect();
            for input in [vec![0; len], noise(len as u64, len), text] {
                check(&mut deflate, &input, &[]);
            }
        }
    }
}

#[test]
fn every_period_comes_out_again_and_those_within_reach_take_next_to_nothing() {
    let mut deflate = Deflate::new();
    let around = |middle: usize| middle - 2..=middle + 2;
    let periods = (1..=9).chain(around(MAX_MATCH)).chain(around(CHUNK)).chain(around(symbols::REACH));
    for period in periods.chain(around(65_536)) {
        let unit = noise(period as u64, period);
        let input: Vec<u8> = unit.iter().copied().cycle().take(200_000).collect();
        let len = check(&mut deflate, &input, &[]);
        if period <= MAX_MATCH + 2 {
            assert!(len < 2500, "{period}: {len}");
        }
        // Between whole periods, something else.
        let input: Vec<u8> = (0..20_u8).flat_map(|round| unit.iter().copied().chain([round, !round, round])).collect();
        check(&mut deflate, &input, &[]);
    }
}

#[test]
fn what_does_not_become_smaller_is_stored() {
    let mut deflate = Deflate::new();
    for len in [100, CHUNK, CHUNK + 1, 100_000, 1 << 20] {
        let input = noise(3, len);
        let body = check(&mut deflate, &input, &[]);
        assert!(body >= len && body <= len + 8 * len.div_ceil(CHUNK), "{len}: {body}");
    }
}

#[test]
fn input_that_changes_its_nature_is_given_other_codes_and_stays_small() {
    let text: Vec<u8> = (0..40_000_u32).flat_map(|number| format!("{} ", number / 3).into_bytes()).collect();
    let mut deflate = Deflate::new();
    let mut alone = |part: &[u8]| check(&mut deflate, part, &[]);
    let (text_len, noise_len) = (alone(&text), alone(&noise(1, 150_000)));
    let parts = [&text[..], &noise(1, 150_000), &vec![0; 150_000], &text[..], &noise(2, 50_000), &text[..]];
    let len = alone(&parts.concat());
    // The zeros take a few hundred bytes.
    let sum = 3 * text_len + noise_len + 50_000 + 1000;
    assert!(len <= sum + sum / 50, "{len} of {sum}");
}

#[test]
fn a_chunk_that_is_parsed_again_finds_nothing_before_the_body() {
    let mut input = noise(1, 500);
    input.resize(CHUNK, 0);
    let beginning = input[..500].to_vec();
    // Too much noise for a code that was fitted to zeros, and then the farthest match there can be.
    input.extend(noise(2, CHUNK - 500));
    input.extend(beginning);
    check(&mut Deflate::new(), &input, &[]);
}

#[test]
fn a_body_depends_on_nothing_but_its_bytes() {
    let mut used = Deflate::new();
    let inputs = [spans::http(50), noise(5, 70_000), vec![1; 300_000], spans::http(700), b"x".to_vec(), Vec::new()];
    for _ in 0..2 {
        for input in &inputs {
            let pieces = input.chunks(777).chain([&[][..]]);
            assert!(deflated(&mut used, pieces) == deflated(&mut Deflate::new(), [&input[..]]));
        }
    }
}

#[test]
fn what_the_body_before_had_at_the_same_places_makes_no_difference() {
    let input = spans::tree(150);
    let expected = deflated(&mut Deflate::new(), [&input[..]]);
    for changed in (0..input.len()).step_by(500) {
        let mut used = Deflate::new();
        let other = [&noise(changed as u64, changed), &input[changed..]].concat();
        deflated(&mut used, [&other[..]]);
        assert!(deflated(&mut used, [&input[..]]) == expected, "{changed}");
    }
}

#[test]
fn a_body_that_was_given_up_leaves_nothing_behind() {
    let mut deflate = Deflate::new();
    let input = spans::http(100);
    let expected = deflated(&mut deflate, [&input[..]]);
    let mut unfinished = Vec::new();
    deflate.begin();
    for _ in 0..3 {
        let noise = noise(9, 60_000);
        let mut piece = &noise[..];
        while !piece.is_empty() {
            piece = deflate.fill(piece);
            if deflate.is_full() {
                deflate.compress(&mut Output::new(&mut unfinished));
            }
        }
    }
    assert!(deflated(&mut deflate, [&input[..]]) == expected);
}

#[test]
fn the_code_for_span_records_is_complete_and_better_for_few_of_them_than_the_fixed_one() {
    for code in [&TRAINED, &FIXED] {
        let mut places = 0;
        let mut codes = Vec::new();
        for byte in 0..=255 {
            let (code, len) = code.literal(byte);
            codes.push((code, len));
            places += 1 << (15 - len);
        }
        assert!(places < 1 << 15, "there is room for lengths");
        for (at, (one, len)) in codes.iter().enumerate() {
            let is_prefix = |other: &(u64, u32)| other.1 >= *len && other.0 & ((1 << len) - 1) == *one;
            assert_eq!(codes.iter().position(is_prefix), Some(at), "no code begins as another does");
        }
    }
    let mut deflate = Deflate::new();
    let few = spans::http(10);
    deflated(&mut deflate, [&few[..]]);
    assert_eq!(deflate.expected.1, few.len());
    let mut fixed = Deflate::new();
    fixed.begin();
    fixed.fill(&few);
    fixed.matches.parse(&fixed.window, &mut fixed.sequences);
    let counts = Counts::of(&fixed.sequences, &fixed.window, 0);
    assert!(deflate.expected.0 < FIXED.cost(&counts), "{} {}", deflate.expected.0, FIXED.cost(&counts));
    assert!(TRAINED.header().bits() < 50 * 8);
}

#[test]
fn the_longest_codes_fit_together_with_all_extra_bits() {
    // What is counted is not what is written: all of that has codes of 12 bits.
    let mut counts = Counts::none();
    let rising = std::iter::successors(Some(1_u32), |count| (*count < 1 << 16).then_some(count * 2));
    counts.literals.iter_mut().zip(rising.clone()).for_each(|(count, value)| *count = value);
    counts.distances.iter_mut().zip(rising).for_each(|(count, value)| *count = value);
    let code = Code::fitted(&counts);
    let rare = |len: usize| noise(len as u64, len).into_iter().map(|byte| byte | 128);
    let mut input: Vec<u8> = rare(9000).collect();
    for number in 0..35 {
        let from = number * 210;
        let far = input[from..from + 190].to_vec();
        input.extend(rare(2 + number % 3).chain(far));
    }
    let (mut deflate, mut body) = (Deflate::new(), Vec::new());
    assert!(deflate.fill(&input).is_empty());
    deflate.matches.parse(&deflate.window, &mut deflate.sequences);
    let counts = Counts::of(&deflate.sequences, &deflate.window, 0);
    assert!(counts.literals[LENGTHS..].iter().sum::<u32>() >= 35, "the copies are found");
    deflate.cursor.put(OWN_CODE << 1 | 1, KIND_BITS);
    code.header().write(&mut deflate.cursor, &mut deflate.stage);
    let mut writer = Writer { code: &code, stage: &mut deflate.stage, cursor: deflate.cursor };
    deflate.sequences.replay(&deflate.window, 0, &mut writer);
    let mut cursor = writer.cursor;
    code.write_end(&mut cursor, &mut deflate.stage);
    cursor.align(&mut deflate.stage);
    cursor.unload(&deflate.stage, &mut Output::new(&mut body));
    assert!(inflated(&body) == input);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_the_bytes_and_the_pieces_they_come_out_again(
        parts in prop::collection::vec((any::<u64>(), 0..4_usize, 1..3000_usize, 1..60_usize), 0..12),
        cuts in prop::collection::vec(prop_oneof![0..40_usize, 0..40_000_usize], 0..20),
    ) {
        let mut input = Vec::new();
        for (seed, kind, len, repeated) in parts {
            let part = match kind {
                0 => noise(seed, len),
                1 => noise(seed, len).into_iter().map(|byte| byte & 3).collect(),
                2 => vec![seed as u8; len],
                // Something that was there before.
                _ => input.iter().copied().skip(seed as usize % (input.len() + 1)).take(len).collect(),
            };
            (0..repeated).for_each(|_| input.extend_from_slice(&part));
        }
        check(&mut Deflate::new(), &input, &cuts);
    }
}

#[test]
fn requests_of_every_shape_come_out_again_and_take_a_fraction_of_their_size() {
    let mut deflate = Deflate::new();
    for (shape, ratio) in [(spans::http as fn(usize) -> _, 4), (spans::batch, 6), (spans::tree, 3)] {
        for count in [1, 2, 3, 10, 70, 512, 2000] {
            let request: Vec<u8> = shape(count);
            let len = check(&mut deflate, &request, &[3, 500, 60_000, 1]);
            assert!(count < 512 || len * ratio < request.len(), "{len} of {}", request.len());
        }
    }
}

#[test]
fn fields_that_are_passed_over_are_those_of_records() {
    let request = spans::batch(3);
    let heads: Vec<_> = (2..request.len() - 100)
        .filter(|at| request[at - 2..].starts_with(&[0x12, 8]) && request[at + 8..].starts_with(&[0x85, 1]))
        .collect();
    assert_eq!(heads.len(), 3, "each record has one");
    for id in heads {
        assert_eq!(request[id - 20..id - 18], [0x0a, 16], "the trace id");
        assert_eq!(request[id + 34..id + 43], *b"*\x10INSERT ", "the name");
    }
}
