//! The receiver: answers every request 200 at once and keeps the body, for each connection a thread.
//!
//! What it got is inflated, decoded and counted only when it is asked, by a line on stdin, so that nothing of that
//! happens while a contender is measured. It prints its port first and then, for each line, one with the requests, the
//! bytes of their bodies, the spans in them, the spans called `hot`, and the attributes of those.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

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
