//! OTLP over gRPC against peers that are scripted frame by frame: what real servers and proxies do, and what hostile ones
//! might. Scenarios that do not depend on the protocol are elsewhere, and run over gRPC as well (`.ci/run`).
#![cfg(all(feature = "testing", feature = "grpc"))]

#[path = "support/faults.rs"]
mod faults;
mod support;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use faults::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE, PREFIX_BYTES, SETTINGS, block,
    fields, goaway, headers, reset, retry_info, settings, window_update,
};
use otlp::{
    Client, ClientBuilder, Compression, DropReason, Error, LogLevel, RetryConfig, SpoolConfig,
    testing::{Receiver, generate_test_spans},
};
use support::{LONG, SpoolDir, assert_accounted, assert_received, client_of, ids};

const HEAD: [(&str, &str); 2] = [(":status", "200"), ("content-type", "application/grpc")];
/// A message without content.
const NOTHING: [u8; PREFIX_BYTES] = [0; PREFIX_BYTES];

/// A server whose connections are played by a function, each on a thread of its own. Its number counts from 1.
struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Peer {
    fn start(play: impl Fn(u64, &mut Conn) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Self { address: listener.local_addr().unwrap(), connections: Arc::default(), calls: Arc::default() };
        let (connections, calls, play) = (Arc::clone(&peer.connections), Arc::clone(&peer.calls), Arc::new(play));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (calls, play) = (Arc::clone(&calls), Arc::clone(&play));
                let mut conn = Conn { stream: stream.unwrap(), input: Vec::new(), calls };
                // A client that goes away ends the play.
                thread::spawn(move || drop(play(number, &mut conn)));
            }
        });
        peer
    }

    /// Answers every call so, and plays by the rules otherwise.
    fn answering(answer: impl Fn(u32) -> Vec<Frame> + Send + Sync + 'static) -> Self {
        Self::start(move |_, conn| {
            conn.meet(&[])?;
            loop {
                let call = conn.call()?;
                conn.send(&answer(call.stream))?;
            }
        })
    }

    fn client(&self) -> ClientBuilder {
        let retry = RetryConfig {
            initial_interval: Duration::from_millis(1),
            max_interval: Duration::from_millis(5),
            max_attempts: 3,
            ..RetryConfig::default()
        };
        Client::builder()
            .with_grpc_transport()
            .with_endpoint(format!("http://{}", self.address))
            .with_retry_config(retry)
            .with_log_level(LogLevel::None)
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The server's end of a connection.
struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    calls: Arc<AtomicU64>,
}

/// A call that has come.
struct Call {
    stream: u32,
    fields: Vec<(String, String)>,
    message: Vec<u8>,
    /// Frames that belong to no stream, or are no part of it.
    others: Vec<Frame>,
}

impl Call {
    #[cfg(feature = "zstd")]
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Conn {
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.input.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }

    fn frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.input) {
                return Ok(frame);
            }
            self.fill()?;
        }
    }

    fn preface(&mut self) -> io::Result<()> {
        while self.input.len() < PREFACE.len() {
            self.fill()?;
        }
        assert!(self.input.starts_with(PREFACE));
        self.input.drain(..PREFACE.len());
        assert_eq!(self.frame()?.kind, SETTINGS);
        Ok(())
    }

    /// The beginning of a connection, on this side with these settings.
    fn meet(&mut self, ours: &[(u16, u32)]) -> io::Result<()> {
        self.preface()?;
        self.send(&[settings(ours)])
    }

    fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        self.stream.write_all(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>())
    }

    /// The head of the next call.
    fn head(&mut self) -> io::Result<Call> {
        let mut others = Vec::new();
        loop {
            let frame = self.frame()?;
            if frame.kind != HEADERS {
                others.push(frame);
                continue;
            }
            let mut block = frame.payload.clone();
            let mut last = frame.clone();
            while !last.has(END_HEADERS) {
                last = self.frame()?;
                assert_eq!((last.kind, last.stream), (CONTINUATION, frame.stream));
                block.extend(&last.payload);
            }
            self.calls.fetch_add(1, Ordering::SeqCst);
            return Ok(Call { stream: frame.stream, fields: fields(&block), message: Vec::new(), others });
        }
    }

    /// The rest of a call, for which room is given only where `gives_room`.
    fn rest(&mut self, call: &mut Call, gives_room: bool) -> io::Result<()> {
        loop {
            let frame = self.frame()?;
            if (frame.kind, frame.stream) != (DATA, call.stream) {
                call.others.push(frame);
                continue;
            }
            let bytes = frame.payload.len() as u32;
            call.message.extend(&frame.payload);
            if frame.has(END_STREAM) {
                return Ok(());
            }
            if gives_room && bytes > 0 {
                self.send(&[window_update(0, bytes), window_update(call.stream, bytes)])?;
            }
        }
    }

    fn call(&mut self) -> io::Result<Call> {
        let mut call = self.head()?;
        self.rest(&mut call, true)?;
        Ok(call)
    }
}

/// An answer that all is well.
fn accept(stream: u32) -> Vec<Frame> {
    vec![
        headers(stream, false, &HEAD),
        Frame::new(DATA, 0, stream, NOTHING),
        headers(stream, true, &[("grpc-status", "0"), ("grpc-message", "OK")]),
    ]
}

/// An answer that is nothing but its trailers.
fn status(stream: u32, status: &str, more: &[(&str, &str)]) -> Vec<Frame> {
    vec![headers(stream, true, &[&HEAD[..], &[("grpc-status", status)], more].concat())]
}

/// Sends one span and says what came of it, with the accounting checked.
#[track_caller]
fn send(client: &Client, spans: usize) -> Result<(), Error> {
    let sent = client.export_spans(generate_test_spans(spans)).map(drop);
    assert_accounted(client);
    sent
}

#[test]
fn a_call_says_what_every_server_wants_to_hear() {
    let (tell, told) = mpsc::channel();
    let peer = Peer::start(move |_, conn| {
        conn.meet(&[])?;
        loop {
            let call = conn.call()?;
            conn.send(&accept(call.stream))?;
            tell.send(call.fields).unwrap();
        }
    });
    let client =
        peer.client().with_header("x-tenant", "a").with_request_timeout(Duration::from_secs(7)).build().unwrap();
    send(&client, 1).unwrap();
    let fields = told.recv().unwrap();
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(field(":path"), Some("/opentelemetry.proto.collector.trace.v1.TraceService/Export"));
    assert_eq!((field("te"), field("content-type")), (Some("trailers"), Some("application/grpc")));
    assert_eq!((field("grpc-encoding"), field("x-tenant")), (Some("gzip"), Some("a")));
    let (count, unit) = field("grpc-timeout").unwrap().split_at(field("grpc-timeout").unwrap().len() - 1);
    assert!(count.len() <= 8 && unit == "u" && count.parse::<u64>().unwrap() <= 7_000_000, "{count}{unit}");
}

#[test]
fn settings_may_come_after_the_whole_call_and_are_acknowledged_whenever_they_come() {
    let (tell, told) = mpsc::channel();
    let peer = Peer::start(move |_, conn| {
        conn.preface()?;
        let mut call = conn.head()?;
        // Within the windows that the protocol begins with.
        conn.rest(&mut call, false)?;
        conn.send(&[settings(&[(4, 1 << 22), (5, 1 << 22)])])?;
        conn.send(&accept(call.stream))?;
        loop {
            let call = conn.call()?;
            let is_acknowledged = call.others.iter().any(|frame| frame.kind == SETTINGS && frame.has(ACK));
            tell.send(is_acknowledged).unwrap();
            conn.send(&accept(call.stream))?;
        }
    });
    let client = peer.client().build().unwrap();
    send(&client, 1).unwrap();
    send(&client, 1).unwrap();
    assert!(told.recv().unwrap());
    assert_eq!((peer.connections(), peer.calls()), (1, 2));
}

#[test]
fn no_more_is_sent_than_there_is_room_for_in_both_windows_and_frames() {
    // The window of the stream, that of the connection, and the size of frames.
    for (ours, stream_room, connection_room) in [
        (&[][..], 100_000_u32, 100_000_u32),
        (&[(4, 10)], 3_000, 100_000),
        (&[(4, 0)], 3_000, 3_000),
        (&[(4, 1 << 22), (5, 1 << 20)], 1, 70_000),
    ] {
        let (tell, told) = mpsc::channel();
        let ours = ours.to_vec();
        let peer = Peer::start(move |_, conn| {
            conn.meet(&ours)?;
            let initial = ours.iter().find(|(name, _)| *name == 4).map_or(65_535, |(_, value)| i64::from(*value));
            let most = ours.iter().find(|(name, _)| *name == 5).map_or(16_384, |(_, value)| *value as usize);
            let call = conn.head()?;
            // Until the settings have come, the call goes by those of the protocol.
            let (mut stream, mut connection, mut is_met) = (65_535, 65_535_i64, false);
            let mut bytes = 0;
            loop {
                let frame = conn.frame()?;
                match frame.kind {
                    SETTINGS if frame.has(ACK) => {
                        (stream, is_met) = (stream + initial - 65_535, true);
                    }
                    DATA => {
                        bytes += frame.payload.len();
                        stream -= frame.payload.len() as i64;
                        connection -= frame.payload.len() as i64;
                        assert!(frame.payload.len() <= most.max(16_384) && connection >= 0);
                        assert!(!is_met || stream >= 0 || frame.payload.is_empty(), "{stream}");
                        if frame.has(END_STREAM) {
                            break;
                        }
                    }
                    _ => {}
                }
                while is_met && stream <= 0 {
                    stream += i64::from(stream_room);
                    conn.send(&[window_update(call.stream, stream_room)])?;
                }
                while is_met && connection <= 0 {
                    connection += i64::from(connection_room);
                    conn.send(&[window_update(0, connection_room)])?;
                }
            }
            tell.send(bytes).unwrap();
            conn.send(&accept(call.stream))
        });
        let client = peer.client().with_compression(Compression::None).build().unwrap();
        send(&client, 2_000).unwrap();
        assert!(told.recv().unwrap() > 300_000, "{stream_room}");
    }
}

#[test]
fn a_window_that_never_opens_costs_the_time_there_is_and_no_more() {
    let peer = Peer::start(|_, conn| {
        conn.meet(&[(4, 0)])?;
        loop {
            conn.frame()?;
        }
    });
    let client = peer.client().with_request_timeout(Duration::from_millis(300)).build().unwrap();
    let begun = Instant::now();
    let error = send(&client, 5_000).unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn pings_are_answered_and_none_are_sent() {
    let (tell, told) = mpsc::channel();
    let peer = Peer::start(move |_, conn| {
        conn.meet(&[])?;
        let mut call = conn.head()?;
        conn.send(&[Frame::new(PING, 0, 0, *b"question")])?;
        conn.rest(&mut call, true)?;
        while !call.others.iter().any(|frame| frame.kind == PING) {
            let frame = conn.frame()?;
            call.others.push(frame);
        }
        tell.send(call.others).unwrap();
        conn.send(&accept(call.stream))
    });
    send(&peer.client().build().unwrap(), 1).unwrap();
    let pings: Vec<_> = told.recv().unwrap().into_iter().filter(|frame| frame.kind == PING).collect();
    assert_eq!(pings, [Frame::new(PING, ACK, 0, *b"question")]);
}

#[test]
fn every_status_is_made_again_or_not_as_the_table_has_it() {
    // GRPC-02, GRPC-03
    for code in 1..=16 {
        let text = code.to_string();
        let peer = Peer::answering(move |stream| status(stream, &text, &[("grpc-message", "no%2C thanks")]));
        let client = peer.client().build().unwrap();
        let tracer = client.tracer("test");
        tracer.start("span").end();
        let receipt = client.flush(LONG);
        assert_accounted(&client);
        let is_passing = [1, 4, 10, 11, 14, 15].contains(&code);
        let reason = if is_passing { DropReason::Undelivered } else { DropReason::Refused };
        assert_eq!(receipt.dropped.get(reason), 1, "{code}: {receipt:?}");
        // What may be one node's fault is asked for once more.
        let right = if is_passing { 3..=3 } else { 1..=2 };
        assert!(right.contains(&peer.calls()), "{code}: {} calls", peer.calls());
    }
}

#[test]
fn a_pause_that_the_receiver_asks_for_is_kept() {
    // GRPC-03, GRPC-04
    for code in ["14", "8"] {
        let (tell, told) = mpsc::channel();
        let (tell, details) = (std::sync::Mutex::new(tell), retry_info(1));
        let peer = Peer::start(move |_, conn| {
            conn.meet(&[])?;
            loop {
                let call = conn.call()?;
                let _ = tell.lock().unwrap().send(Instant::now());
                let is_first = conn.calls.load(Ordering::SeqCst) == 1;
                let busy = status(call.stream, code, &[("grpc-status-details-bin", &details)]);
                conn.send(&if is_first { busy } else { accept(call.stream) })?;
            }
        });
        let client = peer.client().build().unwrap();
        client.tracer("test").start("span").end();
        assert!(client.flush(LONG).is_complete());
        let (first, second) = (told.recv().unwrap(), told.recv().unwrap());
        assert!(second - first >= Duration::from_millis(950), "{code}: {:?}", second - first);
        assert_accounted(&client);
    }
}

#[test]
fn a_message_that_is_too_large_is_halved_in_every_dialect_even_when_it_is_refused_early() {
    for (code, words) in [
        ("8", "SERVER: Received message larger than max (5000 vs. 4000)"),
        ("8", "Received message larger than max (5000 vs 4000)"),
        ("11", "Error, decoded message length too large: found 5000 bytes, the limit is: 4000 bytes"),
    ] {
        for is_early in [false, true] {
            let peer = Peer::start(move |_, conn| {
                conn.meet(&[])?;
                loop {
                    let mut call = conn.head()?;
                    if is_early {
                        // The first frame tells how long it is.
                        let data = conn.frame()?;
                        call.message.extend(&data.payload);
                        let length = u32::from_be_bytes(call.message[1..5].try_into().unwrap());
                        if length > 4_000 {
                            let refused =
                                [status(call.stream, code, &[("grpc-message", words)]), vec![reset(call.stream, 0)]];
                            conn.send(&refused.concat())?;
                            continue;
                        }
                        if !data.has(END_STREAM) {
                            conn.rest(&mut call, true)?;
                        }
                    } else {
                        conn.rest(&mut call, true)?;
                    }
                    let is_small = call.message.len() <= 4_000;
                    let answer = if is_small {
                        accept(call.stream)
                    } else {
                        status(call.stream, code, &[("grpc-message", words)])
                    };
                    conn.send(&answer)?;
                }
            });
            let client = peer.client().with_compression(Compression::None).build().unwrap();
            let tracer = client.tracer("test");
            (0..200).for_each(|_| tracer.start("span").end());
            let receipt = client.flush(LONG);
            assert_eq!((receipt.exported, receipt.is_complete()), (200, true), "{words}: {receipt:?}");
            assert_accounted(&client);
        }
    }
}

#[test]
fn an_early_refusal_of_a_large_message_is_heard_while_the_rest_waits_for_room() {
    let peer = Peer::start(|_, conn| {
        conn.meet(&[])?;
        loop {
            // Nothing of the message is read, and no room is given.
            let call = conn.head()?;
            conn.send(&status(call.stream, "16", &[]))?;
            let mut buffer = [0; 1];
            while conn.stream.read(&mut buffer)? > 0 && conn.input.len() > usize::MAX / 2 {}
        }
    });
    let client = peer.client().with_compression(Compression::None).build().unwrap();
    let begun = Instant::now();
    let error = send(&client, 5_000).unwrap_err();
    assert!(matches!(error, Error::Refused { status: 16, .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn of_both_farewells_the_last_says_what_is_to_be_made_again_and_nothing_is_lost() {
    let peer = Peer::start(|number, conn| {
        conn.meet(&[])?;
        if number == 1 {
            let call = conn.call()?;
            // As a server does whose connections have their age: a word in advance, a ping, and then the truth.
            conn.send(&accept(call.stream))?;
            let call = conn.head()?;
            conn.send(&[goaway((1 << 31) - 1, 0), Frame::new(PING, 0, 0, *b"farewell")])?;
            while conn.frame()?.kind != PING {}
            // It was not looked at.
            conn.send(&[goaway(call.stream - 2, 0)])?;
            return Ok(());
        }
        loop {
            let call = conn.call()?;
            conn.send(&accept(call.stream))?;
        }
    });
    let client = peer.client().build().unwrap();
    (0..3).for_each(|_| send(&client, 1).unwrap());
    assert_eq!((peer.connections(), peer.calls()), (2, 4), "one of them twice, and no attempt used up for it");
    assert_eq!(client.stats().possible_duplicates, 0);
}

#[test]
fn a_call_that_is_under_way_at_a_farewell_is_finished_and_the_next_one_goes_elsewhere() {
    let peer = Peer::start(|number, conn| {
        conn.meet(&[])?;
        loop {
            let call = conn.call()?;
            if number == 1 {
                conn.send(&[goaway(call.stream, 0)])?;
            }
            conn.send(&accept(call.stream))?;
        }
    });
    let client = peer.client().build().unwrap();
    (0..3).for_each(|_| send(&client, 1).unwrap());
    assert_eq!((peer.connections(), peer.calls()), (2, 3));
}

#[test]
fn a_farewell_while_the_connection_is_idle_costs_nothing() {
    let peer = Peer::start(|number, conn| {
        conn.meet(&[])?;
        loop {
            let call = conn.call()?;
            conn.send(&accept(call.stream))?;
            if number == 1 {
                conn.send(&[goaway(call.stream, 0)])?;
                return Ok(());
            }
        }
    });
    let client = peer.client().build().unwrap();
    (0..3).for_each(|_| send(&client, 1).unwrap());
    assert_eq!(peer.calls(), 3);
}

#[test]
fn each_code_of_a_reset_is_the_status_that_it_stands_for() {
    for code in 0..=13 {
        let peer = Peer::answering(move |stream| vec![reset(stream, code)]);
        let client = peer.client().build().unwrap();
        client.tracer("test").start("span").end();
        let receipt = client.flush(LONG);
        let reason = match code {
            // REFUSED_STREAM, CANCEL and ENHANCE_YOUR_CALM.
            7 | 8 | 11 => DropReason::Undelivered,
            _ => DropReason::Refused,
        };
        assert_eq!(receipt.dropped.get(reason), 1, "{code}: {receipt:?}");
        assert_accounted(&client);
    }
}

#[test]
fn a_reset_behind_a_good_answer_takes_nothing_back() {
    let peer = Peer::answering(|stream| [accept(stream), vec![reset(stream, 0)]].concat());
    let client = peer.client().build().unwrap();
    (0..3).for_each(|_| send(&client, 1).unwrap());
    assert_eq!((peer.calls(), client.stats().exported), (3, 3));
}

#[test]
fn what_stands_around_an_answer_is_read_over() {
    let peer = Peer::answering(|stream| {
        let padded = [&[4][..], &block(&HEAD), &[0; 4]].concat();
        let (begin, rest) = {
            let all = block(&[("grpc-status", "0"), ("server", "somebody"), ("x-long", &"y".repeat(20_000))]);
            let (begin, rest) = all.split_at(10);
            (begin.to_vec(), rest.to_vec())
        };
        let mut frames = vec![
            headers(stream, false, &[(":status", "103"), ("link", "</a>")]),
            headers(stream, false, &[(":status", "100")]),
            settings(&[(3, 100), (99, 7)]),
            window_update(0, 1),
            // Of a type that nobody knows.
            Frame::new(0xbe, 0xff, stream, *b"grease"),
            // PRIORITY.
            Frame::new(2, 0, stream, [0, 0, 0, 0, 16]),
            Frame::new(HEADERS, END_HEADERS | 8, stream, padded),
            Frame::new(DATA, 8, stream, [&[3][..], &NOTHING[..2], &[0; 3]].concat()),
            Frame::new(DATA, 0, stream, &NOTHING[2..]),
            Frame::new(DATA, 0, stream, []),
            Frame::new(HEADERS, END_STREAM, stream, begin),
        ];
        let pieces: Vec<_> = rest.chunks(9_000).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let flags = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            frames.push(Frame::new(CONTINUATION, flags, stream, *piece));
        }
        frames
    });
    let client = peer.client().build().unwrap();
    (0..3).for_each(|_| send(&client, 1).unwrap());
    assert_eq!((peer.connections(), peer.calls()), (1, 3));
}

#[test]
fn an_answer_by_somebody_else_on_the_way_means_what_its_status_says() {
    let page = |stream, status: &str, body: &str| {
        vec![
            headers(stream, false, &[(":status", status), ("content-type", "text/html")]),
            Frame::new(DATA, END_STREAM, stream, body.as_bytes()),
        ]
    };
    for (code, reason) in [
        ("502", DropReason::Undelivered),
        ("503", DropReason::Undelivered),
        ("413", DropReason::TooLarge),
        ("404", DropReason::Refused),
        ("200", DropReason::Refused),
    ] {
        let peer = Peer::answering(move |stream| page(stream, code, "<html><h1>sorry</h1></html>"));
        let client = peer.client().build().unwrap();
        client.tracer("test").start("span").end();
        let receipt = client.flush(LONG);
        assert_eq!(receipt.dropped.get(reason), 1, "{code}: {receipt:?}");
        assert_accounted(&client);
    }
}

#[test]
fn any_content_type_that_begins_like_grpc_is_one_and_the_words_of_success_mean_nothing() {
    let peer = Peer::answering(|stream| {
        let mut answer = accept(stream);
        answer[0] = headers(stream, false, &[(":status", "200"), ("content-type", "application/grpc+proto")]);
        answer
    });
    let client = peer.client().build().unwrap();
    send(&client, 1).unwrap();
}

#[test]
fn what_may_have_been_served_is_counted_when_it_is_made_again() {
    let peer = Peer::start(|_, conn| {
        conn.meet(&[])?;
        loop {
            let call = conn.call()?;
            let is_first = conn.calls.load(Ordering::SeqCst) == 1;
            // As a proxy does that has waited for long enough.
            conn.send(&if is_first { status(call.stream, "14", &[]) } else { accept(call.stream) })?;
        }
    });
    let client = peer.client().build().unwrap();
    let tracer = client.tracer("test");
    (0..5).for_each(|_| tracer.start("span").end());
    assert!(client.flush(LONG).is_complete());
    let stats = assert_accounted(&client);
    assert_eq!((stats.exported, stats.possible_duplicates), (5, 5));
}

#[test]
fn who_speaks_something_else_is_told_with_what_it_probably_is() {
    for (greeting, right) in [
        (&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], "HTTP/1.1, and gRPC needs HTTP/2"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "should the URL begin with https?"),
        (b"220 mail.example ESMTP\r\n", "not HTTP/2"),
    ] {
        let peer = Peer::start(move |_, conn| {
            conn.stream.write_all(greeting)?;
            loop {
                conn.fill()?;
            }
        });
        let client = peer.client().build().unwrap();
        let error = send(&client, 1).unwrap_err();
        assert!(error.to_string().contains(right), "{error}");
    }
}

#[test]
fn what_was_spooled_over_one_protocol_is_sent_over_the_other() {
    for grpc_is_first in [false, true] {
        let (is_back, dir) = (Arc::new(AtomicU64::new(0)), SpoolDir::new());
        let answer = Arc::clone(&is_back);
        let respond = move |_: &otlp::testing::Request| match answer.load(Ordering::SeqCst) {
            0 => otlp::testing::Response::status(503),
            _ => otlp::testing::Response::ok(),
        };
        let receiver = Receiver::builder().respond_with(respond).start().unwrap();
        let client = |over_grpc: bool| {
            let builder = client_of(&receiver)
                .with_retry_config(RetryConfig { max_attempts: 1, ..RetryConfig::default() })
                .with_spool_config(SpoolConfig { dir: Some(dir.path().to_owned()), ..SpoolConfig::default() })
                .with_log_level(LogLevel::None);
            if over_grpc { builder.with_grpc_transport() } else { builder.with_http_transport() }.build().unwrap()
        };
        let first = client(grpc_is_first);
        let tracer = first.tracer("spool");
        let mut made: Vec<_> = (0..500).map(|_| ids(&tracer.start("span").context())).collect();
        assert_eq!(first.shutdown(LONG).spooled, 500, "{grpc_is_first}");
        assert_accounted(&first);

        is_back.store(1, Ordering::SeqCst);
        let second = client(!grpc_is_first);
        made.push(ids(&second.tracer("spool").start("span").context()));
        let receipt = second.shutdown(LONG);
        assert!(receipt.is_complete(), "{grpc_is_first}: {receipt:?}");
        let stats = assert_accounted(&second);
        assert_eq!((stats.restored, stats.exported, stats.spooled), (500, 501, 0), "{grpc_is_first}");
        assert_received(&receiver, &made);
        assert_eq!(dir.bodies().len(), 0);
    }
}

#[test]
fn who_turns_every_call_away_is_asked_as_often_as_there_are_attempts_and_once_more_for_each() {
    for (what, turn_away) in [
        ("refused streams", (|stream| reset(stream, 7)) as fn(u32) -> Frame),
        ("farewells", |_| goaway(0, 0)),
        ("farewells that ask for calm", |_| goaway(0, 11)),
    ] {
        let peer = Peer::answering(move |stream| vec![turn_away(stream)]);
        let client = peer.client().build().unwrap();
        (0..5).for_each(|_| client.tracer("test").start("span").end());
        let receipt = client.flush(LONG);
        assert_eq!(receipt.dropped.get(DropReason::Undelivered), 5, "{what}: {receipt:?}");
        assert_accounted(&client);
        assert!((3..=6).contains(&peer.calls()), "{what}: {} calls", peer.calls());
        assert!(peer.connections() <= peer.calls(), "{what}: {} connections", peer.connections());
    }
}

/// Whatever a peer does for as long as it likes, a call ends in time.
#[track_caller]
fn ends_in_time(what: &str, play: impl Fn(&mut Conn, u32) -> io::Result<()> + Send + Sync + 'static) {
    let peer = Peer::start(move |_, conn| {
        conn.meet(&[])?;
        let call = conn.call()?;
        loop {
            play(conn, call.stream)?;
        }
    });
    let client = peer.client().with_request_timeout(Duration::from_secs(2)).build().unwrap();
    let begun = Instant::now();
    assert!(send(&client, 1).is_err(), "{what}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
    let memory = client.get_memory_stats();
    assert!(memory.used < 4 << 20, "{what}: {memory:?}");
}

#[test]
fn a_peer_that_sends_what_is_no_answer_without_end_costs_bounded_time_and_memory() {
    let many = |frame: Frame| frame.bytes().repeat(1_000);
    for (what, flood) in [
        ("pings", many(Frame::new(PING, 0, 0, [7; 8]))),
        ("settings", many(settings(&[(4, 1)]))),
        ("windows", many(window_update(0, 1))),
        ("unknown frames", many(Frame::new(0xbe, 0, 0, [0; 16]))),
    ] {
        ends_in_time(what, move |conn, _| conn.stream.write_all(&flood));
    }
    ends_in_time("empty data", move |conn, stream| {
        conn.send(&[headers(stream, false, &HEAD)])?;
        let empty = Frame::new(DATA, 0, stream, []).bytes().repeat(1_000);
        loop {
            conn.stream.write_all(&empty)?;
        }
    });
    ends_in_time("interim answers", |conn, stream| conn.send(&[headers(stream, false, &[(":status", "103")])]));
    ends_in_time("resets of others", |conn, _| conn.send(&[reset(99, 8)]));
    ends_in_time("headers that go on", |conn, stream| {
        conn.send(&[Frame::new(HEADERS, 0, stream, block(&HEAD))])?;
        loop {
            conn.send(&[Frame::new(CONTINUATION, 0, stream, [0x88; 9_000])])?;
        }
    });
    ends_in_time("continuations without content", |conn, stream| {
        conn.send(&[Frame::new(HEADERS, 0, stream, [])])?;
        let empty = Frame::new(CONTINUATION, 0, stream, []).bytes().repeat(1_000);
        loop {
            conn.stream.write_all(&empty)?;
        }
    });
    ends_in_time("a small block that stands for much", |conn, stream| {
        // An entry of 4,000 bytes, remembered and then repeated 10,000 times.
        let mut bomb = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
        bomb.extend([b'y'; 4_000]);
        bomb.extend([0xbe; 10_000]);
        conn.send(&[Frame::new(HEADERS, END_HEADERS, stream, bomb)])
    });
    ends_in_time("a frame larger than was offered", |conn, stream| {
        conn.send(&[Frame::new(DATA, 0, stream, [0; 20_000])])
    });
    ends_in_time("windows that overflow", |conn, stream| {
        conn.send(&[window_update(stream, (1 << 31) - 1), window_update(0, (1 << 31) - 1)])
    });
    ends_in_time("a farewell and silence", |conn, _| {
        conn.send(&[goaway(0, 0)])?;
        loop {
            conn.fill()?;
        }
    });
    ends_in_time("one byte now and then", |conn, stream| {
        for byte in headers(stream, false, &HEAD).bytes().iter().chain([0; 3].iter().cycle()) {
            conn.stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    });
}

#[test]
fn an_answer_that_is_larger_than_what_is_read_is_final() {
    // RTY-09
    let peer = Peer::start(|_, conn| {
        conn.meet(&[])?;
        let call = conn.call()?;
        conn.send(&[headers(call.stream, false, &HEAD)])?;
        (0..3).try_for_each(|_| conn.send(&[Frame::new(DATA, 0, call.stream, [0; 10_000])]))?;
        loop {
            conn.fill()?;
        }
    });
    let client = peer.client().with_max_response_bytes(20_000).build().unwrap();
    let error = send(&client, 1).unwrap_err();
    assert!(error.to_string().contains("larger than 20000 bytes"), "{error}");
    assert_eq!(peer.calls(), 1);
}

#[test]
#[cfg(feature = "zstd")]
fn a_compression_that_the_receiver_does_not_know_is_tried_once_and_gzip_from_then_on() {
    for code in ["12", "13"] {
        let (tell, told) = mpsc::channel();
        let tell = std::sync::Mutex::new(tell);
        let peer = Peer::start(move |_, conn| {
            conn.meet(&[])?;
            loop {
                let call = conn.call()?;
                let encoding = call.field("grpc-encoding").unwrap().to_owned();
                let answer = if encoding == "gzip" { accept(call.stream) } else { status(call.stream, code, &[]) };
                conn.send(&answer)?;
                tell.lock().unwrap().send(encoding).unwrap();
            }
        });
        let client = peer.client().with_compression(Compression::Zstd).build().unwrap();
        for _ in 0..3 {
            client.tracer("test").start("span").end();
            assert!(client.flush(LONG).is_complete());
        }
        let seen: Vec<_> = told.try_iter().collect();
        assert_eq!(seen, ["zstd", "gzip", "gzip", "gzip"], "{code}");
        assert_accounted(&client);
    }
}
