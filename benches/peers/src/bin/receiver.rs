//! The receiver: answers every request 200 at once and keeps the body, for each connection a thread. A connection that
//! begins like HTTP/2 has its calls of gRPC answered in the same way; what their headers say does not matter.
//!
//! What it got is inflated, decoded and counted only when it is asked, by a line on stdin, so that nothing of that
//! happens while a contender is measured. It prints its port first and then, for each line, one with the requests, the
//! bytes of their bodies, the spans in them, the spans called `hot`, and the attributes of those.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

/// How HTTP/2 begins, and what is answered: settings that give room for everything.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";
const ACKNOWLEDGED: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

struct Body {
    bytes: Vec<u8>,
    is_gzip: bool,
}

type Bodies = Arc<Mutex<Vec<Body>>>;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    let bodies = Bodies::default();
    let accepted = Arc::clone(&bodies);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let bodies = Arc::clone(&accepted);
            thread::spawn(move || {
                // A connection that ends in the middle of a request was cut off by the sender's exit.
                let _ = serve(&stream, &bodies);
            });
        }
    });
    for line in io::stdin().lines() {
        line?;
        let taken = std::mem::take(&mut *bodies.lock().expect("bodies"));
        println!("{}", count(taken)?);
    }
    Ok(())
}

/// Requests of one connection, until it is closed.
fn serve(stream: &TcpStream, bodies: &Bodies) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut head = Vec::new();
    if reader.fill_buf()?.starts_with(b"PRI") {
        return serve_calls(stream, &mut reader, bodies);
    }
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
        }
        let head = Head::parse(&head)?;
        let bytes = match head.length {
            Some(length) => {
                let mut bytes = vec![0; length];
                reader.read_exact(&mut bytes)?;
                bytes
            }
            None => read_chunks(&mut reader)?,
        };
        bodies.lock().expect("bodies").push(Body { bytes, is_gzip: head.is_gzip });
        (&mut &*stream).write_all(ANSWER)?;
    }
}

/// Calls of one connection, until it is closed.
fn serve_calls(mut stream: &TcpStream, reader: &mut impl Read, bodies: &Bodies) -> io::Result<()> {
    reader.read_exact(&mut [0; PREFACE.len()])?;
    stream.write_all(SETTINGS)?;
    let mut calls: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut came = 0;
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let call = calls.entry(number).or_default();
        let begin = call.len();
        call.resize(begin + length, 0);
        reader.read_exact(&mut call[begin..])?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            0 => came += length,
            4 if flags == 0 => stream.write_all(ACKNOWLEDGED)?,
            6 if flags == 0 => {
                let payload = call[begin..].to_vec();
                stream.write_all(&[&frame(6, 1, 0, payload.len())[..], &payload].concat())?;
            }
            _ => {}
        }
        if kind != 0 {
            call.truncate(begin);
        }
        if came > 1 << 30 {
            stream.write_all(&[&frame(8, 0, 0, 4)[..], &(came as u32).to_be_bytes()].concat())?;
            came = 0;
        }
        if kind <= 1 && flags & 1 != 0 {
            let message = calls.remove(&number).unwrap_or_default();
            let (prefix, bytes) = message.split_at(message.len().min(5));
            bodies.lock().expect("bodies").push(Body { bytes: bytes.to_vec(), is_gzip: prefix.first() == Some(&1) });
            stream.write_all(&answer(number))?;
        }
    }
}

/// The head of a frame.
fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> [u8; 9] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

/// An answer that all is well, to a call: a head, a message without content, and trailers.
fn answer(stream: u32) -> Vec<u8> {
    const HEAD: &[u8] = b"\x88\0\x0ccontent-type\x10application/grpc";
    const TRAILERS: &[u8] = b"\0\x0bgrpc-status\x010";
    let mut answer = Vec::new();
    for (kind, flags, payload) in [(1, 4, HEAD), (0, 0, &[0; 5][..]), (1, 5, TRAILERS)] {
        answer.extend(frame(kind, flags, stream, payload.len()));
        answer.extend(payload);
    }
    answer
}

struct Head {
    /// `None` if the body comes in chunks.
    length: Option<usize>,
    is_gzip: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(bytes).map_err(io::Error::other)?;
        let header = |name: &str| {
            let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            str::from_utf8(found.value).ok()
        };
        let length = header("content-length").map(|length| length.parse().map_err(io::Error::other)).transpose()?;
        Ok(Self { length, is_gzip: header("content-encoding") == Some("gzip") })
    }
}

fn read_chunks(reader: &mut BufReader<&TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let begin = body.len();
        body.resize(begin + length, 0);
        reader.read_exact(&mut body[begin..])?;
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

/// One line about what has come.
fn count(bodies: Vec<Body>) -> io::Result<String> {
    let (mut bytes, mut spans, mut hot, mut attributes) = (0, 0, 0, 0);
    let requests = bodies.len();
    for body in bodies {
        bytes += body.bytes.len();
        let mut plain = Vec::new();
        if body.is_gzip {
            MultiGzDecoder::new(&*body.bytes).read_to_end(&mut plain)?;
        } else {
            plain = body.bytes;
        }
        let message = ExportTraceServiceRequest::decode(&*plain).map_err(io::Error::other)?;
        for span in message.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans) {
            spans += 1;
            if span.name == "hot" {
                hot += 1;
                attributes += span.attributes.len();
            }
        }
    }
    Ok(format!("{requests} {bytes} {spans} {hot} {attributes}"))
}
