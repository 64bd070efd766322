//! The service itself: a thread for each connection, a server span for each request, a client span for each call.

use std::{
    io::{self, BufReader, Read as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use http::Uri;
use otlp::{SpanKind, Status, Tracer, propagation::Context};
use serde_json::Value;

use crate::http1::{Headers, PATIENCE, Refusal, Request, post, respond};

/// What is left of a request that was refused is read to the end, so that the answer is not lost with it.
const REST_LIMIT: u64 = 1024 * 1024;

/// How long to wait where no connection can be taken, as when all file descriptors are in use.
const PAUSE: Duration = Duration::from_millis(10);

/// One call that a request asks for.
struct Call {
    url: Uri,
    /// JSON.
    body: String,
}

pub(crate) struct Service {
    listener: TcpListener,
    tracer: Tracer,
}

impl Service {
    /// Listens on this machine only: whoever can reach the service can have it call others.
    ///
    /// # Errors
    /// If the port is taken or may not be had. Port 0 is any that is free.
    pub(crate) fn bind(port: u16, tracer: Tracer) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(("127.0.0.1", port))?, tracer })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process ends.
    pub(crate) fn run(self) -> ! {
        loop {
            let tracer = self.tracer.clone();
            let connection = self.listener.accept();
            let served = connection.and_then(|(stream, _)| {
                thread::Builder::new().name("w3c-connection".to_owned()).spawn(move || serve(&stream, &tracer))
            });
            if served.is_err() {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// One connection: request after request until the other side has enough. What breaks on the way is its own affair.
fn serve(stream: &TcpStream, tracer: &Tracer) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        match Request::read(&mut reader) {
            Ok(None) => return,
            Ok(Some(request)) => {
                let close = request.values("connection").any(|value| value.eq_ignore_ascii_case("close"));
                let answered = match handle(&request, tracer) {
                    Ok(body) => respond(&mut writer, 200, &body, close),
                    Err(refusal) => refuse(writer, &refusal, close),
                };
                if close || answered.is_err() {
                    return;
                }
            }
            Err(refusal) => {
                let _ = refuse(writer, &refusal, true);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = io::copy(&mut reader.by_ref().take(REST_LIMIT), &mut io::sink());
                return;
            }
        }
    }
}

fn refuse(mut stream: &TcpStream, refusal: &Refusal, close: bool) -> io::Result<()> {
    respond(&mut stream, refusal.status, &Value::from(refusal.reason.as_str()).to_string(), close)
}

/// Makes the calls a request asks for, each in a span within the trace that the request came with. The answer lists
/// their statuses.
fn handle(request: &Request, tracer: &Tracer) -> Result<String, Refusal> {
    let _caller = Context::extract(&request.headers).enter();
    let route = request.path.split('?').next().unwrap_or_default();
    let name = format!("{} {route}", request.method);
    let mut span = tracer.span(&name).kind(SpanKind::Server).start();
    span.set_attribute("http.request.method", request.method.as_str()).set_attribute("url.path", route);
    let _entered = span.enter();
    let answer = calls(request).and_then(|calls| {
        let statuses: Vec<_> = calls.iter().map(|call| make(call, tracer)).collect::<Result<_, _>>()?;
        Ok(Value::from(statuses).to_string())
    });
    let status = answer.as_ref().map_or_else(|refusal| refusal.status, |_| 200);
    span.set_attribute("http.response.status_code", status);
    if status >= 500 {
        span.set_status(Status::error(""));
    }
    answer
}

/// Reads the calls out of the body: an array of objects with `url` and `arguments`.
fn calls(request: &Request) -> Result<Vec<Call>, Refusal> {
    if request.method != "POST" {
        return Err(Refusal::new(405, "only POST is served"));
    }
    let malformed = |what: &str| Refusal::new(400, what);
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| malformed(&error.to_string()))?;
    let list = body.as_array().ok_or_else(|| malformed("the body must be an array"))?;
    let call = |element: &Value| {
        let url: Option<Uri> = element.get("url").and_then(Value::as_str).and_then(|url| url.parse().ok());
        let url = url.filter(|url| url.scheme_str() == Some("http") && url.host().is_some());
        let url = url.ok_or_else(|| malformed("each element needs a url that begins with http://"))?;
        let arguments = element.get("arguments").ok_or_else(|| malformed("each element needs arguments"))?;
        Ok(Call { url, body: arguments.to_string() })
    };
    list.iter().map(call).collect()
}

/// One call in a span of its own, which it carries along.
fn make(call: &Call, tracer: &Tracer) -> Result<u16, Refusal> {
    let mut span = tracer.span("POST").kind(SpanKind::Client).attribute("http.request.method", "POST").start();
    let mut headers = Headers::new();
    otlp::propagation::inject(&span.context(), &mut headers);
    match post(&call.url, &headers, &call.body) {
        Ok(status) => {
            span.set_attribute("http.response.status_code", status);
            Ok(status)
        }
        Err(error) => {
            span.record_error(&error);
            span.set_status(Status::error(""));
            Err(Refusal::new(502, format!("a call failed: {error}")))
        }
    }
}
