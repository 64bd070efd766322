//! Instructions, counted by callgrind: the difference of two runs that differ only in their number of spans.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Result, build::Build, contenders::Contender, launch::Task};

/// Which threads' instructions are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The first, which records.
    Producer,
    All,
}

pub(crate) fn is_installed() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Instructions of one run.
pub(crate) fn count(
    task: &Task<'_>,
    threads: Threads,
    build: &Build,
    contender: &Contender,
    endpoint: &str,
    label: &str,
) -> Result<u64> {
    let directory = build.scratch()?.join(format!("callgrind-{}-{label}", contender.program));
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let output = directory.join("out").display().to_string();
    let tool = [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        "--separate-threads=yes",
        "--fair-sched=try",
        &format!("--callgrind-out-file={output}"),
    ]
    .map(str::to_owned);
    task.inside(&tool, build, contender, endpoint)?;
    totals(&directory, threads)
}

/// The sum of what stands in the files, one for each thread.
fn totals(directory: &Path, threads: Threads) -> Result<u64> {
    let mut sum = None;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_producer = path.to_string_lossy().ends_with("-01");
        if threads == Threads::Producer && !is_producer {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let total = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
        let total: u64 = total.map_or(Ok(0), |total| total.trim().parse())?;
        *sum.get_or_insert(0) += total;
    }
    sum.ok_or_else(|| format!("callgrind left nothing in {}", directory.display()).into())
}
