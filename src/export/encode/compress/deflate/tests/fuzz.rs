//! A long search for inputs that do not decompress to themselves: requests with parts changed, repeated, moved and cut.
//!
//! ```text
//! OTLP_FUZZ_SECONDS=600 OTLP_FUZZ_SEED=1 cargo test --release --lib deflate::tests::fuzz -- --ignored --nocapture
//! ```

use std::{
    env,
    time::{Duration, Instant},
};

use super::{super::*, check, noise, spans};
use crate::hostile::Random;

/// Changes `input` in one way.
fn mutate(random: &mut Random, input: &mut Vec<u8>) {
    let at = random.below(input.len());
    let len = random.magnitude(input.len() - at);
    let part = input[at..at + len].to_vec();
    let to = random.below(input.len());
    match random.below(8) {
        0 => input.drain(at..at + len).for_each(drop),
        1 => drop(input.splice(to..to, part)),
        2 => {
            let times = 1 + random.magnitude(400_000 / (len + 1));
            drop(input.splice(to..to, part.repeat(times)));
        }
        3 => (0..1 + random.magnitude(50)).for_each(|_| {
            let at = random.below(input.len());
            input[at] = random.below(256) as u8;
        }),
        4 => drop(input.splice(to..to, noise(random.0, random.0 as usize % 5000))),
        5 => input[at..at + len].fill(random.0 as u8),
        6 => input[at..at + len].reverse(),
        // What is taken for the head of a span and the beginning of a trace id.
        _ => (0..1 + random.magnitude(20)).for_each(|_| {
            let at = random.below(input.len());
            let head = [&[0x0a, 16, 0x12, 8][..], &[0x12, 8], &[0x0a, 16]][random.below(3)];
            drop(input.splice(at..at, head.iter().copied()));
            let flags = at + random.below(12);
            if flags < input.len() {
                drop(input.splice(flags..flags, [0x85, 1]));
            }
        }),
    }
    if input.is_empty() {
        input.push(random.0 as u8);
    }
    input.truncate(2 << 20);
}

/// Tries inputs until it is `over`, and returns how many, and their bytes.
fn search(seed: u64, mut over: impl FnMut(u64) -> bool) -> (u64, u64) {
    let mut random = Random(seed | 1);
    let mut deflate = Deflate::new();
    let seeds = [spans::http(60), spans::batch(300), spans::tree(120), spans::http(1), noise(1, 3000), vec![0; 40_000]];
    let (mut inputs, mut bytes) = (0, 0);
    let mut input = seeds[0].clone();
    while !over(inputs) {
        if random.below(8) == 0 {
            input = seeds[random.below(seeds.len())].clone();
            let start = random.magnitude(input.len() - 1);
            input.drain(..start);
        }
        (0..1 + random.below(4)).for_each(|_| mutate(&mut random, &mut input));
        let cuts: Vec<_> = (0..random.magnitude(30)).map(|_| random.magnitude(input.len())).collect();
        check(&mut deflate, &input, &cuts);
        inputs += 1;
        bytes += input.len() as u64;
    }
    (inputs, bytes)
}

#[test]
fn a_short_search_finds_nothing() {
    let (inputs, _) = search(4711, |inputs| inputs == 150);
    assert_eq!(inputs, 150);
}

#[test]
#[ignore = "takes as long as it is given"]
fn a_search_of_any_length_finds_nothing() {
    let number = |name| env::var(name).ok().and_then(|number| number.parse().ok());
    let seconds = number("OTLP_FUZZ_SECONDS").unwrap_or(10);
    let begun = Instant::now();
    let seed = number("OTLP_FUZZ_SEED").unwrap_or(std::process::id().into());
    println!("seed {seed}");
    let (inputs, bytes) = search(seed, |_| begun.elapsed() >= Duration::from_secs(seconds));
    println!("{inputs} inputs of {bytes} bytes in {seconds} s");
    assert!(inputs > 0);
}
