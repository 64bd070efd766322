//! What the benchmarks share: a receiver that only counts to the end of each request, and the span that all of them make.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::{
    hint::black_box,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use otlp::{Client, ClientBuilder, Tracer};

/// Answers every request with success as soon as it has read it, and looks at none of it. It is there until the process
/// ends.
pub(crate) fn sink() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || serve(connection));
        }
    });
    endpoint
}

fn serve(mut connection: TcpStream) -> Option<()> {
    let mut requests = BufReader::with_capacity(1 << 20, connection.try_clone().ok()?);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        body.resize(length, 0);
        requests.read_exact(&mut body).ok()?;
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

/// A client of its own for one benchmark.
pub(crate) fn client(set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    set(Client::builder().with_endpoint(sink())).build().expect("valid settings")
}

/// Waits until everything has been delivered, so that the next round finds the memory free.
pub(crate) fn deliver(client: &Client) {
    let receipt = client.flush(Duration::from_secs(60));
    assert!(receipt.is_complete(), "{receipt:?}");
}

/// Paths and users as they come from outside: not known when the program is compiled.
pub(crate) struct Inputs(Vec<(String, String)>);

impl Inputs {
    pub(crate) fn new() -> Self {
        let input = |number: u64| {
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (format!("/items/{:013}", mixed % 10_u64.pow(13)), format!("user-{:07}", (mixed >> 20) % 10_u64.pow(7)))
        };
        Self((0..1024).map(input).collect())
    }

    fn at(&self, number: u64) -> &(String, String) {
        &self.0[number as usize % self.0.len()]
    }
}

/// The span that claims are made about: five attributes, two of them text from outside.
pub(crate) fn five_attributes(tracer: &Tracer, inputs: &Inputs, number: u64) {
    let (path, user) = inputs.at(number);
    let mut span = tracer.start("GET /items");
    span.set_attribute("http.request.method", "GET");
    span.set_attribute("url.path", black_box(path.as_str()));
    span.set_attribute("http.response.status_code", 200);
    span.set_attribute("retry", false);
    span.set_attribute("user.id", black_box(user.as_str()));
    span.end();
}

pub(crate) fn no_attributes(tracer: &Tracer) {
    tracer.start("GET /items").end();
}

/// CPU time of the calling thread: what other threads take on a shared machine is not in it.
pub(crate) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("there is such a clock").into()
}
