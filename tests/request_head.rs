//! The head of a request, as it goes over the wire.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use otlp::{
    Client, ClientBuilder, Compression, LogLevel,
    config::{ConnectionManager, ReuseStrategy},
    testing::generate_test_spans,
};

/// The lines of the head of a request to `path`: the first, and the headers in any order. PORT stands for the port,
/// LENGTH for that of the body.
fn head(path: &str, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> (String, BTreeSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().to_owned();
        // Its body is as long as it says.
        stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "nothing behind the body");
        head.replace(&port.to_string(), "PORT").replace(&format!(": {length}\r\n"), ": LENGTH\r\n")
    });
    let builder = Client::builder().with_traces_endpoint(format!("http://127.0.0.1:{port}{path}"));
    let client = change(builder.with_log_level(LogLevel::None)).build().unwrap();
    client.export_spans(generate_test_spans(1)).unwrap();
    drop(client);
    let head = received.join().unwrap();
    let mut lines = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned);
    let first = lines.next().unwrap();
    let (count, headers) = (lines.clone().count(), lines.collect::<BTreeSet<_>>());
    assert_eq!(count, headers.len(), "no header comes twice: {head}");
    (first, headers)
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_request_has_the_headers_it_needs_and_no_others() {
    // HTTP-01
    let agent = concat!("user-agent: OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
    let (first, headers) = head("", |builder| builder.with_compression(Compression::None));
    assert_eq!(first, "POST / HTTP/1.1");
    let bare = [agent, "content-length: LENGTH", "content-type: application/x-protobuf", "host: 127.0.0.1:PORT"];
    assert_eq!(headers, set(&bare));

    let (first, headers) = head("?a=b", |builder| {
        builder.with_compression(Compression::Gzip).with_header("X-Key", "v").with_header("authorization", "Bearer x")
    });
    assert_eq!(first, "POST /?a=b HTTP/1.1");
    let more = ["content-encoding: gzip", "x-key: v", "authorization: Bearer x"];
    assert_eq!(headers, set(&[&bare[..], &more].concat()));
}

#[test]
fn headers_of_the_users_own_stand_in_the_place_of_ours() {
    let own = ["user-agent: me", "accept: a/b", "accept-language: q", "host: other"];
    let (first, headers) = head("/x/y?a=b&c", |builder| {
        let never = ConnectionManager::new().with_reuse_strategy(ReuseStrategy::Never);
        let builder = builder.with_compression(Compression::None).with_connection_manager(never);
        own.iter()
            .filter_map(|line| line.split_once(": "))
            .fold(builder, |builder, (name, value)| builder.with_header(name, value))
    });
    assert_eq!(first, "POST /x/y?a=b&c HTTP/1.1");
    let ours = ["content-length: LENGTH", "content-type: application/x-protobuf", "connection: close"];
    assert_eq!(headers, set(&[&own[..], &ours].concat()));
}
