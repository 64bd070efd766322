//! The cost of a span, compared with the library at its fastest. Meaningful with `--release` only.
//!
//! ```text
//! cargo test --release --lib deflate::tests::measure -- --ignored --nocapture
//! ```

use std::{hint::black_box, time::Instant};

use flate2::{Compress, FlushCompress, Status};

use super::{super::*, spans};

const ROUNDS: usize = 101;

fn ours(deflate: &mut Deflate, request: &[u8], body: &mut Vec<u8>) {
    body.clear();
    deflate.begin();
    let mut piece = request;
    loop {
        piece = deflate.fill(piece);
        if !deflate.is_full() {
            break;
        }
        deflate.compress(&mut Output::new(body));
    }
    deflate.finish(&mut Output::new(body));
}

fn library(deflate: &mut Compress, request: &[u8], body: &mut Vec<u8>) {
    body.clear();
    deflate.reset();
    while deflate.compress_vec(&request[deflate.total_in() as usize..], body, FlushCompress::Finish).unwrap()
        != Status::StreamEnd
    {}
}

#[test]
#[ignore = "measures, and fails only where the library writes fewer bytes"]
fn spans_of_each_shape_take_no_more_bytes_than_with_the_library() {
    println!("{:>12} {:>6} {:>12} {:>12} {:>20} {:>20}", "", "bytes", "ours", "zlib-rs 1", "ours, ns", "zlib-rs 1, ns");
    let (mut deflate, mut general) = (Deflate::new(), Compress::new(flate2::Compression::new(1), false));
    let mut body = Vec::with_capacity(4 << 20);
    type Shape = fn(usize) -> Vec<u8>;
    let shapes: [(&str, Shape); 3] = [("http", spans::http), ("batch", spans::batch), ("tree", spans::tree)];
    for (name, shape) in shapes {
        for count in [10, 512, 2000] {
            let request = shape(count);
            let repeats = 2000 / count;
            let mut times = [Vec::new(), Vec::new()];
            let mut sizes = [0; 2];
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                (0..repeats).for_each(|_| ours(&mut deflate, black_box(&request), &mut body));
                times[0].push(begun.elapsed().as_nanos() as usize / (repeats * count));
                sizes[0] = body.len();
                let begun = Instant::now();
                (0..repeats).for_each(|_| library(&mut general, black_box(&request), &mut body));
                times[1].push(begun.elapsed().as_nanos() as usize / (repeats * count));
                sizes[1] = body.len();
            }
            let [ours, theirs] = times.map(|mut times| {
                times.sort_unstable();
                format!("{} (median {})", times[0], times[ROUNDS / 2])
            });
            let [mine, other] = sizes.map(|size| size as f64 / count as f64);
            let bytes = request.len() / count;
            println!("{name:>7} {count:>4} {bytes:>6} {mine:>12.1} {other:>12.1} {ours:>20} {theirs:>20}");
            // Of the smallest bodies some take a little more.
            let allowed = if count == 10 { sizes[1] + sizes[1] / 10 } else { sizes[1] };
            assert!(sizes[0] <= allowed, "{name} {count}: {sizes:?}");
        }
    }
}
