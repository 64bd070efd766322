//! The connections that are open: which of them a request takes, and when one has had its day.
//!
//! ureq keeps none: it asks for a connection for each request, and gets one that is idle here, or a new one. When the
//! exchange is over it asks whether the connection is still open, with the intent to use it again, and lets go of it;
//! one that it was told is open comes back here.

use std::{
    cell::Cell,
    fmt, mem,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Error, Timeout,
    unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport},
};

use super::route::Route;
use crate::{
    config::{ConnectionSettings, ReuseStrategy},
    sync::{Runs, locks::Mutex, spawn},
};

/// How long a TLS connection on which something came is given to show that it was nothing but a session ticket.
const TICKET: Duration = Duration::from_millis(10);

thread_local! {
    /// Whether the last connection that this thread got had served before, or could have.
    static REUSED: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct Connections {
    route: Arc<Route>,
    settings: ConnectionSettings,
    pool: Mutex<Pool>,
}

struct Pool {
    /// In the order in which they were used.
    idle: Vec<Kept>,
    /// In use, or being opened for a request.
    leased: usize,
    /// The most of both.
    most: usize,
    /// A thread is opening connections ahead.
    is_warming: bool,
    is_closed: bool,
}

/// An open connection.
struct Kept {
    transport: Box<dyn Transport>,
    opened: Instant,
    /// When it was used last, or opened.
    used: Instant,
    /// When it was last known to be open.
    checked: Instant,
}

impl Connections {
    pub(super) fn new(route: Arc<Route>, settings: ConnectionSettings) -> Arc<Self> {
        let most = settings.max_connections;
        let pool = Pool { idle: Vec::new(), leased: 0, most, is_warming: false, is_closed: false };
        Arc::new(Self { route, settings, pool: Mutex::new(pool) })
    }

    /// What ureq gets its connections from.
    pub(super) fn connector(self: &Arc<Self>) -> impl Connector {
        Leases(Arc::clone(self))
    }

    /// Whether a connection serves more than one request.
    pub(super) fn are_kept(&self) -> bool {
        self.settings.reuse != ReuseStrategy::Never
    }

    /// Whether the last connection this thread got was an idle one.
    pub(super) fn last_was_reused(&self) -> bool {
        REUSED.get()
    }

    /// This thread is about to ask for a connection, and may not come to it.
    pub(super) fn expect_none(&self) {
        REUSED.set(false);
    }

    /// How many are idle.
    pub(super) fn idle(&self) -> usize {
        self.pool.lock().idle.len()
    }

    /// Changes how many there may be.
    pub(super) fn set_most(&self, most: usize) {
        self.pool.lock().most = most;
    }

    /// Closes all that are idle: a connection that breaks was mostly forgotten by something on the way, together with
    /// all others that were silent.
    pub(super) fn distrust(&self) {
        let idle = mem::take(&mut self.pool.lock().idle);
        drop(idle);
    }

    /// Closes all that are idle, and keeps none from now on.
    pub(super) fn close(&self) {
        self.pool.lock().is_closed = true;
        self.distrust();
    }

    /// The idle connection that was used last, if there is one that can be trusted.
    fn take(self: &Arc<Self>) -> Option<Lease> {
        loop {
            let now = Instant::now();
            let mut pool = self.pool.lock();
            let retired = pool.retire(now, &self.settings);
            let kept = pool.idle.pop();
            pool.leased += usize::from(kept.is_some());
            drop(pool);
            drop(retired);
            let mut lease = Lease { kept: Some(kept?), is_reusable: false, connections: Arc::clone(self) };
            if !self.is_doubtful(lease.kept(), now) || lease.kept_mut().is_alive() {
                return Some(lease);
            }
        }
    }

    /// Whether an idle connection is probed before it is used.
    fn is_doubtful(&self, kept: &Kept, now: Instant) -> bool {
        let is_unchecked = |interval| now.saturating_duration_since(kept.checked) >= interval;
        self.settings.reuse == ReuseStrategy::Conservative
            || self.settings.validation_interval.is_some_and(is_unchecked)
    }

    fn give_back(&self, mut kept: Kept) {
        let now = Instant::now();
        (kept.used, kept.checked) = (now, now);
        let mut pool = self.pool.lock();
        pool.keep(kept);
        let retired = pool.retire(now, &self.settings);
        drop(pool);
        drop(retired);
    }

    /// When there will be something to look after, if nothing happens meanwhile.
    pub(super) fn next_upkeep(&self) -> Option<Instant> {
        let settings = &self.settings;
        let next = |kept: &Kept| {
            let expiry = (kept.used + settings.idle_timeout).min(kept.opened + settings.max_lifetime);
            settings.validation_interval.map_or(expiry, |interval| expiry.min(kept.checked + interval))
        };
        self.pool.lock().idle.iter().map(next).min()
    }

    /// Closes idle connections that have had their day, and probes those that are due; true if one of these was found
    /// dead.
    pub(super) fn look_after(&self, now: Instant) -> bool {
        let mut pool = self.pool.lock();
        let retired = pool.retire(now, &self.settings);
        let is_due = |kept: &Kept, interval| now.saturating_duration_since(kept.checked) >= interval;
        let mut due: Vec<Kept> = match self.settings.validation_interval {
            Some(interval) => pool.idle.extract_if(.., |kept| is_due(kept, interval)).collect(),
            None => Vec::new(),
        };
        let probed = due.len();
        pool.leased += probed;
        drop(pool);
        drop(retired);
        if probed == 0 {
            return false;
        }
        due.retain_mut(Kept::is_alive);
        let is_any_dead = due.len() < probed;
        let mut pool = self.pool.lock();
        pool.leased -= probed;
        for mut kept in due {
            kept.checked = now;
            pool.keep(kept);
        }
        is_any_dead
    }

    /// Opens as many connections as are to be there before they are needed, on a thread of its own: connecting may
    /// take long. Gives up at the first that cannot be opened. In the end `done` is told how it went.
    pub(super) fn open_ahead(self: &Arc<Self>, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        {
            let mut pool = self.pool.lock();
            if pool.is_warming || !pool.lacks(self.settings.prewarmed) {
                return;
            }
            pool.is_warming = true;
        }
        let connections = Arc::clone(self);
        let spawned = spawn("otlp-connect", Runs::OwnCode, move || {
            let warmed = connections.warm();
            connections.pool.lock().is_warming = false;
            done(warmed);
        });
        if spawned.is_err() {
            self.pool.lock().is_warming = false;
        }
    }

    fn warm(&self) -> Result<(), Error> {
        while self.pool.lock().lacks(self.settings.prewarmed) {
            let kept = Kept::new(self.route.open_ahead(self.settings.connect_timeout)?);
            let mut pool = self.pool.lock();
            // It is no request's.
            if pool.lacks(pool.most) {
                pool.idle.insert(0, kept);
            }
        }
        Ok(())
    }
}

impl Pool {
    /// Whether fewer are open than `wanted`, and another one may be opened.
    fn lacks(&self, wanted: usize) -> bool {
        !self.is_closed && self.idle.len() + self.leased < wanted.min(self.most)
    }

    fn keep(&mut self, kept: Kept) {
        let at = self.idle.partition_point(|other| other.used <= kept.used);
        self.idle.insert(at, kept);
    }

    /// Takes out what is not to be used any more, to be closed outside the lock.
    fn retire(&mut self, now: Instant, settings: &ConnectionSettings) -> Vec<Kept> {
        let limit = if self.is_closed { 0 } else { settings.max_idle.min(self.most) };
        let too_many = self.idle.len().saturating_sub(limit);
        let mut at = 0;
        let is_retired = |kept: &mut Kept| {
            at += 1;
            at <= too_many
                || now.saturating_duration_since(kept.used) >= settings.idle_timeout
                || now.saturating_duration_since(kept.opened) >= settings.max_lifetime
        };
        self.idle.extract_if(.., is_retired).collect()
    }
}

impl Kept {
    fn new(transport: Box<dyn Transport>) -> Self {
        let now = Instant::now();
        Self { transport, opened: now, used: now, checked: now }
    }

    /// Whether nothing has come while the connection was idle: neither its end nor bytes that nobody asked for.
    fn is_alive(&mut self) -> bool {
        if self.transport.is_open() {
            return true;
        }
        // A TLS server sends tickets for later sessions when it likes to; they are read on the way to what was asked
        // for.
        let timeout = NextTimeout { after: TICKET.into(), reason: Timeout::PerRead, ..NextTimeout::default() };
        self.transport.is_tls() && matches!(self.transport.await_input(timeout), Err(Error::Timeout(_)))
    }
}

/// What ureq gets its connections from.
#[derive(Debug)]
struct Leases(Arc<Connections>);

impl Connector for Leases {
    type Out = Lease;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let connections = &self.0;
        let lease = if connections.are_kept() { connections.take() } else { None };
        REUSED.set(lease.is_some());
        if lease.is_some() {
            return Ok(lease);
        }
        connections.pool.lock().leased += 1;
        // Dropped if there is no connection.
        let mut lease = Lease { kept: None, is_reusable: false, connections: Arc::clone(connections) };
        lease.kept = Some(Kept::new(connections.route.open(details)?));
        Ok(Some(lease))
    }
}

/// A connection while it serves a request.
struct Lease {
    /// None only while it is opened, and when it is given back.
    kept: Option<Kept>,
    is_reusable: bool,
    connections: Arc<Connections>,
}

impl Lease {
    fn kept(&self) -> &Kept {
        self.kept.as_ref().expect("a lease that was handed out has a connection")
    }

    fn kept_mut(&mut self) -> &mut Kept {
        self.kept.as_mut().expect("a lease that was handed out has a connection")
    }
}

impl Transport for Lease {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.kept_mut().transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.kept_mut().transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.kept_mut().transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.is_reusable = self.kept_mut().is_alive();
        self.is_reusable
    }

    fn is_tls(&self) -> bool {
        self.kept().transport.is_tls()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connections.pool.lock().leased -= 1;
        let is_reusable = self.is_reusable && self.connections.are_kept() && !thread::panicking();
        if let Some(kept) = self.kept.take().filter(|_| is_reusable) {
            self.connections.give_back(kept);
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}
