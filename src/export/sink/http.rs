//! OTLP over HTTP/1.1: one blocking POST per attempt, over connections that are kept alive.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::classify::classify;
use crate::{
    config::{Compression, ConnectionSettings, Endpoint, ReuseStrategy, Secrets, Settings},
    export::{
        net::{
            Carried,
            circumstances::Circumstances,
            deadline::Deadline,
            dial::Route,
            exchange::{Answer, exchange, is_silence},
            fault::{Fault, ProxyFault},
            permits::{NoPermit, Permit, Permits},
            pool::{Connections, Over},
            proxy::ProxyOnTheWay,
            request_head::RequestHead,
            response::{Content, Head},
            trial::Trials,
        },
        outcome::{Failure, Outcome},
    },
};

/// What some servers say when they close a connection that was idle for too long. It answers no request.
const REQUEST_TIMEOUT: u16 = 408;

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    /// It is a refusal that may be one node's: the same request is worth making once over another connection.
    pub(crate) elsewhere: bool,
}

impl From<Outcome> for Reply {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, elsewhere: false }
    }
}

pub(crate) struct HttpSink {
    head: RequestHead,
    connect_timeout: Duration,
    max_response_bytes: usize,
    route: Arc<Route>,
    connections: Arc<Connections>,
    permits: Permits,
    trials: Trials,
    secrets: Arc<Secrets>,
    closed: AtomicBool,
    suspicion: Suspicion,
}

impl HttpSink {
    pub(crate) fn new(settings: &Settings) -> Self {
        let url = settings.endpoint.url();
        let proxy = settings.proxy.clone().map(|proxy| ProxyOnTheWay::new(proxy, &settings.endpoint));
        let secrets = Secrets::of(settings);
        let ConnectionSettings { reuse, connect_timeout, max_connections, .. } = settings.connections;
        let head = RequestHead::new(url, &settings.headers, reuse != ReuseStrategy::Never, proxy.as_ref());
        let route = Route::new(&settings.endpoint, head.most_bytes(), &settings.tls, proxy);
        Self {
            connections: Connections::new(Arc::clone(&route), settings.connections.clone()),
            head,
            route,
            permits: Permits::new(max_connections),
            trials: Trials::default(),
            connect_timeout,
            max_response_bytes: settings.max_response_bytes,
            secrets: Arc::new(secrets),
            closed: AtomicBool::new(false),
            suspicion: Suspicion::new(&settings.endpoint),
        }
    }

    /// Waits until `deadline` for the right to use a connection, which whoever sends must hold.
    pub(crate) fn permit(&self, deadline: Instant) -> Result<Permit<'_>, Outcome> {
        self.permits.acquire(deadline).map_err(|why| {
            let (failure, message) = match why {
                NoPermit::Closed => (Failure::Shutdown, "the client was shut down".to_owned()),
                NoPermit::Timeout => {
                    (Failure::Timeout, format!("all connections, {} of them, were in use", self.permits.most()))
                }
            };
            Outcome::Failed { failure, message, retry_after: None }
        })
    }

    /// Changes how many connections may be in use at once; those that are too many are not cut.
    pub(crate) fn set_max_connections(&self, connections: usize) {
        self.permits.set_most(connections);
        self.connections.set_most(connections);
    }

    /// Posts `body` over a connection of this kind and waits at most `timeout` for the answer. What was idle for a while
    /// has a share of the time: what it does not answer in that is [`Failure::Gone`].
    pub(crate) fn post(&self, body: &[u8], compression: Compression, timeout: Duration, over: Over) -> Reply {
        let deadline = Deadline::within(timeout);
        let mut lease = match self.connections.lease(deadline, over) {
            Ok(lease) => lease,
            Err(fault) => return self.failed(&fault, false, timeout).into(),
        };
        let is_reused = lease.is_reused();
        let trial = lease.is_stale().then(|| self.trials.begin(body.len(), timeout));
        let head = self.head.of(body.len(), compression);
        let begun = Instant::now();
        match exchange(lease.transport(), [&head, body], self.max_response_bytes, deadline, trial.as_ref()) {
            Ok(answer) => {
                let is_goodbye = answer.head.status == REQUEST_TIMEOUT && is_reused;
                // RTY-09: an answer beyond the limit is final, whatever it would have said.
                let is_worth_more = !is_goodbye && self.connections.judge(&mut lease, answer.head.status);
                let is_readable = !answer.is_too_large;
                if answer.is_over {
                    lease.give_back();
                }
                let outcome = self.answered(answer, is_reused, timeout);
                if matches!(outcome, Outcome::Accepted { .. }) {
                    self.trials.answered(body.len(), begun.elapsed());
                }
                // What a proxy says for itself is no refusal of a node's.
                let elsewhere = is_worth_more && is_readable && matches!(outcome, Outcome::Refused { .. });
                Reply { outcome, elsewhere }
            }
            Err(fault) => {
                drop(lease);
                let is_silent = is_silence(&fault) && deadline.left().is_ok();
                if trial.is_some() && is_silent && !self.closed.load(Ordering::Acquire) {
                    self.connections.distrust_stale();
                    let message = "a connection that was kept open brought no answer in its share of the time";
                    return gone(message.to_owned()).into();
                }
                self.failed(&fault, is_reused, timeout).into()
            }
        }
    }

    /// From now on everything is given up when so long nothing happens: a connection that was idle has less time.
    pub(crate) fn hurry(&self, within: Duration) {
        self.trials.hurry(within);
    }

    fn answered(&self, answer: Answer, is_reused: bool, timeout: Duration) -> Outcome {
        let Answer { head, body, is_too_large, .. } = answer;
        if is_too_large {
            // RTY-09: an answer beyond the limit is final, whatever it would have said.
            let message = format!("the answer is larger than {} bytes", self.max_response_bytes);
            return Outcome::Refused { status: head.status, message };
        }
        if head.status == REQUEST_TIMEOUT && is_reused {
            return self.gone("a connection that was kept open had been given up by the receiver".to_owned());
        }
        if self.forwarding().is_some() && ProxyFault::is_told_by(&head) {
            return self.failed(&Fault::Proxy(ProxyFault::answered(&head)), is_reused, timeout);
        }
        self.suspicion.look_at(&head);
        let outcome = classify(head.status, head.retry_after.as_deref(), &body, &self.secrets, SystemTime::now());
        self.by_way_of_proxy(outcome)
    }

    /// The proxy that passes requests on, if there is one.
    fn forwarding(&self) -> Option<&ProxyOnTheWay> {
        self.route.proxy.as_ref().filter(|proxy| proxy.forwards())
    }

    /// Tells of a failure that it may be one of the proxy that passed the request on, or did not.
    fn by_way_of_proxy(&self, mut outcome: Outcome) -> Outcome {
        if let Some(proxy) = self.forwarding()
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

    fn failed(&self, fault: &Fault, is_reused: bool, timeout: Duration) -> Outcome {
        let (failure, message) = if self.closed.load(Ordering::Acquire) {
            (Failure::Shutdown, "the client was shut down".to_owned())
        } else {
            fault.told(&Circumstances {
                route: &self.route,
                connecting: self.connect_timeout,
                timeout,
                secrets: &self.secrets,
            })
        };
        let is_told = matches!(fault, Fault::Proxy(_)) || matches!(failure, Failure::Barred | Failure::Shutdown);
        let message = match self.forwarding().filter(|_| !is_told) {
            Some(proxy) => format!("{message} (by way of the proxy {})", proxy.proxy),
            None => message,
        };
        if failure == Failure::Broken {
            if is_reused {
                return self.gone(message);
            }
            self.connections.distrust();
        }
        Outcome::Failed { failure, message, retry_after: None }
    }

    /// A connection that was kept open was none any more; nor are the others.
    fn gone(&self, message: String) -> Outcome {
        self.connections.distrust();
        gone(message)
    }

    /// When a connection last got somewhere: it was made, or bytes of a request were taken.
    pub(crate) fn progress(&self) -> Option<Instant> {
        self.route.sockets.traffic.last()
    }

    /// About a round trip to the receiver; nothing before the first connection.
    pub(crate) fn round_trip(&self) -> Duration {
        self.route.sockets.traffic.round_trip()
    }

    /// What went over all connections so far.
    pub(crate) fn carried(&self) -> Carried {
        self.route.sockets.traffic.carried()
    }

    /// What there is to say about connections since the last time.
    pub(crate) fn take_remarks(&self) -> Vec<String> {
        let mut remarks = self.route.take_remarks();
        remarks.extend(self.suspicion.take());
        remarks
    }

    /// A host that the system has not found an address of so far, and is still asked for.
    pub(crate) fn unresolved(&self) -> Option<String> {
        self.route.unanswered()
    }

    /// Connections that are open and serve no request.
    pub(crate) fn idle_connections(&self) -> usize {
        self.connections.idle()
    }

    /// When idle connections should be looked after, though nothing else happens.
    pub(crate) fn next_upkeep(&self) -> Option<Instant> {
        self.connections.next_upkeep()
    }

    /// Looks after idle connections; true if the receiver turns out to have closed one.
    pub(crate) fn look_after(&self, now: Instant) -> bool {
        self.connections.look_after(now)
    }

    /// Opens, on a thread of its own, the connections that are to be there before they are needed; `done` is told how
    /// it went.
    pub(crate) fn open_ahead(&self, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        let (route, secrets, timeout) = (Arc::clone(&self.route), Arc::clone(&self.secrets), self.connect_timeout);
        self.connections.open_ahead(move |opened| {
            let circumstances = Circumstances { route: &route, connecting: timeout, timeout, secrets: &secrets };
            done(opened.map_err(|fault| fault.told(&circumstances).1));
        });
    }

    /// Cuts every exchange that is under way and refuses new ones.
    pub(crate) fn shutdown(&self) {
        self.closed.store(true, Ordering::Release);
        self.permits.close();
        self.connections.close();
        self.route.sockets.cut();
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

fn gone(message: String) -> Outcome {
    Outcome::Failed { failure: Failure::Gone, message, retry_after: None }
}
