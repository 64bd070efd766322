//! A thread that runs several tasks, each repeatedly at its own time.

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

/// How long the end of the client waits for the thread to end.
const LEAVE_GRACE: Duration = Duration::from_millis(40);

/// How often, at most, the thread checks whether the client it serves still exists.
const LOOK: Duration = Duration::from_secs(1);

/// A recurring task. It returns the delay until its next run.
pub(super) type Task = Box<dyn FnMut(&Exporter) -> Duration + Send>;

/// Tasks, and the thread that runs them, once it is started.
pub(super) struct Scheduler {
    name: &'static str,
    /// The tasks and their first delays. The thread takes them.
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
    /// Makes a scheduler; nothing runs before `start`.
    pub(super) fn new(name: &'static str, tasks: Vec<(Duration, Task)>) -> Arc<Self> {
        Arc::new(Self { name, tasks: Mutex::new(tasks), state: Mutex::new(State::Idle), changed: Condvar::new() })
    }

    /// Starts the thread, unless it was started or there are no tasks.
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
                    // The process ends when the last of the client's threads has ended.
                    return;
                }
            }
            tasks.retain_mut(|(next, task)| {
                if *next > Instant::now() {
                    return true;
                }
                // A panic costs this task only, not the others.
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

    /// Has the thread end, and waits briefly for that.
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

/// Marks the thread as gone when dropped, however it ended.
struct Leave<'a>(&'a Scheduler);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.state.lock() = State::Left;
        self.0.changed.notify_all();
    }
}
