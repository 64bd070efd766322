//! Running one case in a process of its own, and looking at what came of it.

use std::{
    env,
    error::Error,
    io,
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use otlp::testing::Receiver;

use crate::cases::{CASES, Case, Collector, End};

/// What came of a case.
pub(crate) struct Ended {
    pub(crate) delivered: u64,
    /// What the line at the end said.
    pub(crate) lost: u64,
    pub(crate) end: Option<End>,
    pub(crate) took: Duration,
    pub(crate) stderr: String,
    pub(crate) receiver: Receiver,
}

/// Plays the case of this name, in the process that must end.
pub(crate) fn as_child(name: &str) -> Result<(), Box<dyn Error>> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("there is no such case")?;
    (case.run)();
    Ok(())
}

/// Runs a case in a child of this process; `name` tells the child which one.
pub(crate) fn run(case: &Case, name: impl FnOnce(&mut Command) -> &mut Command) -> io::Result<Ended> {
    let delay = if case.collector == Collector::Slow { Duration::from_millis(300) } else { Duration::ZERO };
    let receiver = Receiver::builder().response_delay(delay).start()?;
    let other = TcpListener::bind("127.0.0.1:0")?;
    let silent = format!("http://{}", other.local_addr()?);
    let endpoint = match case.collector {
        Collector::Healthy | Collector::Slow => receiver.endpoint(),
        Collector::Stalled | Collector::Refused => silent,
    };
    let listening = (case.collector == Collector::Stalled).then_some(other);

    let mut command = Command::new(env::current_exe()?);
    for (variable, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(variable);
    }
    name(&mut command).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    // A backtrace takes as long as the end it would be in the way of.
    command.env("RUST_BACKTRACE", "0");
    let begun = Instant::now();
    let output = command.output()?;
    let took = begun.elapsed();
    drop(listening);

    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lost = stderr.lines().filter_map(|line| {
        line.strip_prefix("otlp: ")?.split_once(" lost {")?.0.split(' ').next()?.parse::<u64>().ok()
    });
    let signal = output.status.signal().and_then(|number| Signal::try_from(number).ok());
    let end = output.status.code().map(End::Code).or(signal.map(End::Signal));
    Ok(Ended { delivered: receiver.span_count(), lost: lost.sum(), end, took, stderr, receiver })
}

impl Ended {
    /// Whether it is what it must be, and if not, why.
    pub(crate) fn check(&self, case: &Case) -> Result<(), String> {
        let ids = self.receiver.span_ids();
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        if distinct.len() != ids.len() {
            return Err(format!("{} spans arrived twice", ids.len() - distinct.len()));
        }
        let (is, must) = ((self.delivered, self.lost, self.end), (case.delivered, case.lost, Some(case.end)));
        if is != must {
            return Err(format!("(delivered, lost, end) is {is:?} and must be {must:?}"));
        }
        if self.took > case.at_most {
            return Err(format!("it took {:?} and must not take more than {:?}", self.took, case.at_most));
        }
        Ok(())
    }
}
