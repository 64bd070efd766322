//! The way to one receiver, whichever protocol is spoken over it: who may use it, its connections, and how it is told
//! that there is no answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    config::{Secrets, Settings},
    export::{
        net::{
            Carried,
            circumstances::Circumstances,
            deadline::Deadline,
            dial::Route,
            exchange::is_silence,
            fault::Fault,
            permits::{NoPermit, Permit, Permits},
            pool::{Connections, Speech},
            proxy::ProxyOnTheWay,
            trial::{Trial, Trials},
        },
        outcome::{Failure, Outcome},
    },
};

/// What both protocols have in common.
pub(super) struct Channel {
    pub(super) route: Arc<Route>,
    pub(super) connections: Arc<Connections>,
    pub(super) secrets: Arc<Secrets>,
    trials: Trials,
    permits: Permits,
    connect_timeout: Duration,
    is_closed: AtomicBool,
}

/// What holds for a sink while it is used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vitals {
    /// When it last got somewhere: a connection was made, or bytes of a request were taken.
    pub(crate) progress: Option<Instant>,
    /// About a round trip to the receiver; nothing before the first connection.
    pub(crate) round_trip: Duration,
    /// What went over all connections so far.
    pub(crate) carried: Carried,
    /// Connections that are open and serve no request.
    pub(crate) idle_connections: usize,
}

impl Channel {
    /// `head` is the most that the head of a request has, in bytes.
    pub(super) fn new(settings: &Settings, speech: Speech, proxy: Option<ProxyOnTheWay>, head: usize) -> Self {
        let route = Route::new(&settings.endpoint, head, &settings.tls, proxy, settings.protocol);
        Self {
            connections: Connections::new(Arc::clone(&route), settings.connections.clone(), speech),
            route,
            secrets: Arc::new(Secrets::of(settings)),
            trials: Trials::default(),
            permits: Permits::new(settings.connections.max_connections),
            connect_timeout: settings.connections.connect_timeout,
            is_closed: AtomicBool::new(false),
        }
    }

    /// The proxy on the way, if there is one.
    pub(super) fn proxy(settings: &Settings) -> Option<ProxyOnTheWay> {
        let proxy = settings.proxy.clone()?;
        Some(ProxyOnTheWay::new(proxy, &settings.endpoint, settings.protocol))
    }

    /// Begins the trial of a connection that was idle, for a request with so many bytes and so much time.
    pub(super) fn trial(&self, bytes: usize, timeout: Duration) -> Trial<'_> {
        self.trials.begin(bytes, timeout)
    }

    /// A request with so many bytes was accepted.
    pub(super) fn note_accepted(&self, bytes: usize, took: Duration) {
        self.trials.answered(bytes, took);
    }

    /// A connection that was on trial, or not, brought a fault instead of an answer. Some if that is its own, because it
    /// was silent for its share of the time.
    pub(super) fn silent(&self, fault: &Fault, is_on_trial: bool, deadline: Deadline) -> Option<Outcome> {
        let is_silent = is_on_trial && is_silence(fault) && deadline.left().is_ok();
        if !is_silent || self.is_closed.load(Ordering::Acquire) {
            return None;
        }
        self.connections.distrust_stale();
        Some(gone("a connection that was kept open brought no answer in its share of the time".to_owned()))
    }

    /// The proxy that passes requests on, if there is one.
    pub(super) fn forwarding(&self) -> Option<&ProxyOnTheWay> {
        self.route.proxy.as_ref().filter(|proxy| proxy.forwards())
    }

    /// The outcome of an exchange without an answer, over a connection that had served before or not.
    pub(super) fn failed(&self, fault: &Fault, is_reused: bool, timeout: Duration) -> Outcome {
        let (failure, message) = if self.is_closed.load(Ordering::Acquire) {
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
            return self.broken(message, is_reused);
        }
        Outcome::Failed { failure, message, retry_after: None }
    }

    /// The connection broke: one that had served before was none any more.
    fn broken(&self, message: String, is_reused: bool) -> Outcome {
        if is_reused {
            return self.gone(message);
        }
        self.connections.distrust();
        Outcome::Failed { failure: Failure::Broken, message, retry_after: None }
    }

    /// A connection that was kept open was none any more; nor are the others.
    pub(super) fn gone(&self, message: String) -> Outcome {
        self.connections.distrust();
        gone(message)
    }
}

fn gone(message: String) -> Outcome {
    Outcome::Failed { failure: Failure::Gone, message, retry_after: None }
}

/// Beside sending.
impl Channel {
    /// Waits until `deadline` for the right to use a connection, which whoever sends must hold.
    pub(super) fn permit(&self, deadline: Instant) -> Result<Permit<'_>, Outcome> {
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

    /// From now on, whatever gets no answer for `within` is given up: connections that may be dead have less time.
    pub(super) fn hurry(&self, within: Duration) {
        self.trials.hurry(within);
    }

    pub(super) fn vitals(&self) -> Vitals {
        let traffic = &self.route.sockets.traffic;
        Vitals {
            progress: traffic.last(),
            round_trip: traffic.round_trip(),
            carried: traffic.carried(),
            idle_connections: self.connections.idle(),
        }
    }

    /// The remarks about connections since the last call.
    pub(super) fn take_remarks(&self) -> Vec<String> {
        self.route.take_remarks()
    }

    /// A host that the system has not resolved so far, while it is still being asked.
    pub(super) fn unresolved(&self) -> Option<String> {
        self.route.unanswered()
    }

    /// When idle connections should be looked after, though nothing else happens.
    pub(super) fn next_upkeep(&self) -> Option<Instant> {
        self.connections.next_upkeep()
    }

    /// Looks after idle connections; true if the receiver turns out to have closed one.
    pub(super) fn look_after(&self, now: Instant) -> bool {
        self.connections.look_after(now)
    }

    /// Opens, on a thread of its own, the connections that are to be there before they are needed. Calls `done` with the
    /// result.
    pub(super) fn open_ahead(&self, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        let (route, secrets, timeout) = (Arc::clone(&self.route), Arc::clone(&self.secrets), self.connect_timeout);
        self.connections.open_ahead(move |opened| {
            let circumstances = Circumstances { route: &route, connecting: timeout, timeout, secrets: &secrets };
            done(opened.map_err(|fault| fault.told(&circumstances).1));
        });
    }

    /// Changes how many connections may be in use at once; those that are too many are not cut.
    pub(super) fn limit(&self, connections: usize) {
        self.permits.set_most(connections);
        self.connections.set_most(connections);
    }

    /// Cuts every exchange that is under way and refuses new ones.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.permits.close();
        self.connections.close();
        self.route.sockets.cut();
    }
}

/// What is said of an answer with more bytes than are read.
pub(super) fn too_many_bytes(most: usize) -> String {
    format!("the answer is larger than {most} bytes")
}
