//! A receiver in a process of its own: this program, asked to be one.

use std::{
    env,
    error::Error,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use otlp::testing::Keep;

/// How it is asked.
const ARGUMENT: &str = "receive";

pub(crate) fn is_asked_for() -> bool {
    env::args().nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// Receives until standard input ends, which it does with the process that holds the other end.
pub(crate) fn serve() -> Result<(), Box<dyn Error>> {
    let receiver = otlp::testing::Receiver::builder().keep(Keep::Ids).start()?;
    println!("{}", receiver.endpoint());
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

pub(crate) struct Receiver {
    process: Child,
    endpoint: String,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self, Box<dyn Error>> {
        let program = env::current_exe()?;
        let mut process = Command::new(program).arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut endpoint = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut endpoint)?;
        Ok(Self { process, endpoint: endpoint.trim().to_owned() })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
