//! One call over a connection, within a deadline: sends what there is room for and reads what comes, until the answer is
//! whole.

use super::{
    call::{Answer, Call, End, PREFIX_BYTES},
    fault::CallFault,
    outgoing::Outgoing,
    session::Session,
};
use crate::{
    export::net::{
        deadline::Deadline,
        fault::Fault,
        line::{Line, is_told},
        trial::Trial,
    },
    http2::frame::{FrameHead, HEAD_BYTES, flag, kind},
};

/// So much of a body is put out before it is looked whether an answer has come.
const STRIDE: usize = 128 * 1024;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// A block of headers.
    pub(super) head: &'a [u8],
    pub(super) message: &'a [u8],
    pub(super) is_compressed: bool,
    /// Bytes of an answer that are kept.
    pub(super) most: usize,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) answer: Answer,
    pub(super) end: End,
    /// The connection serves another call.
    pub(super) is_over: bool,
}

/// Makes a call. What is on trial has its share of the time until something comes. `is_sent` becomes true once the whole
/// message was sent.
pub(super) fn exchange(
    line: &mut dyn Line,
    session: &mut Session,
    outgoing: &mut Outgoing,
    question: Question<'_>,
    deadline: Deadline,
    trial: Option<&Trial<'_>>,
    is_sent: &mut bool,
) -> Result<Ended, CallFault> {
    outgoing.clear();
    outgoing.write(|out| session.greet(out));
    let mut trial = trial;
    while !session.takes_calls() {
        say(line, session, outgoing, &[], deadline)?;
        listen(line, session, None, deadline, &mut trial)?;
    }
    answer(session, outgoing);
    let mut call = outgoing.write(|out| session.begin(question.head, question.most, out));
    let mut message = Message::new(question);
    loop {
        answer(session, outgoing);
        message.put(session, &mut call, outgoing);
        let until = trial.map_or(deadline, |trial| trial.deadline(deadline));
        let is_told = say(line, session, outgoing, question.message, until)?;
        *is_sent = message.is_put() && !is_told;
        // Between the parts of a large message something may have come, such as a refusal.
        if is_told || !message.may_go_on(session, &call) || !line.is_open() {
            listen(line, session, Some(&mut call), deadline, &mut trial)?;
        }
        let Some(end) = call.end else { continue };
        let is_whole = end == End::Whole && *is_sent;
        // What was not answered yet, as the first settings: the other side waits for it.
        let is_answered = is_whole && matches!(say(line, session, outgoing, &[], deadline), Ok(false));
        return Ok(Ended { answer: call.answer, end, is_over: is_answered && session.is_usable() });
    }
}

/// Answers what has come while no call is under way.
pub(super) fn reply(
    line: &mut dyn Line,
    session: &mut Session,
    outgoing: &mut Outgoing,
    deadline: Deadline,
) -> Result<(), CallFault> {
    if !session.is_greeted() {
        return Ok(());
    }
    outgoing.clear();
    // Later, it would stand behind the beginning of a call.
    if say(line, session, outgoing, &[], deadline)? { Err(Fault::Closed.into()) } else { Ok(()) }
}

/// Has the answers to what came go out next. They stand in front of frames that are made afterwards: those follow the other
/// side's settings, which hold for it only once it reads that they are acknowledged (RFC 9113, 6.5.3).
fn answer(session: &mut Session, outgoing: &mut Outgoing) {
    let replies = session.replies();
    if !replies.is_empty() {
        outgoing.write(|out| out.append(replies));
    }
}

/// Sends all that is on its way out, answers to what came behind it. True if the receiver takes no more of it and something
/// has come.
fn say(
    line: &mut dyn Line,
    session: &mut Session,
    outgoing: &mut Outgoing,
    body: &[u8],
    deadline: Deadline,
) -> Result<bool, CallFault> {
    answer(session, outgoing);
    while !outgoing.is_empty() {
        deadline.left()?;
        match outgoing.parts(body, |parts| line.send(parts, deadline.timeout())) {
            Ok(taken) => outgoing.advance(taken),
            Err(error) if is_told(&error) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    match line.flush(deadline.timeout()) {
        Ok(()) => Ok(false),
        Err(error) if is_told(&error) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Waits for what comes next, and takes it.
fn listen(
    line: &mut dyn Line,
    session: &mut Session,
    call: Option<&mut Call>,
    deadline: Deadline,
    trial: &mut Option<&Trial<'_>>,
) -> Result<(), CallFault> {
    match trial.take() {
        // What has brought something is no worse than a new connection.
        Some(trial) if line.buffers().input().is_empty() => trial.wait(line, deadline)?,
        _ => {
            if !line.await_input(deadline.timeout())? {
                return Err(Fault::Closed.into());
            }
        }
    }
    // Without end it would go on for as long as something comes.
    deadline.left()?;
    let used = session.take(line.buffers().input(), call)?;
    line.buffers().input_consume(used);
    Ok(())
}

/// A message on its way into frames.
struct Message {
    prefix: [u8; PREFIX_BYTES],
    /// How many bytes of prefix and message were put into frames, and how many there are.
    put: usize,
    bytes: usize,
}

impl Message {
    fn new(question: Question<'_>) -> Self {
        let [a, b, c, d] = (question.message.len() as u32).to_be_bytes();
        let prefix = [u8::from(question.is_compressed), a, b, c, d];
        Self { prefix, put: 0, bytes: PREFIX_BYTES + question.message.len() }
    }

    /// Whether all of it is in frames.
    fn is_put(&self) -> bool {
        self.put == self.bytes
    }

    /// Whether there is room for more of it.
    fn may_go_on(&self, session: &Session, call: &Call) -> bool {
        session.room(call, self.bytes - self.put) > 0
    }

    /// Puts as much of it into frames as there is room for, up to a bound.
    fn put(&mut self, session: &mut Session, call: &mut Call, outgoing: &mut Outgoing) {
        let begun = self.put;
        while self.put - begun < STRIDE {
            let length = session.room(call, self.bytes - self.put);
            if length == 0 {
                return;
            }
            let (from, to) = (self.put, self.put + length);
            let flags = if to == self.bytes { flag::END_STREAM } else { 0 };
            let head: [u8; HEAD_BYTES] = FrameHead::new(kind::DATA, flags, call.stream, length).bytes();
            let prefix = &self.prefix[from.min(PREFIX_BYTES)..to.min(PREFIX_BYTES)];
            outgoing.write(|out| {
                out.extend_from_slice(&head);
                out.extend_from_slice(prefix);
            });
            outgoing.body(from.max(PREFIX_BYTES) - PREFIX_BYTES..to.max(PREFIX_BYTES) - PREFIX_BYTES);
            session.sent(call, length);
            self.put = to;
        }
    }
}
