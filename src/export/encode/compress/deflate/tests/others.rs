//! Our bodies, decompressed by independent programs: gzip, and Python's zlib.
//!
//! `OTLP_TEST_PYTHON` names the interpreter (default `python3`). Without one of the programs its test is skipped, or
//! fails if `OTLP_REQUIRE_INTEROP=1`.

use std::{
    env,
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use super::{noise, spans};
use crate::{config::Encoding, export::encode::compress::Encoder};

/// Inputs of every kind of block.
fn inputs() -> Vec<Vec<u8>> {
    let mixed = [spans::http(100), noise(1, 40_000), vec![0; 100_000], spans::tree(200), noise(2, 3)].concat();
    vec![Vec::new(), b"a".to_vec(), vec![7; 1 << 20], noise(3, 200_000), mixed, spans::http(10), spans::batch(2000)]
}

/// The output of `program` for `body`; `None` if it cannot be run.
fn run(program: &mut Command, body: Vec<u8>) -> Option<Vec<u8>> {
    let child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            assert!(env::var("OTLP_REQUIRE_INTEROP").is_err(), "{program:?} is required: {error}");
            return None;
        }
    };
    let mut input = child.stdin.take().unwrap();
    // Both pipes may be full.
    let writer = thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program:?}");
    Some(output.stdout)
}

fn inflates_everything(mut program: impl FnMut() -> Command) {
    let mut encoder = Encoder::new(Encoding::GZIP);
    for input in inputs() {
        let mut body = Vec::new();
        encoder.encode(&mut body, input.len(), |sink| input.chunks(10_000).for_each(sink)).unwrap();
        let Some(output) = run(&mut program(), body) else { return };
        assert!(output == input, "{} bytes came out different", input.len());
    }
}

#[test]
fn gzip_inflates_what_we_write() {
    inflates_everything(|| {
        let mut gzip = Command::new("gzip");
        gzip.arg("-dc");
        gzip
    });
}

#[test]
fn zlib_inflates_what_we_write() {
    let script = "import sys, zlib; d = zlib.decompressobj(31); \
        sys.stdout.buffer.write(d.decompress(sys.stdin.buffer.read())); assert d.eof and not d.unused_data";
    inflates_everything(|| {
        let mut python = Command::new(env::var("OTLP_TEST_PYTHON").unwrap_or("python3".to_owned()));
        python.args(["-c", script]);
        python
    });
}
