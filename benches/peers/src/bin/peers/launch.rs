//! One run of one contender: a process with nothing in its environment but the endpoint.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use peers::usage;

use crate::{Result, build::Build, contenders::Contender};

/// What a task answered: its `name value` lines.
pub(crate) type Answer = BTreeMap<String, f64>;

/// A task with its numbers.
pub(crate) struct Task<'a>(pub(crate) &'a str, pub(crate) &'a [usize]);

/// What a whole process took.
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

fn command(program: impl AsRef<OsStr>, endpoint: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PEERS_ENDPOINT", endpoint).stdin(Stdio::null());
    command
}

impl Task<'_> {
    /// The words after the program's name.
    fn arguments(&self, contender: &Contender) -> Vec<String> {
        let words = [contender.variant.to_owned(), self.0.to_owned()];
        words.into_iter().chain(self.1.iter().map(usize::to_string)).collect()
    }

    /// Runs it and reads its answer.
    pub(crate) fn answer(&self, build: &Build, contender: &Contender, endpoint: &str) -> Result<Answer> {
        let mut command = command(build.program(contender.program), endpoint);
        self.answer_of(command.args(self.arguments(contender)), contender)
    }

    /// Runs it inside `tool`, a command with its options, and reads its answer.
    pub(crate) fn inside(
        &self,
        tool: &[String],
        build: &Build,
        contender: &Contender,
        endpoint: &str,
    ) -> Result<Answer> {
        let mut command = command(&tool[0], endpoint);
        command.args(&tool[1..]).arg(build.program(contender.program)).args(self.arguments(contender));
        self.answer_of(&mut command, contender)
    }

    fn answer_of(&self, command: &mut Command, contender: &Contender) -> Result<Answer> {
        let output = command.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}, task {}: {}: {said}", contender.name, self.0, output.status).into());
        }
        let text = String::from_utf8(output.stdout)?;
        let line = |line: &str| Some((line.split_once(' ')?.0.to_owned(), line.split_once(' ')?.1.parse().ok()?));
        Ok(text.lines().filter_map(line).collect())
    }

    /// Runs it and measures the process as a whole, from before its start until it is gone.
    pub(crate) fn cost(&self, build: &Build, contender: &Contender, endpoint: &str) -> Result<Cost> {
        cost(command(build.program(contender.program), endpoint).args(self.arguments(contender)))
    }
}

/// The cost of a process that does nothing.
pub(crate) fn empty(build: &Build) -> Result<Cost> {
    cost(&mut command(build.program("empty"), ""))
}

fn cost(command: &mut Command) -> Result<Cost> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (cpu, begun) = (usage::children_cpu(), Instant::now());
    let status = command.status()?;
    let cost = Cost { wall: begun.elapsed(), cpu: usage::children_cpu().saturating_sub(cpu) };
    if status.success() { Ok(cost) } else { Err(format!("{command:?}: {status}").into()) }
}
