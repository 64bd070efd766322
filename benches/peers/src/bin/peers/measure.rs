//! The measurements, in the order in which they are made. Whatever is compared is made in turns, so that what else the
//! machine does meets all of them alike.

use std::{thread, time::Duration};

use crate::{
    Result,
    build::Build,
    callgrind::{self, Callgrind},
    contenders::{CONTENDERS, Contender, FLOOR, Scope, WITH_TLS, measured},
    launch::{self, Task},
    receiver::{self, Receiver},
    samples::Samples,
};

/// How much is done.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Processes of each contender that record, and rounds of each process.
    pub(crate) recording: (usize, usize),
    pub(crate) paced_rounds: usize,
    pub(crate) paced_spans: usize,
    pub(crate) burst_rounds: usize,
    pub(crate) exit_rounds: usize,
    pub(crate) instructions: bool,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        name: "full",
        recording: (21, 20),
        paced_rounds: 3,
        paced_spans: 200_000,
        burst_rounds: 3,
        exit_rounds: 41,
        instructions: true,
    };
    pub(crate) const QUICK: Self = Self {
        name: "quick",
        recording: (3, 10),
        paced_rounds: 1,
        paced_spans: 50_000,
        burst_rounds: 1,
        exit_rounds: 7,
        instructions: false,
    };
}

/// Spans per second where all of them shall arrive.
pub(crate) const PACED_RATE: usize = 50_000;
/// Spans of a burst.
pub(crate) const BURST_SPANS: usize = 400_000;
/// Spans of a program that ends soon.
pub(crate) const BRIEF_SPANS: usize = 10;
/// The empty program.
pub(crate) const EMPTY: &str = "empty";

pub(crate) fn all(plan: &Plan, build: &Build) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut receiver = Receiver::start(build)?;
    sizes(build, &mut samples)?;
    recording(plan, build, &mut receiver, &mut samples)?;
    exits(plan, build, &mut receiver, &mut samples)?;
    paced(plan, build, &mut receiver, &mut samples)?;
    bursts(plan, build, &mut receiver, &mut samples)?;
    if plan.instructions && callgrind::is_installed() {
        instructions(build, &mut samples)?;
    }
    broken_receivers(build, &mut samples)?;
    Ok(samples)
}

fn say(what: &str) {
    eprintln!("measuring {what}");
}

fn sizes(build: &Build, samples: &mut Samples) -> Result<()> {
    say("sizes");
    let kib = |program: &str| build.stripped_bytes(program).map(|bytes| bytes as f64 / 1024.0);
    for contender in measured(Scope::Program) {
        if let Some(kib) = kib(contender.program) {
            samples.add(contender.name, "stripped_kib", kib);
        }
        samples.add(contender.name, "crates", build.crates(contender.program)? as f64);
    }
    for program in [EMPTY, WITH_TLS] {
        if let Some(kib) = kib(program) {
            samples.add(program, "stripped_kib", kib);
        }
    }
    samples.add(WITH_TLS, "crates", build.crates(WITH_TLS)? as f64);
    Ok(())
}

fn recording(plan: &Plan, build: &Build, receiver: &mut Receiver, samples: &mut Samples) -> Result<()> {
    let (processes, rounds) = plan.recording;
    for process in 1..=processes {
        say(&format!("recording, {process} of {processes}"));
        for contender in CONTENDERS {
            let answer = Task("rounds", &[rounds]).answer(build, contender, receiver.endpoint())?;
            for measure in
                ["hot_min_ns", "hot_median_ns", "bare_min_ns", "bare_median_ns", "allocations", "reallocations"]
            {
                samples.add(contender.name, measure, *answer.get(measure).ok_or("no such measure")?);
            }
            receiver.take()?;
        }
    }
    Ok(())
}

fn exits(plan: &Plan, build: &Build, receiver: &mut Receiver, samples: &mut Samples) -> Result<()> {
    say("programs that end soon");
    let mut add = |name, cost: launch::Cost| {
        samples.add(name, "exit_wall_ms", cost.wall.as_secs_f64() * 1e3);
        samples.add(name, "exit_cpu_ms", cost.cpu.as_secs_f64() * 1e3);
    };
    for _ in 0..plan.exit_rounds {
        add(EMPTY, launch::empty(build)?);
        for contender in measured(Scope::Program) {
            add(contender.name, Task("exit", &[BRIEF_SPANS]).cost(build, contender, receiver.endpoint())?);
            let received = receiver.take()?;
            if received.spans != BRIEF_SPANS as u64 {
                let (name, spans) = (contender.name, received.spans);
                return Err(format!("{name}: {spans} of {BRIEF_SPANS} spans arrived").into());
            }
        }
    }
    Ok(())
}

fn paced(plan: &Plan, build: &Build, receiver: &mut Receiver, samples: &mut Samples) -> Result<()> {
    for round in 1..=plan.paced_rounds {
        say(&format!("{PACED_RATE} spans per second, {round} of {}", plan.paced_rounds));
        for contender in measured(Scope::Delivery) {
            let task = Task("paced", &[plan.paced_spans, PACED_RATE]);
            let answer = task.answer(build, contender, receiver.endpoint())?;
            let received = receiver.take()?;
            samples.add(contender.name, "paced_peak_mib", answer["peak_kib"] / 1024.0);
            // The floor delivers nothing: what its spans cost it is told instead.
            let spans = if received.spans > 0 { received.spans } else { plan.paced_spans as u64 };
            samples.add(contender.name, "paced_cpu_ns", answer["cpu_ns"] / spans as f64);
            if contender.name != FLOOR.name {
                samples.add(contender.name, "paced_delivered", share(received.spans, plan.paced_spans));
            }
            if received.spans > 0 {
                check(contender, received)?;
                samples.add(contender.name, "paced_wire_bytes", received.bytes as f64 / received.spans as f64);
                samples.add(contender.name, "paced_request_spans", received.spans as f64 / received.requests as f64);
            }
        }
    }
    Ok(())
}

fn bursts(plan: &Plan, build: &Build, receiver: &mut Receiver, samples: &mut Samples) -> Result<()> {
    for round in 1..=plan.burst_rounds {
        for (threads, delivered, peak, cpu, wire) in [
            (1, "burst1_delivered", "burst1_peak_mib", "burst1_cpu_ns", "burst1_wire_bytes"),
            (4, "burst4_delivered", "burst4_peak_mib", "burst4_cpu_ns", "burst4_wire_bytes"),
        ] {
            say(&format!("bursts, {threads} threads, {round} of {}", plan.burst_rounds));
            for contender in measured(Scope::Delivery) {
                let task = Task("burst", &[BURST_SPANS, threads]);
                let answer = task.answer(build, contender, receiver.endpoint())?;
                let received = receiver.take()?;
                samples.add(contender.name, peak, answer["peak_kib"] / 1024.0);
                if contender.name != FLOOR.name {
                    samples.add(contender.name, delivered, share(received.spans, BURST_SPANS));
                }
                if received.spans > 0 {
                    check(contender, received)?;
                    samples.add(contender.name, cpu, answer["cpu_ns"] / received.spans as f64);
                    samples.add(contender.name, wire, received.bytes as f64 / received.spans as f64);
                }
            }
        }
    }
    Ok(())
}

fn share(spans: u64, of: usize) -> f64 {
    spans as f64 / of as f64 * 100.0
}

/// The same work: five attributes arrived of each child.
fn check(contender: &Contender, received: receiver::Received) -> Result<()> {
    if received.attributes == 5 * received.hot && received.hot > 0 {
        return Ok(());
    }
    Err(format!("{}: {} attributes of {} spans arrived", contender.name, received.attributes, received.hot).into())
}

/// A contender's instructions per span, and how the column is called.
type Counted = (&'static str, &'static str, f64);

fn instructions(build: &Build, samples: &mut Samples) -> Result<()> {
    say("instructions");
    // Two at a time: what is counted does not depend on what else runs.
    let counted: Vec<_> = thread::scope(|scope| {
        let halves = [0, 1].map(|half| scope.spawn(move || counted(build, half)));
        halves.into_iter().map(|half| half.join().expect("counted").map_err(|error| error.to_string())).collect()
    });
    for counted in counted {
        counted?.into_iter().for_each(|(name, measure, value)| samples.add(name, measure, value));
    }
    Ok(())
}

/// Every second contender. Errors are told as text, which can leave its thread.
fn counted(build: &Build, half: usize) -> std::result::Result<Vec<Counted>, String> {
    let count = || -> Result<Vec<Counted>> {
        let mut callgrind = Callgrind::new(build, half)?;
        let mut found = Vec::new();
        for contender in CONTENDERS.iter().skip(half).step_by(2) {
            let name = contender.name;
            let (hot, bare) = (callgrind.recorded(contender, true)?, callgrind.recorded(contender, false)?);
            found.push((name, "hot_instructions", hot.all));
            found.push((name, "bare_instructions", bare.all));
            found.push((name, "substitute_instructions", bare.substitute));
            if contender.scope >= Scope::Delivery {
                let delivered = callgrind.delivered(contender)?;
                found.extend(delivered.map(|count| (name, "delivered_instructions", count)));
            }
        }
        Ok(found)
    };
    count().map_err(|error| error.to_string())
}

/// How long a program takes to end where nothing can be delivered. All of them at once: they wait.
fn broken_receivers(build: &Build, samples: &mut Samples) -> Result<()> {
    say("receivers that refuse, and that do not answer");
    let (_listener, silent) = receiver::silent()?;
    let endpoints = [("refused_s", receiver::refused()?), ("silent_s", silent)];
    let waits: Vec<_> = thread::scope(|scope| {
        let mut started = Vec::new();
        for contender in measured(Scope::Program) {
            for (measure, endpoint) in &endpoints {
                let wait = move || Task("exit", &[BRIEF_SPANS]).cost(build, contender, endpoint);
                let wait = scope.spawn(move || wait().map(|cost| cost.wall).map_err(|error| error.to_string()));
                started.push((contender, *measure, wait));
            }
        }
        let join = |(contender, measure, wait): (_, _, thread::ScopedJoinHandle<'_, _>)| {
            (contender, measure, wait.join().expect("waited"))
        };
        started.into_iter().map(join).collect()
    });
    for (contender, measure, wait) in waits {
        let (contender, wait): (&Contender, Duration) = (contender, wait?);
        samples.add(contender.name, measure, wait.as_secs_f64());
    }
    Ok(())
}
