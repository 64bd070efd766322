//! Instructions, counted by callgrind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Result,
    build::Build,
    contenders::{Contender, FLOOR},
    launch::{Answer, Task},
    receiver::Receiver,
};

/// Rounds that are counted of recording.
const ROUNDS: usize = 2;
/// Spans delivered; and twice as many.
const DELIVERED: usize = 4000;

/// The function of the task that is counted.
const COUNTED: &str = "--toggle-collect=*counted_round*";

/// What otlp reads the time with until it knows the rate of the TSC, which it never learns under callgrind: readings take
/// so long there that they look interrupted.
const SUBSTITUTE: &str = "Clock::now_slow";

/// Instructions per span.
pub(crate) struct Recorded {
    pub(crate) all: f64,
    /// Those of them that only run under callgrind.
    pub(crate) substitute: f64,
}

/// A machine that counts one contender after the other, with a receiver of its own.
pub(crate) struct Callgrind<'b> {
    build: &'b Build,
    receiver: Receiver,
    directory: PathBuf,
}

pub(crate) fn is_installed() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

impl<'b> Callgrind<'b> {
    /// `name` tells it from others that run at the same time.
    pub(crate) fn new(build: &'b Build, name: usize) -> Result<Self> {
        let directory = build.scratch()?.join(format!("callgrind-{name}"));
        Ok(Self { build, receiver: Receiver::start(build)?, directory })
    }

    /// Instructions per span that the recording thread executes, warm.
    pub(crate) fn recorded(&mut self, contender: &Contender, attributes: bool) -> Result<Recorded> {
        let task = Task("record", &[ROUNDS, usize::from(attributes)]);
        let answer = self.run(&task, contender, &[COUNTED, "--compress-strings=no"])?;
        self.receiver.take()?;
        let spans = answer.get("spans").ok_or("no number of spans")?;
        let count = totals(&self.directory, is_producer)? as f64;
        let substitute = inclusive(&self.directory, SUBSTITUTE)? as f64;
        Ok(Recorded { all: count / spans, substitute: substitute / spans })
    }

    /// Instructions per span that all threads execute until the receiver has it: the difference of two runs, so that
    /// what happens once is left out. `None` if spans were lost, since there is nothing to divide by then.
    pub(crate) fn delivered(&mut self, contender: &Contender) -> Result<Option<f64>> {
        let mut counts = [0; 2];
        for (count, spans) in counts.iter_mut().zip([DELIVERED, 2 * DELIVERED]) {
            self.run(&Task("deliver", &[spans]), contender, &[])?;
            if self.receiver.take()?.spans != spans as u64 && contender.name != FLOOR.name {
                return Ok(None);
            }
            *count = totals(&self.directory, |_| true)?;
        }
        Ok(Some((counts[1] - counts[0]) as f64 / DELIVERED as f64))
    }

    fn run(&self, task: &Task<'_>, contender: &Contender, options: &[&str]) -> Result<Answer> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        fs::create_dir_all(&self.directory)?;
        let output = format!("--callgrind-out-file={}", self.directory.join("out").display());
        let tool = ["valgrind", "--quiet", "--tool=callgrind", "--separate-threads=yes", "--fair-sched=try", &output];
        let tool: Vec<_> = tool.iter().chain(options).map(|&word| word.to_owned()).collect();
        task.inside(&tool, self.build, contender, self.receiver.endpoint())
    }
}

/// Whether a file is that of the first thread, which records.
fn is_producer(path: &str) -> bool {
    path.ends_with("-01")
}

/// What callgrind wrote, a text for each thread that is wanted.
fn outputs(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_wanted(&path.to_string_lossy()) {
            texts.push(fs::read_to_string(&path)?);
        }
    }
    Ok(texts)
}

/// The instructions of all threads that are wanted.
fn totals(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let texts = outputs(directory, is_wanted)?;
    let total =
        |text: &String| text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
    let sum: u64 = texts.iter().filter_map(total).sum();
    if sum > 0 { Ok(sum) } else { Err(format!("callgrind counted nothing in {}", directory.display()).into()) }
}

/// The recording thread's instructions in calls of a function, what that calls included: they stand, last on the line, two
/// lines below its name.
fn inclusive(directory: &Path, function: &str) -> Result<u64> {
    let mut sum = 0;
    for text in outputs(directory, is_producer)? {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("cfn=") && line.contains(function) {
                let cost = lines.nth(1).and_then(|cost| cost.rsplit(' ').next()).ok_or("a call without a cost")?;
                sum += cost.parse::<u64>()?;
            }
        }
    }
    Ok(sum)
}
