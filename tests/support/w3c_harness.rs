//! The other side of the service: it sends a request, is called back for it, and shows what the calls carried.

use std::{
    collections::HashMap,
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use otlp::{Client, testing::Receiver};
use serde_json::json;

use crate::{
    http1::{Headers, Request, respond},
    service::Service,
    support::{self, LONG},
};

pub(crate) struct Harness {
    /// Dropped, and so closed, before its receiver.
    pub(crate) client: Client,
    pub(crate) receiver: Receiver,
    service: SocketAddr,
}

/// What a call carried.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) trace_id: String,
    pub(crate) parent_id: String,
    pub(crate) flags: u8,
    /// Members of all headers in order; of one key the first.
    pub(crate) state: Vec<(String, String)>,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Harness {
    pub(crate) fn start() -> Self {
        let receiver = Receiver::start().unwrap();
        let client = support::client_of(&receiver).build().unwrap();
        let service = Service::bind(0, client.tracer("w3c")).unwrap();
        let address = service.address().unwrap();
        // It serves for as long as this process lives.
        thread::spawn(move || service.run());
        Self { client, receiver, service: address }
    }

    /// One request that asks for one call.
    pub(crate) fn call(&self, headers: &[(&str, &str)]) -> Carried {
        self.calls(headers, 1).remove(0)
    }

    /// One request that asks for `count` calls.
    pub(crate) fn calls(&self, headers: &[(&str, &str)], count: usize) -> Vec<Carried> {
        let callback = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = callback.local_addr().unwrap();
        let elements: Vec<_> =
            (0..count).map(|at| json!({"url": format!("http://{address}/{at}"), "arguments": [at]})).collect();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..count {
                let (stream, _) = callback.accept().unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                let request = Request::read(&mut BufReader::new(&stream)).unwrap().unwrap();
                respond(&mut &stream, 200, "null", true).unwrap();
                tell.send(request).unwrap();
            }
        });
        let (status, answer) = self.post(headers, &json!(elements).to_string());
        assert_eq!((status, answer), (200, json!(vec![200; count]).to_string()));
        (0..count).map(|_| Carried::of(told.recv_timeout(LONG).unwrap())).collect()
    }

    /// A request to the service; its status and its body.
    pub(crate) fn post(&self, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = "POST /test HTTP/1.1\r\nHost: service\r\nConnection: close\r\n".to_owned();
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        self.send(format!("{request}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
    }

    /// These bytes, to the service.
    pub(crate) fn send(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.service).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {answer:?}"));
        (head[9..12].parse().unwrap(), body.to_owned())
    }
}

impl Carried {
    /// # Panics
    /// Unless there is exactly one `traceparent`, of version 00 and well formed, and the `tracestate` is valid.
    fn of(request: Request) -> Self {
        let [header] = request.values("traceparent").collect::<Vec<_>>()[..] else { panic!("{:?}", request.headers) };
        let parts: Vec<_> = header.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{header}");
        let is_hex = |part: &&str| part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        assert!(parts.iter().all(is_hex) && parts[0] == "00", "{header}");
        assert!(parts[1..3].iter().all(|id| id.bytes().any(|digit| digit != b'0')), "{header}");
        let mut state: Vec<(String, String)> = Vec::new();
        for member in request.values("tracestate").flat_map(|list| list.split(',')).filter(|member| !member.is_empty())
        {
            let (key, value) = member.trim_matches([' ', '\t']).split_once('=').unwrap();
            assert!(!value.is_empty() && !value.contains('='), "{member}");
            if state.iter().all(|(known, _)| known != key) {
                state.push((key.to_owned(), value.to_owned()));
            }
        }
        Self {
            trace_id: parts[1].to_owned(),
            parent_id: parts[2].to_owned(),
            flags: u8::from_str_radix(parts[3], 16).unwrap(),
            state,
            headers: request.headers,
            body: request.body,
        }
    }

    /// The value of `key` in the trace state.
    pub(crate) fn state(&self, key: &str) -> Option<&str> {
        self.state.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The trace state as one list.
    pub(crate) fn list(&self) -> String {
        self.state.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// The headers other than those of HTTP, by name.
    pub(crate) fn context(&self) -> HashMap<&str, &str> {
        let is_context = |name: &str| ["traceparent", "tracestate", "baggage"].contains(&name);
        let pairs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, _)| is_context(name)).collect()
    }
}
