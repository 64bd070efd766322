//! A thread that does several things, each at its time, again and again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{LogLevel, Subject},
    export::Exporter,
    sync::{
        LONGEST, Runs, are_alone,
        locks::{Condvar, Mutex},
        spawn,
    },
};

/// How long the end of the client waits for the thread to leave.
const LEAVE_GRACE: Duration = Duration::from_millis(40);

/// How often the thread looks, at most, whether there is anybody left whom it serves.
const LOOK: Duration = Duration::from_secs(1);

/// Something to do again and again. It answers after which time.
pub(super) type Task = Box<dyn FnMut(&Exporter) -> Duration + Send>;

/// Tasks, and the thread that does them, if it was started.
pub(super) struct Scheduler {
    name: &'static str,
    /// After which time each is to be done first. The thread takes them along.
    tasks: Mutex<Vec<(Duration, Task)>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// The thread was started. It may never begin.
    Starting,
    Running,
    Stopping,
    Left,
}

impl Scheduler {
    /// Nothing is done before `start`.
    pub(super) fn new(name: &'static str, tasks: Vec<(Duration, Task)>) -> Arc<Self> {
        Arc::new(Self { name, tasks: Mutex::new(tasks), state: Mutex::new(State::Idle), changed: Condvar::new() })
    }

    /// Starts the thread, unless it was started or there is nothing to do.
    pub(super) fn start(self: &Arc<Self>, exporter: &Arc<Exporter>) {
        {
            let mut state = self.state.lock();
            if *state != State::Idle || self.tasks.lock().is_empty() {
                return;
            }
            *state = State::Starting;
        }
        let (scheduler, served) = (Arc::clone(self), Arc::clone(exporter));
        if let Err(error) = spawn(self.name, Runs::Plugins, move || scheduler.run(&served)) {
            *self.state.lock() = State::Left;
            exporter.diagnostics().say(
                LogLevel::Error,
                Subject::Worker,
                format_args!("the thread {} could not be started: {error}; nothing is measured or adjusted", self.name),
            );
        }
    }

    fn run(&self, exporter: &Exporter) {
        {
            let mut state = self.state.lock();
            if *state != State::Starting {
                return;
            }
            *state = State::Running;
        }
        let _left = Leave(self);
        let begun = Instant::now();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let mut tasks: Vec<_> = tasks.into_iter().map(|(first, task)| (begun + first.min(LONGEST), task)).collect();
        let (mut spent, mut looked) = (Duration::ZERO, begun);
        while let Some(next) = tasks.iter().map(|(next, _)| *next).min() {
            let mut state = self.state.lock();
            while *state == State::Running && next > Instant::now() {
                let _ = self.changed.wait_until(&mut state, next);
            }
            if *state != State::Running {
                return;
            }
            drop(state);
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if are_alone() {
                    // The process ends when the last of our threads has.
                    return;
                }
            }
            tasks.retain_mut(|(next, task)| {
                if *next > Instant::now() {
                    return true;
                }
                // A fault of ours costs this task, and not the others.
                let pause = catch_unwind(AssertUnwindSafe(|| task(exporter)));
                if pause.is_err() {
                    exporter.diagnostics().say(
                        LogLevel::Error,
                        Subject::Tuning,
                        format_args!(
                            "a fault in what adjusts the client ended it; this is a bug in otlp, and all else goes on"
                        ),
                    );
                }
                pause.map(|pause| *next = Instant::now() + pause.min(LONGEST)).is_ok()
            });
            exporter.spend(&mut spent);
        }
    }

    /// Has the thread leave, and waits for that, for a moment.
    pub(super) fn stop(&self) {
        let until = Instant::now() + LEAVE_GRACE;
        let mut state = self.state.lock();
        *state = match *state {
            State::Running => State::Stopping,
            // Whoever would start it now is too late, and so is a thread that has not begun.
            State::Idle | State::Starting => State::Left,
            state => state,
        };
        self.changed.notify_all();
        while *state == State::Stopping && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

/// Says that the thread is gone, however it went.
struct Leave<'a>(&'a Scheduler);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.state.lock() = State::Left;
        self.0.changed.notify_all();
    }
}
