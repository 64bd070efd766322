//! Processes of a test's own: its program run again, in a role that its test `child` plays.

use std::{
    env,
    process::{Command, Output},
};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

/// The role this process is to play; none in the process of the tests themselves.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// A child in `role`, with only the given variables of ours set.
pub(crate) fn command(role: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command.env(ROLE, role).envs(variables.iter().copied());
    command
}

/// Runs it to its end, whatever that is.
pub(crate) fn run(role: &str, variables: &[(&str, &str)]) -> Output {
    command(role, variables).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The library's own lines.
pub(crate) fn said(output: &Output) -> Vec<String> {
    stderr(output).lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect()
}
