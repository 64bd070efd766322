//! The open connections: which of them a request takes, and when one expires.
//!
//! A request leases an idle connection, or a new one. If the connection is clean after the exchange, it comes back
//! here.

use std::{any::Any, mem, sync::Arc, time::Instant};

use super::{
    deadline::Deadline,
    dial::Route,
    fault::Fault,
    line::Line,
    standing::{About, Doubt, judge},
    trial::STALE,
};
use crate::{
    config::{ConnectionSettings, ReuseStrategy},
    sync::{Runs, locks::Mutex, spawn},
};

/// What a protocol keeps of a connection from one request to the next.
pub(in crate::export) trait Talk: Any + Send {
    /// Whether another request may follow: the connection has not ended, and nothing unexpected has come while it was
    /// idle. Does not wait for anything.
    fn is_alive(&mut self, line: &mut dyn Line) -> bool;
}

/// A protocol, as far as its connections are concerned.
#[derive(Debug, Clone, Copy)]
pub(in crate::export) struct Speech {
    /// Makes what is kept of a new connection.
    pub(in crate::export) begin: fn() -> Box<dyn Talk>,
    /// Whether the receiver may say something while a connection is idle, so that it is asked before it is used.
    pub(in crate::export) while_idle: bool,
}

pub(in crate::export) struct Connections {
    speech: Speech,
    route: Arc<Route>,
    settings: ConnectionSettings,
    pool: Mutex<Pool>,
}

/// Which connection a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Any,
    /// A recently used and trusted one, or a new one: others have brought no answer that counts.
    Another,
}

struct Pool {
    /// In the order in which they were used.
    idle: Vec<Kept>,
    doubt: Doubt,
    /// Connections in use, or being opened for a request.
    leased: usize,
    /// The most connections, idle and leased.
    most: usize,
    /// Whether a thread is opening connections ahead.
    is_warming: bool,
    is_closed: bool,
}

/// An open connection.
struct Kept {
    line: Box<dyn Line>,
    talk: Box<dyn Talk>,
    opened: Instant,
    /// When it was used last, or opened.
    used: Instant,
    /// When it was last known to be open.
    checked: Instant,
    /// Whether the last answer over it may be its node's fault.
    is_doubted: bool,
}

impl Connections {
    pub(in crate::export) fn new(route: Arc<Route>, settings: ConnectionSettings, speech: Speech) -> Arc<Self> {
        let most = settings.max_connections;
        let pool =
            Pool { idle: Vec::new(), doubt: Doubt::default(), leased: 0, most, is_warming: false, is_closed: false };
        Arc::new(Self { speech, route, settings, pool: Mutex::new(pool) })
    }

    /// Returns a connection for one request: the most recently used idle one, if one can be trusted, or a new one that
    /// is open before `deadline`.
    pub(in crate::export) fn lease(self: &Arc<Self>, deadline: Deadline, over: Over) -> Result<Lease, Fault> {
        if self.are_kept()
            && let Some(lease) = self.take(over)
        {
            return Ok(lease);
        }
        let (is_instead, closed) = self.pool.lock().open(Instant::now());
        drop(closed);
        // Dropped if there is no connection.
        let mut lease = Lease::new(None, self);
        lease.is_instead = is_instead;
        lease.kept = Some(self.open(deadline)?);
        Ok(lease)
    }

    fn open(&self, deadline: Deadline) -> Result<Kept, Fault> {
        let line = self.route.open(deadline, self.settings.connect_timeout)?;
        Ok(Kept::new(line, (self.speech.begin)()))
    }

    /// Whether a connection serves more than one request.
    fn are_kept(&self) -> bool {
        self.settings.reuse != ReuseStrategy::Never
    }

    /// How many are idle.
    pub(in crate::export) fn idle(&self) -> usize {
        self.pool.lock().idle.len()
    }

    /// Changes the most connections there may be.
    pub(in crate::export) fn set_most(&self, most: usize) {
        self.pool.lock().most = most;
    }

    /// Closes all idle connections: if one breaks, something on the way has mostly forgotten all silent ones.
    pub(in crate::export) fn distrust(&self) {
        let idle = mem::take(&mut self.pool.lock().idle);
        drop(idle);
    }

    /// Closes all that were idle for long: what has forgotten one of them has forgotten the others too.
    pub(in crate::export) fn distrust_stale(&self) {
        let now = Instant::now();
        let stale: Vec<_> = self.pool.lock().idle.extract_if(.., |kept| kept.is_stale(now)).collect();
        drop(stale);
    }

    /// Judges a connection by what the answer over it is about. True if the request is worth repeating over another
    /// one.
    pub(in crate::export) fn judge(&self, lease: &mut Lease, about: About) -> bool {
        let now = Instant::now();
        let mut pool = self.pool.lock();
        let judgement = judge(about, lease.kept().is_doubted, pool.doubt.is_the_receivers(now));
        pool.doubt.note(about, lease.is_instead, now);
        lease.kept_mut().is_doubted = judgement.is_doubted;
        judgement.elsewhere
    }

    /// Closes all idle connections, and keeps none from now on.
    pub(in crate::export) fn close(&self) {
        self.pool.lock().is_closed = true;
        self.distrust();
    }

    /// The most recently used idle connection, if one can be trusted.
    fn take(self: &Arc<Self>, over: Over) -> Option<Lease> {
        loop {
            let now = Instant::now();
            let mut pool = self.pool.lock();
            let retired = pool.retire(now, &self.settings);
            let kept = pool.choose(now, over).map(|at| pool.idle.remove(at));
            pool.leased += usize::from(kept.is_some());
            drop(pool);
            drop(retired);
            let mut lease = Lease::new(Some(kept?), self);
            (lease.is_reused, lease.is_stale) = (true, lease.kept().is_stale(now));
            if !self.is_doubtful(lease.kept(), now) || lease.kept_mut().is_alive() {
                return Some(lease);
            }
        }
    }

    /// Whether an idle connection is probed before it is used.
    fn is_doubtful(&self, kept: &Kept, now: Instant) -> bool {
        let is_unchecked = |interval| now.saturating_duration_since(kept.checked) >= interval;
        self.speech.while_idle
            || self.settings.reuse == ReuseStrategy::Conservative
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

    /// When there will be something to maintain, if nothing happens meanwhile.
    pub(in crate::export) fn next_upkeep(&self) -> Option<Instant> {
        let settings = &self.settings;
        let next = |kept: &Kept| {
            let expiry = (kept.used + settings.idle_timeout).min(kept.opened + settings.max_lifetime);
            settings.validation_interval.map_or(expiry, |interval| expiry.min(kept.checked + interval))
        };
        self.pool.lock().idle.iter().map(next).min()
    }

    /// Closes expired idle connections, and probes those that are due; true if one of these was found dead.
    pub(in crate::export) fn look_after(&self, now: Instant) -> bool {
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

    /// Opens connections until the configured number is ready, on a thread of its own, because connecting may take
    /// long. Gives up at the first that cannot be opened. Calls `done` with the result.
    pub(in crate::export) fn open_ahead(self: &Arc<Self>, done: impl FnOnce(Result<(), Fault>) + Send + 'static) {
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

    fn warm(&self) -> Result<(), Fault> {
        while self.pool.lock().lacks(self.settings.prewarmed) {
            let timeout = self.settings.connect_timeout;
            let kept = self.open(Deadline::connecting(timeout))?;
            let mut pool = self.pool.lock();
            // The connection is not for a request.
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

    /// The idle connection that a request takes; `None` if it takes a new one. A doubted one comes last, if new ones
    /// are no better.
    fn choose(&self, now: Instant, over: Over) -> Option<usize> {
        let is_fit = |kept: &Kept| !kept.is_doubted && (over == Over::Any || !kept.is_stale(now));
        let fit = self.idle.iter().rposition(is_fit);
        let is_new = over == Over::Another || self.doubt.allows_new(now);
        fit.or_else(|| self.idle.len().checked_sub(1).filter(|_| !is_new))
    }

    /// Makes room for a new connection. Returns whether it is opened instead of a doubted one, and the connections to
    /// be closed for it outside the lock.
    fn open(&mut self, now: Instant) -> (bool, Vec<Kept>) {
        self.leased += 1;
        let too_many = (self.idle.len() + self.leased).saturating_sub(self.most);
        (self.doubt.opens(now), self.least_trusted(too_many))
    }

    /// Takes out at most `most`: doubted ones first, the oldest of them before others.
    fn least_trusted(&mut self, most: usize) -> Vec<Kept> {
        let mut taken = Vec::new();
        for is_any in [false, true] {
            let mut left = most - taken.len();
            let is_one = |kept: &mut Kept| {
                let is_one = left > 0 && (is_any || kept.is_doubted);
                left -= usize::from(is_one);
                is_one
            };
            taken.extend(self.idle.extract_if(.., is_one));
        }
        taken
    }

    fn keep(&mut self, kept: Kept) {
        let at = self.idle.partition_point(|other| other.used <= kept.used);
        self.idle.insert(at, kept);
    }

    /// Takes out the expired connections, to be closed outside the lock.
    fn retire(&mut self, now: Instant, settings: &ConnectionSettings) -> Vec<Kept> {
        let limit = if self.is_closed { 0 } else { settings.max_idle.min(self.most) };
        let is_retired = |kept: &mut Kept| {
            now.saturating_duration_since(kept.used) >= settings.idle_timeout
                || now.saturating_duration_since(kept.opened) >= settings.max_lifetime
        };
        let mut retired: Vec<_> = self.idle.extract_if(.., is_retired).collect();
        retired.extend(self.least_trusted(self.idle.len().saturating_sub(limit)));
        retired
    }
}

impl Kept {
    fn new(line: Box<dyn Line>, talk: Box<dyn Talk>) -> Self {
        let now = Instant::now();
        Self { line, talk, opened: now, used: now, checked: now, is_doubted: false }
    }

    /// Whether it was idle for so long that a middlebox may have forgotten it.
    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= STALE
    }

    fn is_alive(&mut self) -> bool {
        self.talk.is_alive(&mut *self.line)
    }
}

/// A connection while it serves a request.
pub(in crate::export) struct Lease {
    /// `None` only while it is opened, and when it is given back.
    kept: Option<Kept>,
    is_reused: bool,
    is_stale: bool,
    /// Whether it was opened instead of using a doubted one.
    is_instead: bool,
    is_reusable: bool,
    connections: Arc<Connections>,
}

impl Lease {
    fn new(kept: Option<Kept>, connections: &Arc<Connections>) -> Self {
        let (is_reused, is_stale, is_instead, is_reusable) = (false, false, false, false);
        Self { kept, is_reused, is_stale, is_instead, is_reusable, connections: Arc::clone(connections) }
    }

    /// The connection, and what its protocol keeps of it.
    pub(in crate::export) fn parts(&mut self) -> (&mut dyn Line, &mut dyn Talk) {
        let kept = self.kept_mut();
        (&mut *kept.line, &mut *kept.talk)
    }

    /// Whether the connection had served before, or could have.
    pub(in crate::export) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether it had been idle for so long that a middlebox may have forgotten it.
    pub(in crate::export) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Gives the connection back for other requests, if it is still open.
    pub(in crate::export) fn give_back(mut self) {
        self.is_reusable = self.connections.are_kept() && self.kept_mut().is_alive();
    }

    fn kept(&self) -> &Kept {
        self.kept.as_ref().expect("a lease that was handed out has a connection")
    }

    fn kept_mut(&mut self) -> &mut Kept {
        self.kept.as_mut().expect("a lease that was handed out has a connection")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connections.pool.lock().leased -= 1;
        if let Some(kept) = self.kept.take().filter(|_| self.is_reusable) {
            self.connections.give_back(kept);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
