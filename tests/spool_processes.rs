//! The spool between processes: later runs, several at once, and runs that are killed. Each case starts processes of
//! its own against a receiver in this one, which never touches the spool itself.
#![cfg(feature = "testing")]
#![cfg(unix)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    env,
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use otlp::{
    Client, DropReason, RetryConfig, Snapshot, Tracer,
    testing::{Receiver, Request, Response},
};
use support::{Ids, LONG, SpoolDir, assert_accounted, assert_received, gate, ids, wait_for};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";
/// How many batches it makes, and of how many spans.
const BATCHES: &str = "OTLP_TEST_BATCHES";
const SPANS: u64 = 5;

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    let batches = || env::var(BATCHES).unwrap().parse().unwrap();
    match env::var(ROLE).as_deref() {
        Ok("job") => job(batches()),
        Ok("endless job") => job(u64::MAX),
        Ok("exit") => {
            let _otlp = otlp::init().unwrap();
            made(&otlp::tracer("exiting"));
            std::process::exit(7);
        }
        _ => {}
    }
}

/// Makes batches, says which spans it makes before and that they are settled after each, and closes.
fn job(batches: u64) {
    let once = RetryConfig { max_attempts: 1, ..RetryConfig::default() };
    let client = Client::builder().with_retry_config(once).build().unwrap();
    let tracer = client.tracer("job");
    for _ in 0..batches {
        made(&tracer);
        client.flush(LONG);
        say("settled");
    }
    client.close();
    let Snapshot { ended, exported, queued, spooled, restored, dropped, .. } = assert_accounted(&client);
    let (undelivered, shutdown) = (dropped.get(DropReason::Undelivered), dropped.get(DropReason::Shutdown));
    assert_eq!(undelivered + shutdown, dropped.total());
    say(&format!("counts {ended} {exported} {} {queued} {spooled} {restored}", dropped.total()));
}

/// Records a batch, having said which ids it has: whoever is killed in between made nothing.
fn made(tracer: &Tracer) {
    let spans: Vec<_> = (0..SPANS).map(|_| tracer.start("span")).collect();
    let mut line = "made".to_owned();
    for span in &spans {
        let (trace, span) = ids(&span.context());
        write!(line, " {:032x}{:016x}", u128::from_be_bytes(trace), u64::from_be_bytes(span)).unwrap();
    }
    say(&line);
}

/// One line, written in one piece: what a killed process has said arrives.
fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// What a child said.
#[derive(Default, Debug)]
struct Said {
    /// Every batch it announced, and whether it was settled.
    batches: Vec<(Vec<Ids>, bool)>,
    /// Ended, exported, dropped, queued, spooled, restored.
    counts: Vec<u64>,
}

impl Said {
    fn parse(stdout: &str) -> Self {
        let mut said = Self::default();
        // A last line without its end was cut.
        for line in stdout.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("made") => said.batches.push((words.map(parse_ids).collect(), false)),
                Some("settled") => said.batches.last_mut().unwrap().1 = true,
                Some("counts") => said.counts = words.map(|word| word.parse().unwrap()).collect(),
                _ => {}
            }
        }
        said
    }

    fn ids(&self) -> impl Iterator<Item = Ids> + '_ {
        self.batches.iter().flat_map(|(ids, _)| ids.iter().copied())
    }
}

fn parse_ids(word: &str) -> Ids {
    let (trace, span) = word.split_at(32);
    let (trace, span) = (u128::from_str_radix(trace, 16).unwrap(), u64::from_str_radix(span, 16).unwrap());
    (trace.to_be_bytes(), span.to_be_bytes())
}

/// A collector that can be out of service.
struct Collector {
    receiver: Receiver,
    is_out: Arc<AtomicBool>,
}

impl Collector {
    fn out_of_service() -> Self {
        Self::answering(|_| Response::ok())
    }

    /// Answers so when it is in service.
    fn answering(respond: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let is_out = Arc::new(AtomicBool::new(true));
        let out = Arc::clone(&is_out);
        let receiver = Receiver::builder().respond_with(move |request| match out.load(Ordering::SeqCst) {
            true => Response::status(503),
            false => respond(request),
        });
        Self { receiver: receiver.start().unwrap(), is_out }
    }

    fn comes_back(&self) {
        self.is_out.store(false, Ordering::SeqCst);
    }
}

fn command(role: &str, batches: u64, collector: &Collector, dir: &SpoolDir) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    prepare(&mut command, role, batches, collector, dir);
    command
}

fn prepare(command: &mut Command, role: &str, batches: u64, collector: &Collector, dir: &SpoolDir) {
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("OTLP_")) {
        command.env_remove(name);
    }
    command
        .env(ROLE, role)
        .env(BATCHES, batches.to_string())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.receiver.endpoint())
        .env("OTLP_SPOOL_DIR", dir.path())
        // Longer than a busy machine takes for anything here.
        .env("OTLP_EXIT_STALL_TIMEOUT", "20000")
        .env("OTLP_EXIT_TIMEOUT", "30000")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// Waits for a child's regular end; what it said, and the library's own lines.
fn finish(child: Child) -> (Said, Vec<String>) {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let lines = stderr.lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect();
    (Said::parse(&String::from_utf8_lossy(&output.stdout)), lines)
}

fn run(role: &str, batches: u64, collector: &Collector, dir: &SpoolDir) -> (Said, Vec<String>) {
    finish(command(role, batches, collector, dir).spawn().unwrap())
}

/// A child that is going to be killed.
struct Victim {
    child: Child,
    stdout: BufReader<ChildStdout>,
    heard: String,
}

impl Victim {
    /// Starts a child and waits until it begins.
    fn start(role: &str, batches: u64, collector: &Collector, dir: &SpoolDir) -> Self {
        let mut child = command(role, batches, collector, dir).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut victim = Self { child, stdout, heard: String::new() };
        victim.listen("made");
        victim
    }

    /// Waits until it says something that begins so.
    fn listen(&mut self, word: &str) {
        loop {
            let from = self.heard.len();
            assert!(self.stdout.read_line(&mut self.heard).unwrap() > 0, "it ended: {}", self.heard);
            if self.heard[from..].starts_with(word) {
                return;
            }
        }
    }

    /// Kills it with SIGKILL; what it had said.
    fn kill(mut self) -> Said {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stdout.read_to_string(&mut self.heard).unwrap();
        Said::parse(&self.heard)
    }
}

/// Has the bodies of a spool written by a clock that showed `nanos` after 1970, as their names and the file system tell.
fn rewrite_time(dir: &SpoolDir, nanos: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    for path in dir.bodies() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let renamed = path.with_file_name(format!("{nanos:020}{}", &name[20..]));
        std::fs::rename(&path, &renamed).unwrap();
        std::fs::File::options().write(true).open(&renamed).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn what_was_spooled_before_the_clock_was_set_or_while_it_was_ahead_is_sent_by_a_later_run() {
    const SINCE_BOOT: u64 = 40_000_000_000;
    const IN_2100: u64 = 4_102_444_800_000_000_000;
    for nanos in [SINCE_BOOT, IN_2100] {
        let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
        let (first, _) = run("job", 3, &collector, &dir);
        assert_eq!(dir.bodies().len(), 3);
        rewrite_time(&dir, nanos);
        collector.comes_back();
        let (second, lines) = run("job", 1, &collector, &dir);
        assert_eq!(lines, Vec::<String>::new());
        assert_received(&collector.receiver, &first.ids().chain(second.ids()).collect::<Vec<_>>());
        assert_eq!(dir.bodies().len(), 0);
    }
}

#[test]
fn the_next_run_delivers_what_this_one_could_not() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let (first, lines) = run("job", 4, &collector, &dir);
    assert_eq!(first.counts, [20, 0, 0, 0, 20, 0]);
    let told: Vec<_> = lines.iter().filter(|line| line.contains("20 spans are kept in the spool")).collect();
    assert_eq!(told.len(), 1, "at the end: {lines:?}");
    assert!(told[0].contains(dir.path().to_str().unwrap()), "{told:?}");
    collector.comes_back();
    let (second, lines) = run("job", 1, &collector, &dir);
    assert_eq!(second.counts, [5, 25, 0, 0, 0, 20]);
    assert_eq!(lines, Vec::<String>::new());
    assert_received(&collector.receiver, &first.ids().chain(second.ids()).collect::<Vec<_>>());
    assert_eq!(dir.bodies().len(), 0);
}

#[test]
fn process_exit_writes_what_it_cannot_deliver() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let output = command("exit", 0, &collector, &dir).env("OTLP_EXIT_STALL_TIMEOUT", "100").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    collector.comes_back();
    let (next, _) = run("job", 1, &collector, &dir);
    let exited = Said::parse(&String::from_utf8_lossy(&output.stdout));
    assert_received(&collector.receiver, &exited.ids().chain(next.ids()).collect::<Vec<_>>());
}

#[test]
fn of_several_processes_with_one_directory_each_span_arrives_once() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let all_at_once = |batches| {
        let children: Vec<_> = (0..4).map(|_| command("job", batches, &collector, &dir).spawn().unwrap()).collect();
        children.into_iter().map(|child| finish(child).0).collect::<Vec<_>>()
    };
    let writers = all_at_once(10);
    assert!(writers.iter().all(|writer| writer.counts == [50, 0, 0, 0, 50, 0]), "{writers:?}");
    assert_eq!(dir.bodies().len(), 40);
    collector.comes_back();
    let senders = all_at_once(2);
    let restored: u64 = senders.iter().map(|sender| sender.counts[5]).sum();
    assert_eq!((restored, dir.bodies().len()), (200, 0));
    let made: Vec<_> = writers.iter().chain(&senders).flat_map(Said::ids).collect();
    assert_received(&collector.receiver, &made);
}

#[test]
fn a_process_that_is_killed_while_it_waits_for_an_answer_leaves_the_body_to_the_next_at_once() {
    let (keeper, gate) = gate();
    let reached = Arc::new(AtomicBool::new(false));
    let has_reached = Arc::clone(&reached);
    let collector = Collector::answering(move |request| {
        if format!("{:?}", request.message).contains("the first run") {
            has_reached.store(true, Ordering::SeqCst);
            gate.wait();
        }
        Response::ok()
    });
    let dir = SpoolDir::new();
    let mut named = command("job", 1, &collector, &dir);
    let (first, _) = finish(named.env("OTEL_SERVICE_NAME", "the first run").spawn().unwrap());
    collector.comes_back();
    let victim = Victim::start("endless job", 0, &collector, &dir);
    wait_for("the request that is held", || reached.load(Ordering::SeqCst));
    victim.kill();
    drop(keeper);
    let (next, _) = run("job", 1, &collector, &dir);
    assert_eq!((next.counts[5], dir.bodies().len()), (5, 0));
    // Both the held request and the second one were accepted in the end: the answer to the first had nobody to go to.
    let received: HashSet<_> = collector.receiver.span_ids().into_iter().collect();
    assert!(first.ids().chain(next.ids()).all(|id| received.contains(&id)));
}

#[test]
fn writers_that_are_killed_at_any_moment_lose_only_what_they_had_not_written() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let mut written = Vec::new();
    let mut open = Vec::new();
    for round in 0..40 {
        let mut victim = Victim::start("endless job", 0, &collector, &dir);
        if round % 2 == 1 {
            victim.listen("settled");
        }
        thread::sleep(Duration::from_micros(150 * round));
        for (ids, is_settled) in victim.kill().batches {
            if is_settled { written.extend(ids) } else { open.extend(ids) }
        }
    }
    assert!(!written.is_empty());
    collector.comes_back();
    let (last, _) = run("job", 1, &collector, &dir);
    written.extend(last.ids());
    assert_eq!((dir.bodies().len(), dir.files("tmp").len(), dir.files("damaged").len()), (0, 0, 0));
    let received = collector.receiver.span_ids();
    let distinct: HashSet<_> = received.iter().copied().collect();
    assert_eq!(distinct.len(), received.len(), "a span arrived twice");
    assert!(written.iter().all(|id| distinct.contains(id)), "a span that was written did not arrive");
    let known: HashSet<_> = written.iter().chain(&open).copied().collect();
    assert!(distinct.is_subset(&known));
}

#[test]
fn senders_that_are_killed_at_any_moment_lose_nothing_and_repeat_at_most_what_was_on_its_way() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let (writer, _) = run("job", 120, &collector, &dir);
    assert_eq!(dir.bodies().len(), 120);
    collector.comes_back();
    let mut kills = 0;
    while dir.bodies().len() > 10 && kills < 60 {
        let victim = Victim::start("endless job", 0, &collector, &dir);
        thread::sleep(Duration::from_micros(100 * kills));
        victim.kill();
        kills += 1;
    }
    let (last, _) = run("job", 1, &collector, &dir);
    assert_eq!((dir.bodies().len(), dir.files("damaged").len()), (0, 0));
    let mut times = HashMap::new();
    collector.receiver.span_ids().into_iter().for_each(|id| *times.entry(id).or_insert(0_u64) += 1);
    assert!(writer.ids().chain(last.ids()).all(|id| times.contains_key(&id)), "a span was lost");
    // Each had at most one body on its way, whose acknowledgement went with it.
    let repeated: u64 = writer.ids().map(|id| times[&id] - 1).sum();
    assert!(repeated <= kills * SPANS, "{repeated} spans after {kills} kills");
}

#[test]
fn a_full_disk_is_a_counted_drop_and_one_line_that_names_the_directory() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    // The most bytes of a file, a block, stand in for those of a disk: writing fails in the middle.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1 && exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    prepare(&mut limited, "job", 1, &collector, &dir);
    limited.env("OTEL_EXPORTER_OTLP_COMPRESSION", "none");
    limited.env("OTEL_RESOURCE_ATTRIBUTES", format!("padding={}", "x".repeat(4_000)));
    let (said, lines) = finish(limited.spawn().unwrap());
    assert_eq!(said.counts, [5, 0, 5, 0, 0, 0], "{lines:?}");
    assert_eq!((dir.bodies().len(), dir.files("tmp").len()), (0, 0));
    let about: Vec<_> = lines.iter().filter(|line| line.contains(dir.path().to_str().unwrap())).collect();
    assert_eq!(about.len(), 1, "{lines:?}");
    assert!(
        about[0].contains("5 spans were dropped (undelivered)") && about[0].contains("OTLP_SPOOL_DIR"),
        "{about:?}"
    );
    // With room again, the next ones are kept.
    assert_eq!(run("job", 1, &collector, &dir).0.counts, [5, 0, 0, 0, 5, 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_made_is_a_counted_drop_and_a_line_that_names_it() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let mut command = command("job", 3, &collector, &dir);
    let (said, lines) = finish(command.env("OTLP_SPOOL_DIR", "/proc/otlp/spool").spawn().unwrap());
    assert_eq!(said.counts, [15, 0, 15, 0, 0, 0], "{lines:?}");
    let about: Vec<_> = lines.iter().filter(|line| line.contains("/proc/otlp/spool")).collect();
    assert_eq!(about.len(), 1, "{lines:?}");
}

#[test]
fn a_damaged_file_is_told_once_and_costs_no_other() {
    let (collector, dir) = (Collector::out_of_service(), SpoolDir::new());
    let (first, _) = run("job", 3, &collector, &dir);
    let damaged = dir.bodies().remove(1);
    std::fs::write(&damaged, "nonsense").unwrap();
    collector.comes_back();
    let (second, lines) = run("job", 1, &collector, &dir);
    assert_eq!(second.counts, [5, 15, 0, 0, 0, 10]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(damaged.with_extension("damaged").to_str().unwrap()), "{lines:?}");
    let (third, lines) = run("job", 1, &collector, &dir);
    assert_eq!((third.counts[5], lines), (0, Vec::new()));
    let sound = [&first.batches[0].0[..], &first.batches[2].0, &second.batches[0].0, &third.batches[0].0].concat();
    assert_received(&collector.receiver, &sound);
}
