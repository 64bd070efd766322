use proptest::prelude::*;

use super::*;
use crate::{
    export::sink::grpc::call::{Answer, Content},
    hostile::{assert_linear_in, mutated},
    http2::hpack::{index, put_indexed, put_literal, put_named},
};

/// What a server puts out.
#[derive(Default)]
struct Server(Vec<u8>);

impl Server {
    fn met() -> Self {
        Self::default().settings(&[])
    }

    fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        put(&mut self.0, kind, flags, stream, payload);
        self
    }

    fn settings(self, settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, 0, 0, &payload)
    }

    fn head(self, stream: u32) -> Self {
        self.frame(kind::HEADERS, flag::END_HEADERS, stream, &head())
    }

    fn data(self, stream: u32, data: &[u8]) -> Self {
        self.frame(kind::DATA, 0, stream, data)
    }

    fn trailers(self, stream: u32, status: &str) -> Self {
        self.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &trailers(status))
    }

    fn goaway(self, last: u32, code: u32) -> Self {
        self.frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    fn window(self, stream: u32, more: u32) -> Self {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
    }
}

fn head() -> Vec<u8> {
    let mut block = Vec::new();
    // ":status: 200" is the eighth.
    put_indexed(&mut block, 8);
    put_named(&mut block, index::CONTENT_TYPE, b"application/grpc");
    block
}

fn trailers(status: &str) -> Vec<u8> {
    let mut block = Vec::new();
    put_literal(&mut block, b"grpc-status", status.as_bytes(), false);
    put_literal(&mut block, b"grpc-message", b"why", false);
    block
}

/// A connection with a call under way.
fn begun() -> (Session, Call) {
    let mut session = Session::default();
    let call = session.begin(b"\x83", 1_000, &mut Vec::new());
    (session, call)
}

fn taken(server: Server) -> (Session, Call, Result<usize, Broken>) {
    let (mut session, mut call) = begun();
    let taken = session.take(&server.0, Some(&mut call));
    (session, call, taken)
}

fn refused(server: Server) -> Broken {
    let (_, call, taken) = taken(server);
    taken.expect_err(&format!("{call:?}"))
}

#[test]
fn a_connection_begins_with_the_preface_and_settings_and_later_calls_do_not() {
    let mut session = Session::default();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    session.greet(&mut first);
    assert_eq!(session.begin(b"\x83", 10, &mut first).stream, 1);
    session.greet(&mut second);
    assert_eq!(session.begin(b"\x83", 10, &mut second).stream, 3);
    let behind = first.strip_prefix(PREFACE).unwrap();
    let settings = FrameHead::read(*behind.first_chunk().unwrap());
    assert_eq!((settings.kind, settings.flags, settings.length), (kind::SETTINGS, 0, 12));
    assert!(behind.ends_with(&[0, 0, 1, kind::HEADERS, flag::END_HEADERS, 0, 0, 0, 1, 0x83]));
    assert_eq!(second, [0, 0, 1, kind::HEADERS, flag::END_HEADERS, 0, 0, 0, 3, 0x83]);
}

#[test]
fn headers_that_are_larger_than_a_frame_go_on_in_the_next_one() {
    let mut out = Vec::new();
    let mut session = Session { is_greeted: true, ..Session::default() };
    session.begin(&[0x83; 40_000], 10, &mut out);
    let mut rest = &out[..];
    let mut seen = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk() {
        let head = FrameHead::read(*head);
        seen.push((head.kind, head.length, head.has(flag::END_HEADERS)));
        rest = &behind[head.length..];
    }
    let right =
        [(kind::HEADERS, 16_384, false), (kind::CONTINUATION, 16_384, false), (kind::CONTINUATION, 7_232, true)];
    assert_eq!(seen, right);
}

#[test]
fn an_answer_is_read_however_it_is_cut_up() {
    let server = Server::met().head(1).data(1, b"ab").window(1, 10).data(1, b"c").trailers(1, "0");
    let right = Answer {
        http: 200,
        content: Content::Grpc,
        status: Some(0),
        message: "why".into(),
        body: b"abc".to_vec(),
        ..Answer::default()
    };
    for step in 1..server.0.len() {
        let (mut session, mut call) = begun();
        let (mut used, mut came) = (0, 0);
        while call.end.is_none() {
            came = server.0.len().min(came + step);
            used += session.take(&server.0[used..came], Some(&mut call)).unwrap();
        }
        assert_eq!((used, call.end, &call.answer), (server.0.len(), Some(End::Whole), &right));
        assert_eq!(*session.replies(), [0, 0, 0, kind::SETTINGS, flag::ACK, 0, 0, 0, 0]);
    }
}

#[test]
fn a_block_of_headers_may_be_cut_padded_and_weighted() {
    let (block, ending) = (head(), flag::END_STREAM);
    let (first, second) = block.split_at(3);
    let weighted = [&[2, 0, 0, 0, 0, 16][..], first, &[0, 0]].concat();
    let (_, call, taken) = taken(
        Server::met()
            .frame(kind::HEADERS, flag::PADDED | flag::PRIORITY | ending, 1, &weighted)
            .frame(kind::CONTINUATION, 0, 1, b"")
            .frame(kind::CONTINUATION, flag::END_HEADERS, 1, second),
    );
    taken.unwrap();
    assert_eq!((call.end, call.answer.http), (Some(End::Whole), 200));
}

#[test]
fn windows_are_obeyed_both_of_them_even_when_they_shrink_below_nothing() {
    let (mut session, mut call) = begun();
    assert_eq!(session.room(&call, 1 << 20), 16_384);
    session.sent(&mut call, 16_384);
    // The stream's window becomes 1,000 - 16,384.
    let smaller = Server::default().settings(&[(setting::INITIAL_WINDOW_SIZE, 1_000)]);
    session.take(&smaller.0, Some(&mut call)).unwrap();
    assert_eq!((call.window, session.room(&call, 10)), (-15_384, 0));
    session.take(&Server::default().window(1, 15_385).0, Some(&mut call)).unwrap();
    assert_eq!(session.room(&call, 10), 1);
    // A larger one for the stream alone is none for the connection.
    let larger = Server::default()
        .settings(&[(setting::INITIAL_WINDOW_SIZE, i32::MAX as u32), (setting::MAX_FRAME_SIZE, (1 << 24) - 1)]);
    session.take(&larger.0, Some(&mut call)).unwrap();
    assert_eq!(session.room(&call, 1 << 20), 65_535 - 16_384);
    session.take(&Server::default().window(0, 1 << 20).0, Some(&mut call)).unwrap();
    assert_eq!(session.room(&call, 1 << 20), 1 << 20);
}

#[test]
fn the_other_side_gets_room_again_for_what_it_has_sent() {
    let mut server = Server::met().head(1);
    for _ in 0..8 {
        server = server.data(1, &[0; 16_384]);
    }
    let mut session = Session::default();
    let mut call = session.begin(b"\x83", 1 << 20, &mut Vec::new());
    session.take(&server.trailers(1, "0").0, Some(&mut call)).unwrap();
    assert_eq!((call.end, call.answer.body.len()), (Some(End::Whole), 8 * 16_384));
    let updates = session.replies[HEAD_BYTES..].chunks(13).filter(|frame| frame[3] == kind::WINDOW_UPDATE).count();
    assert!(updates >= 4, "{updates}");
    assert!(session.credit > 0);
}

#[test]
fn pings_and_settings_are_answered_and_not_their_answers() {
    let (mut session, _, taken) = taken(
        Server::met()
            .frame(kind::PING, 0, 0, b"12345678")
            .frame(kind::PING, flag::ACK, 0, b"12345678")
            .frame(kind::SETTINGS, flag::ACK, 0, b"")
            .frame(kind::PRIORITY, 0, 1, b"12345")
            .frame(0x42, 0xff, 77, b"of a type that is not known"),
    );
    taken.unwrap();
    let right = Server::default().frame(kind::SETTINGS, flag::ACK, 0, b"").frame(kind::PING, flag::ACK, 0, b"12345678");
    assert_eq!(*session.replies(), right.0);
}

#[test]
fn of_two_farewells_the_second_says_which_calls_were_looked_at() {
    let (mut session, mut call) = begun();
    session.take(&Server::met().goaway(MOST_ID, 0).frame(kind::PING, 0, 0, &[0; 8]).0, Some(&mut call)).unwrap();
    assert_eq!((call.end, session.is_usable()), (None, false), "what runs is finished, and nothing new begins");
    let mut other = Session { next_stream: 3, ..Session::default() };
    let mut untaken = other.begin(b"\x83", 10, &mut Vec::new());
    other.take(&Server::met().goaway(1, 11).0, Some(&mut untaken)).unwrap();
    assert_eq!(untaken.end, Some(End::Untaken { code: 11 }));
    session.take(&Server::default().goaway(1, 0).head(1).trailers(1, "0").0, Some(&mut call)).unwrap();
    assert_eq!(call.end, Some(End::Whole));
}

#[test]
fn a_reset_behind_a_whole_answer_takes_nothing_back() {
    let (mut session, mut call) = begun();
    session.take(&Server::met().head(1).trailers(1, "0").0, Some(&mut call)).unwrap();
    let reset = Server::default().frame(kind::RST_STREAM, 0, 1, &[0; 4]);
    let mut next = session.begin(b"\x83", 10, &mut Vec::new());
    session.take(&reset.0, Some(&mut next)).unwrap();
    assert_eq!((next.end, session.is_usable()), (None, true));
    let reset = Server::default().frame(kind::RST_STREAM, 0, 3, &7_u32.to_be_bytes());
    session.take(&reset.0, Some(&mut next)).unwrap();
    assert_eq!(next.end, Some(End::Reset { code: 7 }));
}

#[test]
fn interim_answers_are_skipped_and_bounded() {
    let interim = |server: Server| server.frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x08\x03103\x00\x04link\x01x");
    let (_, call, taken) = taken(interim(interim(Server::met())).head(1).trailers(1, "0"));
    taken.unwrap();
    assert_eq!((call.end, call.answer.http), (Some(End::Whole), 200));
    assert_eq!(refused((0..2_000).fold(Server::met(), |server, _| interim(server))), Broken::Flood);
}

#[test]
fn what_comes_without_end_is_given_up() {
    type Step = fn(Server) -> Server;
    let steps: [Step; 8] = [
        |server| server.frame(kind::PING, 0, 0, &[0; 8]),
        |server| server.settings(&[]),
        |server| server.window(0, 1),
        |server| server.data(1, b""),
        |server| server.frame(0x42, 0, 0, b""),
        |server| server.frame(kind::PRIORITY, 0, 1, b"12345"),
        |server| server.goaway(MOST_ID, 0),
        |server| server.frame(kind::CONTINUATION, 0, 1, b""),
    ];
    for (at, step) in steps.into_iter().enumerate() {
        let begin = match at {
            3 => Server::met().head(1),
            7 => Server::met().frame(kind::HEADERS, 0, 1, b"\x88"),
            _ => Server::met(),
        };
        let (mut session, mut call) = begun();
        let flood = (0..1_100).fold(begin, |server, _| step(server));
        assert_eq!(session.take(&flood.0, Some(&mut call)), Err(Broken::Flood), "{at}");
        assert!(session.replies.len() < 32 * 1024);
    }
    let endless = (0..5).fold(Server::met().frame(kind::HEADERS, 0, 1, b""), |server, _| {
        server.frame(kind::CONTINUATION, 0, 1, &[0; 16_384])
    });
    assert_eq!(refused(endless), Broken::Endless);
}

#[test]
fn what_is_no_http_2_is_recognised_by_its_first_bytes() {
    let foreign = |bytes: &[u8]| refused(Server(bytes.to_vec()));
    assert_eq!(foreign(b"HTTP/1.1 400 Bad Request\r\n"), Broken::Foreign(Foreign::Http1));
    assert_eq!(foreign(b"\x15\x03\x01\x00\x02\x02\x46"), Broken::Foreign(Foreign::Tls));
    assert_eq!(foreign(b"220 mail.test ESMTP\r\n"), Broken::Foreign(Foreign::Unknown));
    assert_eq!(refused(Server::default().head(1)), Broken::Foreign(Foreign::Unknown));
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let met = Server::met;
    for server in [
        met().frame(kind::SETTINGS, 0, 1, b""),
        met().frame(kind::SETTINGS, 0, 0, b"12345"),
        met().frame(kind::SETTINGS, flag::ACK, 0, b"123456"),
        met().settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
        met().settings(&[(setting::MAX_FRAME_SIZE, 16_383)]),
        met().settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]),
        met().settings(&[(setting::ENABLE_PUSH, 1)]),
        met().window(0, 0),
        met().window(0, MOST_ID),
        met().window(1, MOST_ID),
        met().window(5, 1),
        met().frame(kind::PING, 0, 0, b"1"),
        met().frame(kind::PING, 0, 1, b"12345678"),
        met().frame(kind::GOAWAY, 0, 0, b"1234"),
        met().frame(kind::RST_STREAM, 0, 0, &[0; 4]),
        met().frame(kind::RST_STREAM, 0, 1, b"1"),
        met().frame(kind::RST_STREAM, 0, 2, &[0; 4]),
        met().frame(kind::PUSH_PROMISE, 0, 1, &[0; 4]),
        met().frame(kind::CONTINUATION, 0, 1, b""),
        met().frame(kind::HEADERS, 0, 1, b"").head(1),
        met().frame(kind::HEADERS, 0, 1, b"").frame(kind::PING, 0, 0, &[0; 8]),
        met().frame(kind::HEADERS, 0, 1, b"").frame(kind::CONTINUATION, 0, 3, b""),
        met().head(3),
        met().data(1, b"x"),
        met().head(1).head(1),
        met().data(2, b"x"),
        met().frame(kind::DATA, 0, 1, &[0; 16_385]),
        met().frame(kind::HEADERS, flag::END_HEADERS, 1, b"\xff"),
        met().frame(kind::HEADERS, flag::END_HEADERS, 1, &trailers("0")),
    ] {
        assert!(matches!(refused(server), Broken::Rules(_)));
    }
    let flood = (0..5).fold(met().head(1), |server, _| server.data(1, &[0; 16_384]));
    let (mut session, mut call) = begun();
    (session.credit, call.credit) = (10_000, FIRST_WINDOW);
    assert!(matches!(session.take(&flood.0, Some(&mut call)), Err(Broken::Rules(_))));
}

#[test]
fn an_answer_that_is_larger_than_what_is_kept_ends_the_call() {
    let (_, call, taken) = taken(Server::met().head(1).data(1, &[0; 1_006]));
    taken.unwrap();
    assert_eq!((call.end, call.answer.body.len()), (Some(End::TooLarge), 0));
}

/// What a server may say, in an order that may make no sense.
fn conversations() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0_u8..12, any::<u8>(), 0_u32..6, prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, stream, payload)| Server::default().frame(kind, flags, stream, &payload).0);
    let sensible = prop_oneof![
        Just(Server::default().head(1).0),
        Just(Server::default().data(1, b"abc").0),
        Just(Server::default().trailers(1, "14").0),
        Just(Server::default().settings(&[(setting::INITIAL_WINDOW_SIZE, 5)]).0),
        Just(Server::default().window(0, 100).0),
    ];
    let frames = prop::collection::vec(prop_oneof![2 => frame, 3 => sensible], 0..20);
    frames.prop_map(|frames| [Server::met().0, frames.concat()].concat())
}

proptest! {
    #[test]
    fn whatever_comes_is_taken_or_refused_and_in_pieces_as_at_once(input in mutated(conversations()), step in 1_usize..40) {
        let (mut whole, mut call) = begun();
        let at_once = whole.take(&input, Some(&mut call));
        let (mut session, mut other) = begun();
        let (mut used, mut came) = (0, 0);
        let in_pieces = loop {
            came = input.len().min(came + step);
            match session.take(&input[used..came], Some(&mut other)) {
                Ok(now) => used += now,
                Err(broken) => break Err(broken),
            }
            if other.end.is_some() || came == input.len() {
                break Ok(used);
            }
        };
        prop_assert_eq!(at_once, in_pieces);
        prop_assert_eq!((call.end, &call.answer, &whole.replies), (other.end, &other.answer, &session.replies));
    }
}

#[test]
fn whatever_comes_is_read_in_time_in_proportion_to_its_length() {
    type Make = fn(usize) -> Vec<u8>;
    let makes: [(&str, Make); 3] = [
        ("pings", |bytes| (0..bytes / 17).fold(Server::met(), |server, _| server.frame(kind::PING, 0, 0, &[0; 8])).0),
        ("empty data", |bytes| (0..bytes / 9).fold(Server::met().head(1), |server, _| server.data(1, b"")).0),
        ("continued headers", |bytes| {
            let begin = Server::met().frame(kind::HEADERS, 0, 1, b"");
            (0..bytes / 10).fold(begin, |server, _| server.frame(kind::CONTINUATION, 0, 1, b"\x88")).0
        }),
    ];
    for (what, make) in makes {
        assert_linear_in(what, make, |input| {
            let (mut session, mut call) = begun();
            let _ = session.take(input, Some(&mut call));
        });
    }
}
