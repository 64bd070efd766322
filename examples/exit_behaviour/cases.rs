//! The ways a process can end, and what must come of the spans it made.

use std::{
    cell::RefCell,
    os::unix::process::CommandExt as _,
    process::{self, Command},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use otlp::{Guard, Span};

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(Signal),
}

/// Who is there to take the spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collector {
    Healthy,
    /// Answers after 300 ms.
    Slow,
    /// Accepts connections and never answers.
    Stalled,
    /// Nobody listens.
    Refused,
}

/// One way to end.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) collector: Collector,
    /// Spans that arrive, the process span included.
    pub(crate) delivered: u64,
    /// Spans the one line at the end says were lost.
    pub(crate) lost: u64,
    pub(crate) end: End,
    /// The longest it may take, the start of the process included, on a busy machine.
    pub(crate) at_most: Duration,
    pub(crate) run: fn(),
}

const OK: End = End::Code(0);
/// Far more than it takes; what runs into it waited for something.
const QUICK: Duration = Duration::from_millis(900);
const STALL: Duration = Duration::from_millis(2_000);

const fn case(name: &'static str, delivered: u64, end: End, run: fn()) -> Case {
    Case { name, collector: Collector::Healthy, delivered, lost: 0, end, at_most: QUICK, run }
}

pub(crate) const CASES: &[Case] = &[
    case("main returns", 11, OK, || drop(start(10))),
    case("main returns, the guard forgotten", 11, OK, || std::mem::forget(start(10))),
    case("process::exit(7)", 11, End::Code(7), || {
        let _otlp = start(10);
        process::exit(7)
    }),
    case("process::exit(7) on another thread", 11, End::Code(7), || {
        let _otlp = start(10);
        thread::scope(|scope| scope.spawn(|| process::exit(7)).join().unwrap_or(()));
    }),
    case("main panics through an open span", 12, End::Code(101), || {
        let _otlp = start(10);
        otlp::tracer("job").in_span("fails", |_| panic!("on purpose"));
    }),
    case("a thread panics through an open span", 12, OK, || {
        let _otlp = start(10);
        let failing = thread::spawn(|| otlp::tracer("job").in_span("fails", |_| panic!("on purpose")));
        let _: Result<(), _> = failing.join();
    }),
    case("a panic that cannot unwind", 0, End::Signal(Signal::SIGABRT), || {
        let _otlp = start(10);
        cannot_unwind();
    }),
    case("a panic that cannot unwind, flush_on_panic", 11, End::Signal(Signal::SIGABRT), || {
        let otlp = start(10);
        otlp.flush_on_panic();
        cannot_unwind();
    }),
    case("SIGTERM", 0, End::Signal(Signal::SIGTERM), || {
        let _otlp = start(10);
        signal(Signal::SIGTERM);
    }),
    case("SIGTERM, close_on_signals", 11, End::Signal(Signal::SIGTERM), || {
        let otlp = start(10);
        otlp.close_on_signals().expect("handlers can be had");
        signal(Signal::SIGTERM);
    }),
    case("SIGINT, close_on_signals", 11, End::Signal(Signal::SIGINT), || {
        let otlp = start(10);
        otlp.close_on_signals().expect("handlers can be had");
        signal(Signal::SIGINT);
    }),
    case("fork: parent and child record", 21, OK, || {
        let _otlp = start(10);
        in_child(|| {
            record(10);
            process::exit(0)
        });
    }),
    case("fork: the child exits at once", 11, OK, || {
        let _otlp = start(10);
        in_child(|| process::exit(0));
    }),
    case("fork: the child is ended by SIGTERM, close_on_signals", 11, OK, || {
        let otlp = start(10);
        otlp.close_on_signals().expect("handlers can be had");
        in_child(|| signal(Signal::SIGTERM));
    }),
    case("exec, the guard dropped before", 11, OK, || {
        drop(start(10));
        panic!("{}", Command::new("true").exec());
    }),
    case("exec", 0, OK, || {
        let _otlp = start(10);
        panic!("{}", Command::new("true").exec());
    }),
    case("spans end in destructors of thread-locals", 12, OK, || {
        thread_local! { static LAST: RefCell<Option<Span>> = const { RefCell::new(None) } }
        let _otlp = start(10);
        let ending = thread::spawn(|| LAST.set(Some(otlp::tracer("job").start("last"))));
        ending.join().expect("ends");
    }),
    Case {
        collector: Collector::Slow,
        ..case("process::exit(3) while a request is under way", 1_001, End::Code(3), || {
            let _otlp = start(1_000);
            process::exit(3)
        })
    },
    Case {
        collector: Collector::Refused,
        lost: 11,
        ..case("nobody listens", 0, End::Code(7), || {
            let _otlp = start(10);
            process::exit(7)
        })
    },
    Case {
        collector: Collector::Stalled,
        lost: 11,
        at_most: STALL,
        ..case("the collector never answers", 0, End::Code(7), || {
            let _otlp = start(10);
            process::exit(7)
        })
    },
    Case {
        collector: Collector::Stalled,
        lost: 11,
        at_most: STALL,
        ..case("the collector never answers, SIGTERM", 0, End::Signal(Signal::SIGTERM), || {
            let otlp = start(10);
            otlp.close_on_signals().expect("handlers can be had");
            signal(Signal::SIGTERM);
        })
    },
    Case {
        collector: Collector::Stalled,
        ..case("the collector never answers, SIGINT twice", 0, End::Signal(Signal::SIGINT), || {
            let otlp = start(10);
            otlp.close_on_signals().expect("handlers can be had");
            thread::spawn(|| {
                // The first one is being dealt with once nothing is recorded any more.
                while otlp::tracer("job").enabled() {
                    thread::yield_now();
                }
                signal(Signal::SIGINT);
            });
            signal(Signal::SIGINT);
        })
    },
];

/// A job with a process span and so many spans within.
fn start(spans: u64) -> Guard {
    let otlp = otlp::init().expect("the first client of this process");
    otlp.root("job");
    record(spans);
    otlp
}

fn record(spans: u64) {
    let tracer = otlp::tracer("job");
    (0..spans).for_each(|_| tracer.start("step").end());
}

/// Sends the signal to this process and waits for its end.
fn signal(signal: Signal) -> ! {
    kill(Pid::this(), signal).expect("a process may end itself");
    loop {
        thread::park();
    }
}

fn cannot_unwind() {
    extern "C" fn callback() {
        panic!("on purpose");
    }
    callback();
}

/// Runs `child` in a fork of this process and waits for its end.
fn in_child(child: fn()) {
    // SAFETY: the child does what a child of a threaded program must not do by the letter of POSIX, and what this
    // library promises to survive.
    match unsafe { fork() }.expect("processes can be had") {
        ForkResult::Child => {
            child();
            process::exit(1)
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("it is our child");
            assert!(matches!(ended, WaitStatus::Exited(_, 0) | WaitStatus::Signaled(..)), "{ended:?}");
        }
    }
}
