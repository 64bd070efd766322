//! What a receiver settles for a connection of gRPC, as its own side of HTTP/2 sees that it is kept.
#![cfg(all(feature = "testing", feature = "grpc"))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use faults::http2::{ACK, DATA, END_STREAM, Frame, PREFACE, SETTINGS, headers, settings, window_update};
use otlp::{Client, Compression, SpanContext, SpanData, SpanId, TraceId};
use support::LONG;

const MAX_FRAME_SIZE: u16 = 5;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// What everyone takes (RFC 9113, 6.5.2).
const FIRST_FRAME_BYTES: usize = 16_384;

/// A connection as its server has it.
struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(preface, PREFACE);
        Self { stream, input: Vec::new() }
    }

    fn send(&mut self, frames: &[Frame]) {
        self.stream.write_all(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>()).unwrap();
    }

    fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::take(&mut self.input) {
                return frame;
            }
            let mut bytes = [0; 8192];
            let count = self.stream.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "the end in the middle of a call");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }

    fn accepted(&mut self, stream: u32) {
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        self.send(&[
            headers(stream, false, &head),
            Frame::new(DATA, 0, stream, [0; 5]),
            headers(stream, true, &[("grpc-status", "0")]),
        ]);
    }
}

/// A span of about so many bytes.
fn span(bytes: usize) -> SpanData {
    let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), 1, false);
    SpanData::new(context, "span").with_attribute("text", "x".repeat(bytes))
}

#[test]
fn frames_are_larger_only_behind_the_acknowledgement_of_the_setting_that_allows_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        let mut sizes = Vec::new();
        // In the first call the settings come in the middle of the message: what goes out before is less than that.
        for call in 0..2_u32 {
            let stream = 2 * call + 1;
            let (mut is_settled, mut is_acknowledged) = (call > 0, call > 0);
            loop {
                let frame = peer.next();
                if frame.kind == SETTINGS && frame.has(ACK) {
                    is_acknowledged = true;
                }
                if frame.kind == DATA {
                    sizes.push((is_acknowledged, frame.payload.len()));
                    if !is_settled {
                        is_settled = true;
                        let allowed = settings(&[(MAX_FRAME_SIZE, 1 << 20), (INITIAL_WINDOW_SIZE, 4 << 20)]);
                        peer.send(&[allowed, window_update(0, 8 << 20)]);
                    }
                    if frame.has(END_STREAM) {
                        break;
                    }
                }
            }
            peer.accepted(stream);
        }
        sizes
    });
    let builder = Client::builder().with_endpoint(endpoint).with_grpc_transport().with_compression(Compression::None);
    let client = builder.build().unwrap();
    for _ in 0..2 {
        assert_eq!(client.export_spans([span(1 << 20)]).unwrap().accepted, 1);
    }
    assert_eq!(client.stats().connections, 1);
    let sizes = server.join().unwrap();
    let largest = |acknowledged| sizes.iter().filter(|size| size.0 == acknowledged).map(|size| size.1).max().unwrap();
    assert!(largest(false) <= FIRST_FRAME_BYTES, "{sizes:?}");
    assert!(largest(true) > FIRST_FRAME_BYTES, "the setting is made use of: {sizes:?}");
}
