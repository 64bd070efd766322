//! OTLP over HTTP/1.1: one blocking POST per attempt, over connections that are kept alive.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{
    channel::{Channel, too_many_bytes},
    classify::classify,
    reply::Reply,
};
use crate::{
    config::{Compression, Endpoint, ReuseStrategy, Settings},
    export::{
        net::{
            deadline::Deadline,
            exchange::{Answer, exchange},
            fault::{Fault, ProxyFault},
            line::{Heard, Line, hear},
            pool::{Over, Speech, Talk},
            request_head::RequestHead,
            response::{Content, Head},
            standing::About,
        },
        outcome::{Code, Outcome},
    },
};

/// What some servers say when they close a connection that was idle for too long. It answers no request.
const REQUEST_TIMEOUT: u16 = 408;

/// How long a TLS connection on which something came is given to show that it was only a session ticket.
const TICKET: Duration = Duration::from_millis(10);

const SPEECH: Speech = Speech { begin: || Box::new(Plain), while_idle: false };

/// Nothing of a connection outlasts a request and its answer.
struct Plain;

impl Talk for Plain {
    fn is_alive(&mut self, line: &mut dyn Line) -> bool {
        if line.is_open() {
            return true;
        }
        // A TLS server may send tickets for later sessions at any time; they are read before the answer.
        line.is_tls() && hear(line, Deadline::within(TICKET)) == Heard::Nothing
    }
}

pub(crate) struct HttpSink {
    channel: Channel,
    head: RequestHead,
    max_response_bytes: usize,
    suspicion: Suspicion,
}

impl HttpSink {
    pub(crate) fn new(settings: &Settings) -> Self {
        let proxy = Channel::proxy(settings);
        let is_kept = settings.connections.reuse != ReuseStrategy::Never;
        let head = RequestHead::new(settings.endpoint.url(), &settings.headers, is_kept, proxy.as_ref());
        Self {
            channel: Channel::new(settings, SPEECH, proxy, head.most_bytes()),
            head,
            max_response_bytes: settings.max_response_bytes,
            suspicion: Suspicion::new(&settings.endpoint),
        }
    }

    /// The way to the receiver.
    pub(super) fn way(&self) -> &Channel {
        &self.channel
    }

    /// What there is to say about answers since the last time.
    pub(super) fn take_remark(&self) -> Option<String> {
        self.suspicion.take()
    }

    /// Posts `body` over a connection of this kind and waits at most `timeout` for the answer. What was idle for a while
    /// has a share of the time: what it does not answer in that is [`Failure::Gone`](crate::export::outcome::Failure).
    pub(crate) fn post(&self, body: &[u8], compression: Compression, timeout: Duration, over: Over) -> Reply {
        let (channel, deadline) = (&self.channel, Deadline::within(timeout));
        let mut lease = match channel.connections.lease(deadline, over) {
            Ok(lease) => lease,
            Err(fault) => return channel.failed(&fault, false, timeout).into(),
        };
        let is_reused = lease.is_reused();
        let trial = lease.is_stale().then(|| channel.trial(body.len(), timeout));
        let head = self.head.of(body.len(), compression);
        let begun = Instant::now();
        let (line, _) = lease.parts();
        let mut is_sent = false;
        let most = self.max_response_bytes;
        match exchange(line, [&head, body], most, deadline, trial.as_ref(), &mut is_sent) {
            Ok(answer) => {
                let status = answer.head.status;
                let is_goodbye = status == REQUEST_TIMEOUT && is_reused;
                // RTY-09: an answer beyond the limit is final, whatever it would have said.
                let is_worth_more = !is_goodbye && channel.connections.judge(&mut lease, About::of(status));
                let is_readable = !answer.is_too_large;
                if answer.is_over {
                    lease.give_back();
                }
                let outcome = self.answered(answer, is_reused, timeout);
                if matches!(outcome, Outcome::Accepted { .. }) {
                    channel.note_accepted(body.len(), begun.elapsed());
                }
                // What a proxy says for itself is no refusal of a node's.
                let elsewhere = is_worth_more && is_readable && matches!(outcome, Outcome::Refused { .. });
                // A gateway says so whether or not the receiver has the request.
                let may_have_arrived = matches!(status, 502 | 504) && is_sent;
                Reply { outcome, elsewhere, may_have_arrived }
            }
            Err(fault) => {
                drop(lease);
                let silent = channel.silent(&fault, trial.is_some(), deadline);
                let outcome = silent.unwrap_or_else(|| channel.failed(&fault, is_reused, timeout));
                Reply { outcome, elsewhere: false, may_have_arrived: is_sent }
            }
        }
    }

    fn answered(&self, answer: Answer, is_reused: bool, timeout: Duration) -> Outcome {
        let Answer { head, body, is_too_large, .. } = answer;
        if is_too_large {
            // RTY-09: an answer beyond the limit is final, whatever it would have said.
            let message = too_many_bytes(self.max_response_bytes);
            return Outcome::Refused { code: Code::Http(head.status), message };
        }
        if head.status == REQUEST_TIMEOUT && is_reused {
            let message = "a connection that was kept open had been given up by the receiver";
            return self.channel.gone(message.to_owned());
        }
        if self.channel.forwarding().is_some() && ProxyFault::is_told_by(&head) {
            return self.channel.failed(&Fault::Proxy(ProxyFault::answered(&head)), is_reused, timeout);
        }
        self.suspicion.look_at(&head);
        let (retry_after, secrets) = (head.retry_after.as_deref(), &self.channel.secrets);
        self.by_way_of_proxy(classify(head.status, retry_after, &body, secrets, SystemTime::now()))
    }

    /// Tells of a failure that it may be one of the proxy that passed the request on, or did not.
    fn by_way_of_proxy(&self, mut outcome: Outcome) -> Outcome {
        if let Some(proxy) = self.channel.forwarding()
            && let Outcome::Refused { message, .. }
            | Outcome::TooLarge { message, .. }
            | Outcome::Failed { message, .. } = &mut outcome
        {
            // Nothing in the first line of a page helps.
            if message.starts_with('<') {
                message.clear();
            }
            let joint = if message.is_empty() { "" } else { "; " };
            message.push_str(&format!("{joint}it came by way of the proxy {}, which may be who says so", proxy.proxy));
        }
        outcome
    }
}

/// Whether what answers is no receiver of OTLP, although it says that all is well. That is told once.
#[derive(Default)]
struct Suspicion {
    endpoint: String,
    /// Seen, and told.
    is_raised: AtomicBool,
    is_told: AtomicBool,
}

impl Suspicion {
    fn new(endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.to_string(), ..Self::default() }
    }

    fn look_at(&self, head: &Head) {
        if head.content == Content::Page && (200..300).contains(&head.status) {
            self.is_raised.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Option<String> {
        let is_new = self.is_raised.load(Ordering::Relaxed) && !self.is_told.swap(true, Ordering::Relaxed);
        is_new.then(|| {
            format!(
                "{} takes spans and answers with a page (text/html), as no receiver of OTLP does: is it a login page, or another web \
                 server? The spans count as delivered",
                self.endpoint
            )
        })
    }
}
