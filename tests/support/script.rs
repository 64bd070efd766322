//! What a fault server does to a request: how much of it is read, and what follows.

use std::time::Duration;

/// One entry of a script, for one request or for a connection that brings none.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(super) read: Extent,
    pub(super) then: Then,
}

/// How much of a request is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// Nothing. Of a second request on a connection its first bytes have been read by then.
    Nothing,
    /// The request line and the headers.
    Head,
    /// Also so many bytes of the body.
    Body(usize),
    /// All of it.
    Whole,
}

#[derive(Debug, Clone)]
pub(super) enum Then {
    /// The connection stays open, and nothing more happens on it.
    Stall,
    /// The connection is reset.
    Reset,
    /// The connection is closed.
    Close,
    Answer(Answer),
}

/// Reads so much of a request, then nothing happens any more.
pub(crate) fn stall_after(read: Extent) -> Act {
    Act { read, then: Then::Stall }
}

/// Reads so much of a request, then resets the connection.
pub(crate) fn reset_after(read: Extent) -> Act {
    Act { read, then: Then::Reset }
}

/// Reads so much of a request, then closes the connection.
pub(crate) fn close_after(read: Extent) -> Act {
    Act { read, then: Then::Close }
}

/// Reads the request and answers it.
pub(crate) fn answer(answer: Answer) -> Act {
    Act { read: Extent::Whole, then: Then::Answer(answer) }
}

/// Answers when so much of the request has been read.
pub(crate) fn answer_after(read: Extent, answer: Answer) -> Act {
    Act { read, then: Then::Answer(answer) }
}

/// Reads the request and answers that all is well.
pub(crate) fn accept() -> Act {
    answer(Answer::status(200))
}

/// An answer, by the book unless it is told otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(super) status: u16,
    head: String,
    body: Vec<u8>,
    framing: Framing,
    cut: usize,
    pub(super) endless: Vec<u8>,
    pub(super) pace: Option<Duration>,
    pub(super) held_until: usize,
    pub(super) after: After,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(Option<u64>),
    Chunked,
    /// The head and the body are sent as they are.
    None,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum After {
    KeepAlive,
    Close,
    Reset,
    Stall,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            head: format!("HTTP/1.1 {status} Scripted\r\n"),
            body: Vec::new(),
            framing: Framing::Length(None),
            cut: usize::MAX,
            endless: Vec::new(),
            pace: None,
            held_until: 0,
            after: After::KeepAlive,
        }
    }

    /// Exactly these bytes, which count as no status.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { status: 0, head: String::new(), body: bytes.into(), framing: Framing::None, ..Self::status(0) }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The body comes in chunks of seven bytes.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Announces a body of another length than it has.
    pub(crate) fn announcing(mut self, bytes: u64) -> Self {
        self.framing = Framing::Length(Some(bytes));
        self
    }

    /// Only the first so many bytes of the answer are sent.
    pub(crate) fn cut_to(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    /// The answer never ends: these bytes follow again and again. Where `in_head` they follow the headers sent so
    /// far, and the empty line never comes.
    pub(crate) fn endless(mut self, bytes: &[u8], in_head: bool) -> Self {
        // Many at once, or sending them would be what takes the time.
        self.endless = bytes.repeat((64 * 1024 / bytes.len()).max(1));
        if in_head {
            self.framing = Framing::None;
        }
        self
    }

    /// One byte at a time, so far apart.
    pub(crate) fn trickled(mut self, pace: Duration) -> Self {
        self.pace = Some(pace);
        self
    }

    /// Held back until the server has read so many requests in all.
    pub(crate) fn once_requests(mut self, requests: usize) -> Self {
        self.held_until = requests;
        self
    }

    /// What becomes of the connection afterwards; it is kept alive otherwise.
    pub(crate) fn then(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    /// Whether its receiver learns the status, if it waits.
    pub(super) fn is_decided(&self) -> bool {
        let has_whole_head = self.bytes().windows(4).any(|window| window == b"\r\n\r\n");
        self.status > 0 && has_whole_head && !matches!(self.after, After::Reset)
    }

    /// The value of a header that was given.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// The body alone.
    pub(super) fn message(&self) -> &[u8] {
        &self.body
    }

    /// How many bytes of it are sent at most.
    pub(super) fn cut(&self) -> usize {
        self.cut
    }

    /// What is sent, but for the endless part.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        match self.framing {
            Framing::Length(announced) => {
                let length = announced.unwrap_or(self.body.len() as u64);
                bytes.extend(format!("content-length: {length}\r\n\r\n").into_bytes());
                bytes.extend(&self.body);
            }
            Framing::Chunked => {
                bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(7) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                if self.endless.is_empty() {
                    bytes.extend(b"0\r\n\r\n");
                }
            }
            Framing::None => bytes.extend(&self.body),
        }
        bytes.truncate(self.cut);
        bytes
    }
}
