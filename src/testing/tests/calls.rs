//! The receiver as a client of gRPC sees it, frame by frame.

use std::io::{Read as _, Write as _};

use super::{super::Request, *};
use crate::http2::{
    frame::{FrameHead, HEAD_BYTES, MOST_WINDOW, PREFACE, flag, kind, number, put, put_window_update, setting},
    hpack::{Decoder, put_literal},
};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A connection that sends exactly the frames it is told to.
struct Caller {
    stream: TcpStream,
    decoder: Decoder,
}

#[derive(Debug, Default)]
struct Answer {
    fields: Vec<(String, String)>,
    message: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Caller {
    fn silent(receiver: &Receiver) -> Self {
        let stream = TcpStream::connect(receiver.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut caller = Self { stream, decoder: Decoder::default() };
        caller.stream.write_all(PREFACE).unwrap();
        caller
    }

    fn connect(receiver: &Receiver) -> Self {
        Self::with_window(receiver, 65_535)
    }

    fn with_window(receiver: &Receiver, bytes: u32) -> Self {
        let mut caller = Self::silent(receiver);
        let settings = [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
        caller.frame(kind::SETTINGS, 0, 0, &settings);
        caller
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut out = Vec::new();
        put(&mut out, kind, flags, stream, payload);
        self.stream.write_all(&out).unwrap();
    }

    fn begin(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        let usual = [(":method", "POST"), (":path", path), ("te", "trailers"), ("content-type", "application/grpc")];
        let mut block = Vec::new();
        usual.iter().chain(more).for_each(|(name, value)| {
            put_literal(&mut block, name.as_bytes(), value.as_bytes(), false);
        });
        self.frame(kind::HEADERS, flag::END_HEADERS, stream, &block);
    }

    fn call(&mut self, stream: u32, message: &[u8]) {
        self.begin(stream, TRACES, &[]);
        self.frame(kind::DATA, flag::END_STREAM, stream, &prefixed(0, message));
    }

    /// The next frame; none once the connection has ended.
    fn next(&mut self) -> Option<(FrameHead, Vec<u8>)> {
        let mut head = [0; HEAD_BYTES];
        self.stream.read_exact(&mut head).ok()?;
        let head = FrameHead::read(head);
        let mut payload = vec![0; head.length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head, payload))
    }

    fn next_of(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (head, payload) = self.next().expect("a frame of this kind");
            if head.kind == kind && (kind != kind::PING && kind != kind::SETTINGS || head.has(flag::ACK)) {
                return payload;
            }
        }
    }

    fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        loop {
            let (head, payload) = self.next().expect("the rest of an answer");
            if head.stream != stream {
                continue;
            }
            match head.kind {
                kind::DATA => answer.message.extend(payload),
                kind::HEADERS => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let take = |name: &[u8], value: &[u8]| answer.fields.push((text(name), text(value)));
                    self.decoder.decode(&payload, take).unwrap();
                }
                _ => {}
            }
            if head.has(flag::END_STREAM) {
                return answer;
            }
        }
    }

    fn status(&mut self, stream: u32) -> String {
        self.answer(stream).field("grpc-status").expect("a status").to_owned()
    }

    /// The newest stream and the code of the farewell, with which the connection ends.
    fn farewell(&mut self) -> (u32, u32) {
        let payload = self.next_of(kind::GOAWAY);
        while self.next().is_some() {}
        (number(&payload).unwrap(), number(&payload[4..]).unwrap())
    }
}

fn prefixed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn is_at_rest(receiver: &Receiver) -> bool {
    receiver.wait_for_connections(|counts| counts.open == 1 && counts.idle == 1, PATIENCE)
}

#[test]
fn a_call_arrives_whole_and_is_told_like_a_request() {
    let receiver = Receiver::start().unwrap();
    let mut caller = Caller::connect(&receiver);
    let message = body(vec![span(1, 1), span(1, 2)]);
    caller.begin(1, TRACES, &[("grpc-encoding", "gzip"), ("grpc-timeout", "9S")]);
    let sent = gzip(&message);
    caller.frame(kind::DATA, flag::END_STREAM, 1, &prefixed(1, &sent));
    let answer = caller.answer(1);
    assert_eq!((answer.field("grpc-status"), &answer.message[..]), (Some("0"), &prefixed(0, b"")[..]));

    let requests: Vec<Request> = receiver.requests();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((request.method.as_str(), request.path.as_str(), request.status), ("POST", TRACES, Some(200)));
    assert_eq!((request.header("grpc-encoding"), request.header("grpc-timeout")), (Some("gzip"), Some("9S")));
    assert_eq!((request.encoded_len, request.decoded_len), (sent.len() as u64, message.len() as u64));
    assert_eq!((receiver.span_count(), receiver.spans().len()), (2, 2));
    assert!(receiver.errors().is_empty(), "{:?}", receiver.errors());
}

#[test]
fn both_protocols_are_served_at_one_port_with_one_account() {
    let receiver = Receiver::start().unwrap();
    let mut caller = Caller::connect(&receiver);
    caller.call(1, &body(vec![span(1, 1)]));
    assert_eq!(caller.status(1), "0");
    assert_eq!(Client::connect(&receiver).post("", &body(vec![span(1, 2)])).0, 200);
    assert_eq!((receiver.totals().requests, receiver.totals().spans, receiver.connections()), (2, 2, 2));
}

#[test]
fn calls_whose_frames_are_mixed_and_padded_are_each_put_together() {
    let receiver = Receiver::start().unwrap();
    let mut caller = Caller::connect(&receiver);
    let messages = [1, 2, 3].map(|id| prefixed(0, &body(vec![span(id, id)])));
    let streams = [1, 3, 5];
    streams.iter().for_each(|stream| caller.begin(*stream, TRACES, &[]));
    let most = messages[0].len();
    for at in 0..most {
        for (stream, message) in streams.iter().zip(&messages) {
            let padded = [&[2], &message[at..=at], &[0, 0]].concat();
            let end = if at + 1 == most { flag::END_STREAM } else { 0 };
            caller.frame(kind::DATA, flag::PADDED | end, *stream, &padded);
        }
    }
    streams.iter().for_each(|stream| assert_eq!(caller.status(*stream), "0"));
    assert_eq!(receiver.span_count(), 3);
}

#[test]
fn metrics_are_kept_apart() {
    let receiver = Receiver::start().unwrap();
    let mut caller = Caller::connect(&receiver);
    caller.begin(1, METRICS, &[]);
    caller.frame(kind::DATA, flag::END_STREAM, 1, &prefixed(0, b""));
    assert_eq!(caller.status(1), "0");
    assert_eq!((receiver.metrics().len(), receiver.requests().len()), (1, 0));
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let receiver = Receiver::start().unwrap();
    let mut caller = Caller::connect(&receiver);
    assert_eq!(caller.next_of(kind::SETTINGS), b"");
    caller.frame(kind::PING, 0, 0, b"12345678");
    assert_eq!(caller.next_of(kind::PING), b"12345678");
}

#[test]
fn a_body_beyond_the_limit_is_refused_whether_it_is_padded_or_not() {
    for padding in [&[][..], &[0]] {
        let receiver = Receiver::start().unwrap();
        let mut caller = Caller::connect(&receiver);
        caller.begin(1, TRACES, &[]);
        let part = [padding, &[0; 1 << 19]].concat();
        let flags = if padding.is_empty() { 0 } else { flag::PADDED };
        (0..129).for_each(|_| caller.frame(kind::DATA, flags, 1, &part));
        let answer = caller.answer(1);
        assert_eq!(answer.field("grpc-status"), Some("8"));
        assert!(answer.field("grpc-message").unwrap().starts_with("Received message larger than max"), "{answer:?}");
    }
}

#[test]
fn an_answer_waits_for_room_and_finds_what_was_given_while_it_stood_in_line() {
    let receiver = Receiver::builder().respond_with(|_| Response::ok().body(vec![7; 100])).start().unwrap();
    let mut caller = Caller::with_window(&receiver, 10);
    caller.call(1, &body(vec![span(1, 1)]));
    // Whole while the first one's answer waits, which is all that is done then.
    caller.call(3, &body(vec![span(1, 2)]));
    for stream in [3, 1] {
        let mut out = Vec::new();
        put_window_update(&mut out, stream, 1_000);
        caller.stream.write_all(&out).unwrap();
    }
    assert_eq!(caller.answer(1).message.len(), 105);
    assert_eq!(caller.answer(3).message.len(), 105);
}

#[test]
fn a_call_that_is_reset_holds_up_no_other_and_leaves_the_connection_at_rest() {
    let receiver = Receiver::builder().respond_with(|_| Response::ok().body(vec![7; 100])).start().unwrap();
    let mut caller = Caller::with_window(&receiver, 10);
    assert!(is_at_rest(&receiver), "no call has begun: {:?}", receiver.connection_counts());
    assert_eq!(receiver.connection_counts().peak_requests, 0);
    caller.begin(1, TRACES, &[]);
    assert!(receiver.wait_for_connections(|counts| counts.idle == 0, PATIENCE));
    caller.frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert!(is_at_rest(&receiver), "after a reset: {:?}", receiver.connection_counts());
    // While its answer waits for room.
    caller.call(3, &body(vec![span(1, 1)]));
    assert!(receiver.wait_for_spans(1, PATIENCE));
    caller.frame(kind::RST_STREAM, 0, 3, &8_u32.to_be_bytes());
    assert!(is_at_rest(&receiver), "after a reset answer: {:?}", receiver.connection_counts());
    assert_eq!(receiver.totals().aborted, 1);
}

#[test]
fn what_is_not_http2_is_noted_and_answered_by_a_farewell() {
    let malformed: [(&str, u8, u8, u32, &[u8]); 10] = [
        ("a ping of five bytes", kind::PING, 0, 0, b"12345"),
        ("a ping on a stream", kind::PING, 0, 1, b"12345678"),
        ("half a setting", kind::SETTINGS, 0, 0, b"123"),
        ("too large a window", kind::SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ("no room", kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
        ("more room than there is", kind::WINDOW_UPDATE, 0, 0, &(MOST_WINDOW as u32).to_be_bytes()),
        ("data on a stream that was not opened", kind::DATA, 0, 1, b"x"),
        ("a reset of one", kind::RST_STREAM, 0, 1, &[0; 4]),
        ("headers on the server's stream", kind::HEADERS, flag::END_HEADERS, 2, b""),
        ("the rest of no headers", kind::CONTINUATION, 0, 1, b""),
    ];
    for (what, kind, flags, stream, payload) in malformed {
        let receiver = Receiver::start().unwrap();
        let mut caller = Caller::connect(&receiver);
        caller.frame(kind, flags, stream, payload);
        assert_eq!(caller.farewell().1, 1, "{what}");
        assert_eq!(receiver.errors().len(), 1, "{what}: {:?}", receiver.errors());
    }
    let receiver = Receiver::start().unwrap();
    let mut caller = Caller::silent(&receiver);
    caller.frame(kind::PING, 0, 0, b"12345678");
    assert_eq!(caller.farewell().1, 1);
    assert_eq!(receiver.errors(), ["connection 1: not HTTP/2: settings are not the first frame"]);
}

#[test]
fn a_connection_at_rest_is_closed_with_a_farewell_that_tells_its_last_call() {
    type End = fn(Receiver) -> Option<Receiver>;
    let ends: [(&str, End); 2] = [
        ("closed when idle", |receiver| {
            assert_eq!(receiver.close_idle_connections(), 1);
            Some(receiver)
        }),
        ("dropped", |_| None),
    ];
    for (how, end) in ends {
        let receiver = Receiver::start().unwrap();
        let mut caller = Caller::connect(&receiver);
        caller.call(1, &body(vec![span(1, 1)]));
        assert_eq!(caller.status(1), "0");
        assert!(is_at_rest(&receiver));
        let _open = end(receiver);
        assert_eq!(caller.farewell(), (1, 0), "{how}");
    }
}
