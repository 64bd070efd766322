//! The receiver's process, and the two that are none: a port that refuses, and one that never answers.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{Result, build::Build};

/// A receiver that takes everything.
pub(crate) struct Receiver {
    endpoint: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What has come since the last question.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    pub(crate) requests: u64,
    /// Of the bodies, as they were sent.
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    /// The children, and their attributes.
    pub(crate) hot: u64,
    pub(crate) attributes: u64,
}

impl Receiver {
    pub(crate) fn start(build: &Build) -> Result<Self> {
        let mut child = Command::new(build.program("receiver")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = child.stdin.take().ok_or("no stdin")?;
        let mut answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut port = String::new();
        answers.read_line(&mut port)?;
        Ok(Self { endpoint: format!("http://127.0.0.1:{}", port.trim()), child, questions, answers })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What has come since the last question.
    pub(crate) fn take(&mut self) -> Result<Received> {
        writeln!(self.questions)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers = line.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<u64>, _>>()?;
        let [requests, bytes, spans, hot, attributes] = numbers[..] else { return Err("the receiver failed".into()) };
        Ok(Received { requests, bytes, spans, hot, attributes })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An endpoint that refuses connections: nobody listens there.
pub(crate) fn refused() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(format!("http://{}", listener.local_addr()?))
}

/// An endpoint that takes connections and never answers, as long as the listener lives: the kernel accepts them.
pub(crate) fn silent() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    Ok((listener, endpoint))
}
