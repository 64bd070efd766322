//! OTLP over gRPC: one unary call per attempt, over HTTP/2 connections that are kept, each for one call at a time.

use std::{
    any::Any,
    time::{Duration, Instant, SystemTime},
};

mod call;
mod classify;
mod details;
mod exchange;
mod fault;
mod head;
mod outgoing;
mod session;

use self::{
    call::End,
    classify::{about, classify},
    exchange::{Ended, Question, exchange},
    fault::{Broken, CallFault},
    head::CallHead,
    outgoing::Outgoing,
    session::Session,
};
use super::{channel::Channel, reply::Reply};
use crate::{
    config::{Compression, Settings},
    export::{
        net::{
            deadline::Deadline,
            line::{Heard, Line, hear},
            pool::{Over, Speech, Talk},
        },
        outcome::{Code, Failure, Outcome, StatusCode},
        request::Signal,
    },
};

/// How long what comes over an idle connection is waited for, where something has come: TLS has tickets of its own.
const MOMENT: Duration = Duration::from_millis(10);

/// How often an idle connection is read from before it is used. Whoever has more to say says it without end.
const MOST_READS: usize = 16;

/// HTTP/2's code for a stream that was not looked at (RFC 9113, 7).
const REFUSED_STREAM: u32 = 7;

/// Servers say that they are going away while nothing else happens.
const SPEECH: Speech = Speech { begin: || Box::<Conversation>::default(), while_idle: true };

/// What a connection keeps from one call to the next.
#[derive(Debug, Default)]
struct Conversation {
    session: Session,
    outgoing: Outgoing,
    /// The headers of the call that is under way.
    block: Vec<u8>,
}

impl Talk for Conversation {
    fn is_alive(&mut self, line: &mut dyn Line) -> bool {
        for _ in 0..MOST_READS {
            if !self.session.is_usable() {
                return false;
            }
            if line.is_open() {
                return true;
            }
            let soon = Deadline::within(MOMENT);
            match hear(line, soon) {
                Heard::Something => {}
                Heard::Nothing => return line.is_tls(),
                Heard::TheEnd => return false,
            }
            let Ok(used) = self.session.take(line.buffers().input(), None) else { return false };
            line.buffers().input_consume(used);
            if exchange::reply(line, &mut self.session, &mut self.outgoing, soon).is_err() {
                return false;
            }
        }
        false
    }
}

pub(crate) struct GrpcSink {
    channel: Channel,
    head: CallHead,
    max_response_bytes: usize,
}

impl GrpcSink {
    pub(crate) fn new(settings: &Settings, signal: Signal) -> Self {
        let head = CallHead::new(settings.endpoint.url(), signal, &settings.headers);
        Self {
            channel: Channel::new(settings, SPEECH, Channel::proxy(settings), head.most_bytes()),
            head,
            max_response_bytes: settings.max_response_bytes,
        }
    }

    /// The way to the receiver.
    pub(super) fn way(&self) -> &Channel {
        &self.channel
    }

    /// Calls with `message`, which had so many bytes before compression, over a connection of this kind, and waits at
    /// most `timeout` for the answer. What was idle for a while has a share of the time: what it does not answer in that
    /// is [`Failure::Gone`].
    pub(crate) fn call(
        &self,
        message: &[u8],
        compression: Compression,
        uncompressed: usize,
        timeout: Duration,
        over: Over,
    ) -> Reply {
        let (channel, deadline) = (&self.channel, Deadline::within(timeout));
        let mut lease = match channel.connections.lease(deadline, over) {
            Ok(lease) => lease,
            Err(fault) => return channel.failed(&fault, false, timeout).into(),
        };
        let is_reused = lease.is_reused();
        let trial = lease.is_stale().then(|| channel.trial(message.len(), timeout));
        let begun = Instant::now();
        let (line, talk) = lease.parts();
        let talk: &mut dyn Any = talk;
        let Some(Conversation { session, outgoing, block }) = talk.downcast_mut() else {
            unreachable!("the connections of this sink keep conversations");
        };
        self.head.of(compression, timeout, block);
        let question = Question {
            head: block,
            message,
            is_compressed: compression != Compression::None,
            most: self.max_response_bytes,
        };
        let mut is_sent = false;
        match exchange(line, session, outgoing, question, deadline, trial.as_ref(), &mut is_sent) {
            Ok(ended) if is_untaken(&ended) => {
                drop(lease);
                channel.gone("the receiver is closing the connection and did not look at the call".to_owned()).into()
            }
            Ok(ended) => {
                let secrets = &channel.secrets;
                let outcome = classify(&ended, uncompressed, self.max_response_bytes, secrets, SystemTime::now());
                let is_worth_more = channel.connections.judge(&mut lease, about(&outcome, compression));
                if ended.is_over {
                    lease.give_back();
                }
                if matches!(outcome, Outcome::Accepted { .. }) {
                    channel.note_accepted(message.len(), begun.elapsed());
                }
                let elsewhere = is_worth_more && matches!(outcome, Outcome::Refused { .. });
                let may_have_arrived = is_sent && is_ambiguous(&outcome);
                Reply { outcome, elsewhere, may_have_arrived }
            }
            Err(CallFault::Way(fault)) => {
                drop(lease);
                let silent = channel.silent(&fault, trial.is_some(), deadline);
                let outcome = silent.unwrap_or_else(|| channel.failed(&fault, is_reused, timeout));
                Reply { outcome, elsewhere: false, may_have_arrived: is_sent }
            }
            Err(CallFault::Broken(broken)) => {
                drop(lease);
                unusable(broken).into()
            }
        }
    }
}

/// Whether the receiver has not looked at a call: it may be made again without being made twice.
fn is_untaken(ended: &Ended) -> bool {
    matches!(ended.end, End::Untaken { .. } | End::Reset { code: REFUSED_STREAM }) && ended.answer.status.is_none()
}

/// Whether a call that was made whole may have been served all the same: who says so may be on the way, as Envoy is that
/// did not wait for the receiver any longer. Whoever asks for a pause has not.
fn is_ambiguous(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed { failure: Failure::Unavailable(code), retry_after: None, .. } => matches!(
            code,
            Code::Http(502 | 504)
                | Code::Grpc(StatusCode::CANCELLED | StatusCode::DEADLINE_EXCEEDED | StatusCode::UNAVAILABLE)
        ),
        _ => false,
    }
}

fn unusable(broken: Broken) -> Outcome {
    Outcome::Failed { failure: Failure::Unusable, message: broken.words(), retry_after: None }
}
