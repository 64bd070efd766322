//! The process-wide client is made in code or by the environment, one at a time; no client is forgotten at exit; and
//! spans that no client takes are told. Each case is a process of its own, run against a receiver in this one.
#![cfg(feature = "testing")]
#![cfg(unix)]

#[path = "support/child.rs"]
mod child_process;
mod support;

use std::{
    net::TcpListener,
    process::Output,
    sync::{Arc, Mutex, OnceLock},
};

use child_process::{role, said, stderr};
use otlp::{
    Client, ClientBuilder, Error,
    processing::BatchSpanProcessor,
    testing::{ReceivedSpan, Receiver, proto::common::v1::any_value::Value},
};
use support::LONG;

/// The receivers' endpoints, for what is set in code.
const FIRST: &str = "FIRST_RECEIVER";
const SECOND: &str = "SECOND_RECEIVER";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match role().as_deref() {
        Some("made in code") => made_in_code(),
        Some("one after the other") => one_after_the_other(),
        Some("in a static") => in_a_static(),
        Some("in a static, exit") => {
            in_a_static();
            std::process::exit(4);
        }
        Some("one of two answers") => one_of_two_answers(),
        Some("one exports for the other") => one_exports_for_the_other(),
        Some("a process span that has ended") => a_process_span_that_has_ended(),
        Some("bound to nothing") => {
            let _ = otlp::init().unwrap();
            record(3);
        }
        Some("closed") => {
            let otlp = otlp::init().unwrap();
            let open = otlp::tracer("closed").start("open");
            otlp.client().close();
            open.end();
            record(1);
        }
        Some("exits while another thread records") => {
            let otlp = to(FIRST).install().unwrap();
            std::thread::spawn(|| {
                let tracer = otlp::tracer("busy");
                loop {
                    tracer.start("span").end();
                }
            });
            while otlp.client().stats().ended < 100 {
                std::thread::yield_now();
            }
            std::process::exit(4);
        }
        Some("init comes late") => {
            record(2);
            let _otlp = otlp::init().unwrap();
            record(1);
        }
        Some("never initialised") => record(4),
        Some("never initialised, parent not sampled") => {
            let unsampled =
                otlp::SpanContext::new(otlp::TraceId::from_bytes([1; 16]), otlp::SpanId::from_bytes([1; 8]), 0, true);
            otlp::tracer("nobody").span("nothing").parent(&unsampled).start().end();
        }
        Some("no span and no client") => assert!(!otlp::tracer("nobody").enabled()),
        Some("a fork tells nothing of its parent's") => {
            record(1);
            // SAFETY: as the library promises.
            match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => std::process::exit(0),
                nix::unistd::ForkResult::Parent { child } => drop(nix::sys::wait::waitpid(child, None).unwrap()),
            }
        }
        _ => {}
    }
}

/// A builder of a client for one of the receivers.
fn to(receiver: &str) -> ClientBuilder {
    Client::builder().with_endpoint(std::env::var(receiver).unwrap()).with_service_name("code")
}

fn record(spans: usize) {
    let tracer = otlp::tracer("recording");
    (0..spans).for_each(|number| tracer.start(&format!("span {number}")).end());
}

fn made_in_code() {
    let otlp = to(FIRST).install().unwrap();
    let job = otlp.root("job");
    otlp.close_on_signals().unwrap();
    otlp.flush_on_panic();
    job.set_attribute("file", "a.csv");
    record(3);
    std::process::exit(4);
}

fn one_after_the_other() {
    let kept = otlp::tracer("kept");
    let first = to(FIRST).install().unwrap();
    kept.start("first").end();
    assert!(matches!(to(SECOND).install(), Err(Error::AlreadyInitialized)));
    assert!(matches!(otlp::init(), Err(Error::AlreadyInitialized)));
    drop(first);
    assert_eq!(otlp::client().stats().exported, 1, "what it counted can be asked for until there is another");

    let disabled = Client::builder().with_sdk_disabled(true).install().unwrap();
    kept.start("nowhere").end();
    assert!(!kept.enabled() && otlp::client().flush(LONG).is_complete());
    drop(disabled);

    let second = to(SECOND).install().unwrap();
    kept.start("second").end();
    let other = second.client().clone();
    drop(second.client().clone());
    other.tracer("handle").start("second, by a handle").end();
    assert_eq!(other.stats().ended, 2);
    drop(second);
    assert_eq!(other.stats().exported, 2, "a guard closes the client, whoever has a handle of it");
}

fn in_a_static() {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    static OTHER: Mutex<Option<Client>> = Mutex::new(None);
    let client = CLIENT.get_or_init(|| to(FIRST).build().unwrap());
    *OTHER.lock().unwrap() = Some(to(SECOND).build().unwrap());
    (0..3).for_each(|_| client.tracer("static").start("in a static").end());
    OTHER.lock().unwrap().as_ref().unwrap().tracer("static").start("in another").end();
    std::mem::forget(client.clone());
}

/// A collector that never answers stands before the one that does, and behind it.
fn one_of_two_answers() {
    let clients = [SECOND, FIRST, SECOND].map(|receiver| to(receiver).build().unwrap());
    clients.iter().for_each(|client| client.tracer("exit").start("ended").end());
    std::mem::forget(clients);
}

/// The second client is given the spans of the first, which its processor still has when the process ends.
fn one_exports_for_the_other() {
    let second = to(SECOND).build().unwrap();
    let first = to(FIRST).with_span_processor(BatchSpanProcessor::new(second)).build().unwrap();
    first.tracer("both").start("to both").end();
    std::mem::forget(first);
}

fn a_process_span_that_has_ended() {
    let own = to(FIRST).build().unwrap();
    let otlp = to(SECOND).install().unwrap();
    let job = otlp.root("job");
    own.tracer("own").start("while it is open").end();
    drop(otlp);
    own.tracer("own").start("after it").end();
    let mut child = std::process::Command::new("env");
    otlp::propagation::CommandExt::with_trace_context(&mut child);
    let environment = String::from_utf8(child.output().unwrap().stdout).unwrap();
    assert!(!environment.contains(&job.context().trace_id().to_string()), "{environment}");
}

fn play(role: &str, variables: &[(&str, &str)]) -> Output {
    let output = child_process::run(role, variables);
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

/// Plays a role with both receivers, and answers what they received.
fn play_with_two(role: &str) -> (Output, [Receiver; 2]) {
    let receivers = [(); 2].map(|()| Receiver::start().unwrap());
    let [first, second] = receivers.each_ref().map(Receiver::endpoint);
    let output = child_process::run(role, &[(FIRST, &first), (SECOND, &second)]);
    (output, receivers)
}

fn names(receiver: &Receiver) -> Vec<String> {
    let mut names: Vec<_> = receiver.spans().into_iter().map(|span| span.span.name).collect();
    names.sort();
    names
}

#[test]
fn a_client_made_in_code_is_the_process_wide_one_with_all_that_belongs_to_it() {
    let (output, [receiver, _]) = play_with_two("made in code");
    assert_eq!((output.status.code(), said(&output)), (Some(4), vec![]), "{}", stderr(&output));
    let spans = receiver.spans();
    let job = spans.iter().find(|span| span.span.name == "job").expect("the process span").clone();
    assert_eq!((spans.len(), job.attribute("file")), (4, Some(&Value::StringValue("a.csv".into()))));
    assert!(spans.iter().all(|span| span.span.trace_id == job.span.trace_id));
    let is_named = |span: &ReceivedSpan| format!("{:?}", span.resource_attribute("service.name")).contains("code");
    assert!(spans.iter().all(is_named));
}

#[test]
fn a_dropped_guard_makes_room_for_another_client_which_tracers_that_were_made_before_record_for() {
    let (output, [first, second]) = play_with_two("one after the other");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(said(&output), Vec::<String>::new());
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["first".into()], vec!["second".into(), "second, by a handle".into()])
    );
}

#[test]
fn clients_that_nobody_closed_are_closed_when_the_process_exits() {
    for (role, code) in [("in a static", 0), ("in a static, exit", 4)] {
        let (output, [first, second]) = play_with_two(role);
        assert_eq!((output.status.code(), said(&output)), (Some(code), vec![]), "{role}: {}", stderr(&output));
        assert_eq!((first.span_count(), second.span_count()), (3, 1), "{role}");
    }
}

#[test]
fn clients_that_cannot_deliver_take_no_time_from_those_that_can() {
    let receiver = Receiver::start().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let begun = std::time::Instant::now();
    let variables = [(FIRST, receiver.endpoint()), (SECOND, silent)];
    let stall = ("OTLP_EXIT_STALL_TIMEOUT", "2000");
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).chain([stall]).collect();
    let output = play("one of two answers", &variables);
    assert_eq!((receiver.span_count(), said(&output).len()), (1, 2), "{}", stderr(&output));
    // Both wait at the same time: one after the other would take 4 s.
    assert!(begun.elapsed() < std::time::Duration::from_millis(3_900), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_exports_for_another_one_is_closed_after_it() {
    let (output, [first, second]) = play_with_two("one exports for the other");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(said(&output), Vec::<String>::new());
    assert_eq!((names(&first), names(&second)), (vec!["to both".into()], vec!["to both".into()]));
}

#[test]
fn a_process_span_that_has_ended_is_the_parent_of_nothing_that_comes_later() {
    let (output, [own, process_wide]) = play_with_two("a process span that has ended");
    assert!(output.status.success(), "{}", stderr(&output));
    let job = process_wide.spans().remove(0);
    let parent_of =
        |name: &str| own.spans().into_iter().find(|span| span.span.name == name).expect(name).span.parent_span_id;
    assert_eq!((parent_of("while it is open"), parent_of("after it")), (job.span.span_id, vec![]));
}

#[test]
fn spans_that_no_client_takes_are_told_in_one_line_with_what_to_do() {
    let receiver = Receiver::start().unwrap();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint());
    for (role, spans, advice) in [
        ("bound to nothing", 3, "`let _ =` drops it at once"),
        ("closed", 2, "end spans before"),
        ("init comes late", 2, "call otlp::init() earlier"),
        ("never initialised", 4, "call otlp::init() at the start of main"),
        ("a fork tells nothing of its parent's", 1, "call otlp::init() at the start of main"),
    ] {
        let output = play(role, &[(endpoint.0, &endpoint.1)]);
        let said = said(&output);
        assert_eq!(said.len(), 1, "{role}: {said:?}");
        let were = if spans == 1 { "span was" } else { "spans were" };
        let begins = said[0].starts_with(&format!("otlp: {spans} {were} not recorded, since "));
        assert!(begins && said[0].contains(advice), "{role}: {said:?}");
    }
    assert_eq!(receiver.span_count(), 1, "what was recorded while there was a client");
}

#[test]
fn who_records_while_the_process_exits_is_not_told_to_keep_a_guard_and_no_receiver_is_accused() {
    let (output, [receiver, _]) = play_with_two("exits while another thread records");
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let said = said(&output);
    let blames = |line: &String| line.contains("not recorded") || line.contains("did not answer");
    assert!(!said.iter().any(blames), "{said:?}");
    assert!(receiver.span_count() >= 100);
}

#[test]
fn nothing_is_told_of_spans_that_nobody_wanted_or_where_nobody_wants_to_be_told() {
    for (role, variable) in [
        ("bound to nothing", ("OTEL_SDK_DISABLED", "true")),
        ("never initialised", ("OTEL_SDK_DISABLED", "true")),
        ("never initialised", ("OTEL_TRACES_EXPORTER", "none")),
        ("bound to nothing", ("OTEL_LOG_LEVEL", "none")),
        ("never initialised", ("OTEL_LOG_LEVEL", "none")),
        ("init comes late", ("OTEL_SDK_DISABLED", "true")),
        ("never initialised, parent not sampled", ("OTEL_LOG_LEVEL", "debug")),
        ("no span and no client", ("OTEL_LOG_LEVEL", "info")),
    ] {
        assert_eq!(said(&play(role, &[variable])), Vec::<String>::new(), "{role}, {variable:?}");
    }
}

#[test]
fn the_last_handle_of_a_client_closes_it_and_no_other() {
    let receiver = Receiver::start().unwrap();
    let client = support::client_of(&receiver).build().unwrap();
    let handles = [client.clone(), client.clone()];
    let tracer = client.tracer("handles");
    drop(client);
    tracer.start("while there is a handle").end();
    let shared = Arc::new(handles);
    drop(Arc::clone(&shared));
    assert!(tracer.enabled() && receiver.span_count() == 0);
    drop(shared);
    assert_eq!((tracer.enabled(), receiver.span_count()), (false, 1));
}
