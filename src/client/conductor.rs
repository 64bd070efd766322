//! The thread that measures and adjusts: at its times it asks a controller, and puts what that says in force.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use super::controls::Controls;
use crate::{
    error::{LogLevel, Subject},
    export::{Exporter, Window},
    stats::PerformanceMetrics,
    sync::{
        locks::{Condvar, Mutex},
        with_signals_blocked,
    },
};

/// How long the end of the client waits for the thread to leave.
const LEAVE_GRACE: Duration = Duration::from_millis(40);

/// Something to do again and again. It answers after which time.
pub(super) type Task = Box<dyn FnMut(&Exporter) -> Duration + Send>;

/// Conducts one client. The thread starts with the first worker, if there is anything for it to do.
pub(super) struct Conductor {
    /// The interval that is being measured, and what was measured in the last one.
    performance: Mutex<(Window, Option<PerformanceMetrics>)>,
    /// After which time each is to be done first. The thread takes them along.
    tasks: Mutex<Vec<(Duration, Task)>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Running,
    Stopping,
    Left,
}

impl Conductor {
    /// For one engine; `controls` tell what there is to do.
    pub(super) fn new(exporter: &Arc<Exporter>, controls: &Controls) -> Arc<Self> {
        let conductor = Arc::new(Self {
            performance: Mutex::new((Window::new(), None)),
            tasks: Mutex::new(Vec::new()),
            state: Mutex::new(State::Idle),
            changed: Condvar::new(),
        });
        let mut tasks = controls.tasks(exporter);
        if let Some(interval) = exporter.settings().metrics_interval() {
            let this = Arc::downgrade(&conductor);
            let begin: Task = Box::new(move |exporter| {
                if let Some(this) = this.upgrade() {
                    this.begin_interval(exporter);
                }
                interval
            });
            tasks.push((interval, begin));
        }
        if tasks.is_empty() {
            return conductor;
        }
        *conductor.tasks.lock() = tasks;
        let once = OnceLock::new();
        let (this, exporter_of) = (Arc::downgrade(&conductor), Arc::downgrade(exporter));
        exporter.when_working(move || {
            if let (Some(this), Some(exporter)) = (this.upgrade(), exporter_of.upgrade()) {
                once.get_or_init(|| this.start(exporter));
            }
        });
        conductor
    }

    fn begin_interval(&self, exporter: &Exporter) {
        let (window, last) = &mut *self.performance.lock();
        *last = Some(exporter.measure(window));
    }

    /// What was measured in the last interval; before its end, what there is of the first.
    pub(super) fn performance(&self, exporter: &Exporter) -> PerformanceMetrics {
        let (window, last) = &*self.performance.lock();
        last.clone().unwrap_or_else(|| exporter.measure(&mut window.clone()))
    }

    fn start(self: Arc<Self>, exporter: Arc<Exporter>) {
        *self.state.lock() = State::Running;
        let conductor = Arc::clone(&self);
        let conducted = Arc::clone(&exporter);
        let spawned = with_signals_blocked(|| {
            thread::Builder::new().name("otlp-conductor".to_owned()).spawn(move || conductor.run(&conducted))
        });
        if let Err(error) = spawned {
            *self.state.lock() = State::Left;
            exporter.diagnostics().say(
                LogLevel::Error,
                Subject::Worker,
                format_args!("no thread could be started that measures and adjusts: {error}"),
            );
        }
    }

    fn run(&self, exporter: &Exporter) {
        let _left = Leave(self);
        let begun = Instant::now();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let mut tasks: Vec<_> = tasks.into_iter().map(|(first, task)| (begun + first, task)).collect();
        let mut spent = Duration::ZERO;
        loop {
            let next = tasks.iter().map(|(next, _)| *next).min();
            let mut state = self.state.lock();
            let Some(next) = next else { return };
            while *state == State::Running && next > Instant::now() {
                let _ = self.changed.wait_until(&mut state, next);
            }
            if *state != State::Running {
                return;
            }
            drop(state);
            tasks.retain_mut(|(next, task)| {
                if *next > Instant::now() {
                    return true;
                }
                // A fault of ours costs the controller, and not the others.
                let pause = catch_unwind(AssertUnwindSafe(|| task(exporter)));
                pause.map(|pause| *next = Instant::now() + pause).is_ok()
            });
            exporter.spend(&mut spent);
        }
    }

    /// Has the thread leave, and waits for that, for a moment.
    pub(super) fn stop(&self) {
        let until = Instant::now() + LEAVE_GRACE;
        let mut state = self.state.lock();
        if *state == State::Running {
            *state = State::Stopping;
        }
        self.changed.notify_all();
        while *state == State::Stopping && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

/// Says that the thread is gone, however it went.
struct Leave<'a>(&'a Conductor);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.state.lock() = State::Left;
        self.0.changed.notify_all();
    }
}
