//! One connection from its first request to its last, on a thread of its own: read, judge, answer.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use prost::Message as _;

use super::{
    exchange::{Request, Response},
    figures::Keep,
    http::{self, Framing, Head, ReadFailure},
    message::{self, Ids},
    shared::Shared,
};
use crate::http2::frame::PREFACE;

/// What a buffer may keep for the next request of its connection, in bytes.
pub(super) const BUFFER_KEPT: usize = 8 * 1024 * 1024;
/// How long to read on, and throw away, what a sender still sends after it was refused. Closing at once would
/// reset the connection, and the answer could be lost.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Connection<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) reader: BufReader<&'a TcpStream>,
    pub(super) number: u64,
    pub(super) shared: &'a Shared,
    /// The body of the current request as received.
    pub(super) encoded: Vec<u8>,
    /// The body of the current request inflated, if it was compressed.
    inflated: Vec<u8>,
}

/// How a message came.
pub(super) enum Coding {
    Plain,
    /// Compressed, by this name.
    By(String),
}

/// What follows a request.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    Request,
    /// From now on it is HTTP/2.
    Calls,
    Close,
}

impl<'a> Connection<'a> {
    pub(super) fn new(stream: &'a TcpStream, number: u64, shared: &'a Shared) -> Self {
        // Refused by sockets that are gone already, which the first read finds out.
        let _ = stream.set_nodelay(true);
        let reader = BufReader::with_capacity(16 * 1024, stream);
        Self { stream, reader, number, shared, encoded: Vec::new(), inflated: Vec::new() }
    }

    /// One request and its answer.
    pub(super) fn exchange(&mut self) -> Next {
        // With HTTP/2 no request has begun yet.
        let begins = self.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty() && !bytes.starts_with(b"PRI"));
        if begins {
            self.shared.set_busy(self.number);
        }
        let next = self.answer();
        if begins && next == Next::Request {
            self.shared.set_idle(self.number, None);
        }
        next
    }

    fn answer(&mut self) -> Next {
        let head = match Head::read(&mut self.reader) {
            Ok(Some(head)) => head,
            Ok(None) => return Next::Close,
            Err(failure) => return self.refuse(None, failure),
        };
        if head.is_preface() {
            if self.read_rest_of_preface().is_ok() {
                return Next::Calls;
            }
            self.shared.add_error(format!("connection {}: not HTTP/2: its preface is cut short", self.number));
            return Next::Close;
        }
        if let Err(failure) = self.read_body(&head) {
            return self.refuse(Some(head), failure);
        }
        let close = head.close;
        if head.method == "POST" && head.path.ends_with("/v1/metrics") {
            return self.take_metrics(&head);
        }
        let mut request = self.request(head);

        let coding = match request.header("content-encoding") {
            Some(coding) if is_coded(coding) => Coding::By(coding.to_owned()),
            _ => Coding::Plain,
        };
        let defect = defect(&request);
        let response = self.settle(&mut request, defect, &coding);
        let close = close || response.find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let sent = self.shared.pause() && self.stream.write_all(&http::encode(&response, close)).is_ok();
        if sent && !close { Next::Request } else { Next::Close }
    }

    fn read_rest_of_preface(&mut self) -> io::Result<()> {
        let mut rest = [0; PREFACE.len() - http::PREFACE_HEAD.len()];
        self.reader.read_exact(&mut rest)?;
        if PREFACE.ends_with(&rest) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn read_body(&mut self, head: &Head) -> Result<(), ReadFailure> {
        self.encoded.clear();
        let framing = Framing::of(head)?;
        // Who has sent some of the body already does not wait for this.
        if head.expects_continue && self.reader.buffer().is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        framing.read(&mut self.reader, &mut self.encoded)
    }

    /// Notes the request with its answer, which is made for it unless there is a defect.
    pub(super) fn settle(&mut self, request: &mut Request, defect: Option<(u16, String)>, coding: &Coding) -> Response {
        let judged = match defect {
            Some(defect) => Err(defect),
            None => self.judge(request, coding),
        };
        let (response, ids) = match judged {
            Ok(ids) => (self.respond(request), ids),
            Err((status, defect)) => {
                self.shared.add_error(format!("request {}: {defect}", request.number));
                (Response::failure(status, &defect), Vec::new())
            }
        };
        request.status = Some(response.status);
        let body = if matches!(coding, Coding::By(_)) { &self.inflated } else { &self.encoded };
        // Before the answer: who has it finds the spans here.
        self.shared.record(request.clone(), ids, body);
        self.encoded.shrink_to(BUFFER_KEPT);
        self.inflated.shrink_to(BUFFER_KEPT);
        response
    }

    fn request(&self, head: Head) -> Request {
        Request {
            number: self.shared.number_request(),
            connection: self.number,
            received_at: Instant::now(),
            method: head.method,
            path: head.path,
            headers: head.headers,
            header_len: head.header_len,
            encoded_len: self.encoded.len() as u64,
            decoded_len: 0,
            spans: 0,
            message: None,
            status: None,
        }
    }

    /// The ids of the request's spans, or the status and the reason to refuse it with.
    fn judge(&mut self, request: &mut Request, coding: &Coding) -> Result<Vec<Ids>, (u16, String)> {
        let body = match coding {
            Coding::Plain => &self.encoded,
            Coding::By(coding) => match http::inflate(coding, &self.encoded, &mut self.inflated, http::DECODED_LIMIT) {
                Ok(true) => &self.inflated,
                Ok(false) => return Err((415, format!("content-encoding {coding} is not supported"))),
                Err(ReadFailure::Answer(status, reason)) => return Err((status, reason)),
                Err(ReadFailure::Aborted) => return Err((400, "the body is cut short".to_owned())),
            },
        };
        request.decoded_len = body.len() as u64;
        if self.shared.keep == Keep::Everything {
            let message = ExportTraceServiceRequest::decode(body.as_slice())
                .map_err(|error| (400, format!("protobuf does not decode: {error}")))?;
            request.message = Some(message);
        }
        let ids = message::check(body).map_err(|defect| (400, defect))?;
        request.spans = ids.len() as u64;
        Ok(ids)
    }

    /// Keeps a request for metrics, which is none of the spans' requests.
    fn take_metrics(&mut self, head: &Head) -> Next {
        let coding = head.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
        let coding = match coding {
            Some((_, coding)) if is_coded(coding) => Coding::By(coding.clone()),
            _ => Coding::Plain,
        };
        let response = self.keep_metrics(&coding);
        let sent = self.shared.pause() && self.stream.write_all(&http::encode(&response, head.close)).is_ok();
        if sent && !head.close { Next::Request } else { Next::Close }
    }

    pub(super) fn keep_metrics(&mut self, coding: &Coding) -> Response {
        let body = match coding {
            Coding::By(coding) => {
                let inflated = http::inflate(coding, &self.encoded, &mut self.inflated, http::DECODED_LIMIT);
                matches!(inflated, Ok(true)).then_some(&self.inflated)
            }
            Coding::Plain => Some(&self.encoded),
        };
        match body.map(|body| ExportMetricsServiceRequest::decode(body.as_slice())) {
            Some(Ok(metrics)) => {
                self.shared.add_metrics(metrics);
                Response::ok()
            }
            _ => {
                self.shared.add_error("metrics could not be decoded".to_owned());
                Response::failure(400, "metrics could not be decoded")
            }
        }
    }

    /// The scripted answer, or 200.
    fn respond(&self, request: &Request) -> Response {
        let Some(responder) = &self.shared.responder else { return Response::ok() };
        catch_unwind(AssertUnwindSafe(|| responder(request))).unwrap_or_else(|_| {
            self.shared.add_error(format!("the scripted answer to request {} panicked", request.number));
            Response::failure(500, "the scripted answer panicked")
        })
    }

    /// The connection cannot go on: where the next request would begin is unknown.
    fn refuse(&mut self, head: Option<Head>, failure: ReadFailure) -> Next {
        let ReadFailure::Answer(status, reason) = failure else {
            self.shared.count_aborted();
            return Next::Close;
        };
        let answer = http::encode(&Response::failure(status, &reason), true);
        if let Some(head) = head {
            let request = Request { status: Some(status), ..self.request(head) };
            self.shared.add_error(format!("request {}: {reason}", request.number));
            self.shared.record(request, Vec::new(), &[]);
        } else {
            self.shared.add_error(format!("connection {}: {reason}", self.number));
        }
        if self.shared.pause() && self.stream.write_all(&answer).is_ok() {
            self.linger();
        }
        Next::Close
    }

    pub(super) fn linger(&mut self) {
        let deadline = Instant::now() + LINGER;
        let mut scratch = [0; 16 * 1024];
        let _ = self.stream.shutdown(Shutdown::Write);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return;
            }
            if !matches!(self.reader.read(&mut scratch), Ok(1..)) {
                return;
            }
        }
    }
}

/// What is wrong with a request of HTTP/1.1, as far as its head tells.
fn defect(request: &Request) -> Option<(u16, String)> {
    let path = request.path.split('?').next().unwrap_or_default();
    if request.method != "POST" || !path.ends_with("/v1/traces") {
        return Some((404, "only POST to /v1/traces is served".to_owned()));
    }
    let content_type = request.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is_right = media_type.eq_ignore_ascii_case("application/x-protobuf");
    (!is_right).then(|| (400, format!("content-type is {content_type:?} instead of application/x-protobuf")))
}

fn is_coded(coding: &str) -> bool {
    !coding.eq_ignore_ascii_case("identity")
}
