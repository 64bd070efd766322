//! Trace context between processes: each case is a child process, which starts children of its own.
#![cfg(feature = "testing")]

mod support;

use std::{
    collections::BTreeMap,
    env,
    process::{Command, Output},
};

use otlp::{
    SpanContext, SpanId, TraceId,
    propagation::{self, Baggage, CommandExt as _, Context, Propagator, Propagators},
    testing::{ReceivedSpan, Receiver},
};

/// Names the role a child process plays.
const ROLE: &str = "OTLP_TEST_ROLE";

const FIELDS: [&str; 3] = ["TRACEPARENT", "TRACESTATE", "BAGGAGE"];

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    match env::var(ROLE).as_deref() {
        Ok("job") => {
            let _otlp = otlp::init().unwrap();
            otlp::tracer("job").in_span("step", |_| show("step"));
            show("outside");
        }
        Ok("job with a process span") => {
            let otlp = otlp::init().unwrap();
            let job = otlp.root("job");
            show("outside");
            otlp::tracer("job").in_span("step", |_| show("step"));
            let context = job.context();
            assert_eq!(current(), Some((context.trace_id().to_string(), context.span_id().to_string())));
        }
        Ok("no client") => {
            show("outside");
            let tracer = otlp::tracer("nobody");
            let span = tracer.start("nothing");
            assert!(!span.is_recording());
            let _entered = span.enter();
            show("inside");
        }
        Ok("commands") => commands(),
        Ok("propagators") => propagators(),
        Ok("baggage") => baggage(),
        Ok("siblings") => siblings(),
        #[cfg(unix)]
        Ok("fork") => fork(),
        Ok("environment") => {
            for field in FIELDS {
                if let Some(value) = env::var_os(field) {
                    println!("\nSEEN {field} {}", value.to_string_lossy());
                }
            }
        }
        _ => {}
    }
}

/// What a child of this process sees, as lines.
fn seen_by_child(prepare: impl FnOnce(&mut Command) -> &mut Command) -> BTreeMap<String, String> {
    let output = prepare(this_test("environment").with_trace_context()).output().unwrap();
    assert!(output.status.success());
    seen(&output, "SEEN ")
}

/// The ids that a child of this process is given.
fn current() -> Option<(String, String)> {
    let seen = seen_by_child(|command| command);
    let header = seen.get("TRACEPARENT")?;
    let parts: Vec<_> = header.split('-').collect();
    Some((parts[1].to_owned(), parts[2].to_owned()))
}

/// Prints what a child that is started here gets.
fn show(place: &str) {
    for (field, value) in seen_by_child(|command| command) {
        println!("\n{place} {field} {value}");
    }
}

fn seen(output: &Output, place: &str) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix(place)?.split_once(' '));
    lines.map(|(field, value)| (field.to_owned(), value.to_owned())).collect()
}

fn this_test(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// Runs a child in `role` with only the given variables of ours set.
fn run(role: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = this_test(role);
    let is_ours = |name: &str| name.starts_with("OTEL_") || name.starts_with("OTLP_") || FIELDS.contains(&name);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_ours) && name != ROLE) {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{role}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.starts_with("otlp: ")).map(str::to_owned).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn find(receiver: &Receiver, name: &str) -> ReceivedSpan {
    let mut spans: Vec<_> = receiver.spans().into_iter().filter(|span| span.span.name == name).collect();
    assert_eq!(spans.len(), 1, "{name}");
    spans.remove(0)
}

/// The `traceparent` of a span.
fn header_of(span: &ReceivedSpan, flags: &str) -> String {
    format!("00-{}-{}-{flags}", hex(&span.span.trace_id), hex(&span.span.span_id))
}

#[test]
fn spans_continue_the_trace_the_process_was_started_with_and_pass_it_on() {
    // W3C-01, SPAN-03, ENC-06, ENVC-02, BAG-05
    let receiver = Receiver::start().unwrap();
    let baggage = "user = Am%C3%A9lie ;p=1, x=%2C";
    let output = run(
        "job",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()),
            ("TRACEPARENT", SAMPLED),
            ("TRACESTATE", "a=1,b=2"),
            ("BAGGAGE", baggage),
        ],
    );
    let step = find(&receiver, "step");
    assert_eq!((hex(&step.span.trace_id), hex(&step.span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((step.span.trace_state.as_str(), step.span.flags), ("a=1,b=2", 0x301));
    let header = header_of(&step, "01");
    let fields = |traceparent: &str| {
        let values = [traceparent, "a=1,b=2", baggage];
        FIELDS.iter().zip(values).map(|(field, value)| ((*field).to_owned(), value.to_owned())).collect()
    };
    let expected: BTreeMap<_, _> = fields(&header);
    assert_eq!(seen(&output, "step "), expected);
    let expected: BTreeMap<_, _> = fields(SAMPLED);
    assert_eq!(seen(&output, "outside "), expected);
}

#[test]
fn the_process_span_is_a_child_of_the_incoming_context_and_the_parent_of_the_rest() {
    let receiver = Receiver::start().unwrap();
    let output = run(
        "job with a process span",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), ("TRACEPARENT", SAMPLED)],
    );
    let (job, step) = (find(&receiver, "job"), find(&receiver, "step"));
    assert_eq!((hex(&job.span.trace_id), hex(&job.span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((&step.span.trace_id, &step.span.parent_span_id), (&job.span.trace_id, &job.span.span_id));
    // Bits 8 and 9: whether the parent is remote is known, and it is for the one of them.
    assert_eq!((job.span.flags, step.span.flags), (0x301, 0x101));
    assert_eq!(seen(&output, "outside ")["TRACEPARENT"], header_of(&job, "01"));
    assert_eq!(seen(&output, "step ")["TRACEPARENT"], header_of(&step, "01"));
}

#[test]
fn an_incoming_context_that_is_not_sampled_records_nothing_and_is_passed_on_as_such() {
    // SMP-01, SMP-02
    let receiver = Receiver::start().unwrap();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()), ("TRACEPARENT", UNSAMPLED.to_owned())];
    let output = run("job", &variables.each_ref().map(|(name, value)| (*name, value.as_str())));
    let header = &seen(&output, "step ")["TRACEPARENT"];
    assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
    assert!(!header.contains(PARENT), "a span id of its own");
    assert_eq!((receiver.span_count(), receiver.connections()), (0, 0));
}

#[test]
fn a_disabled_client_passes_on_what_came_in() {
    // SDKV-02
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let incoming = [("TRACEPARENT", SAMPLED), ("TRACESTATE", "a=1,b=2"), ("BAGGAGE", "k=v;m")];
        let output = run("job", &[&incoming[..], &[off]].concat());
        for place in ["step ", "outside "] {
            let seen = seen(&output, place);
            let seen: Vec<_> = seen.iter().map(|(field, value)| (field.as_str(), value.as_str())).collect();
            let mut expected = incoming.to_vec();
            expected.sort_unstable();
            assert_eq!(seen, expected, "{off:?} {place}");
        }
    }
}

#[test]
fn without_a_client_what_came_in_is_passed_on_too() {
    // SDKV-02, TPR-09
    let output = run("no client", &[("TRACEPARENT", SAMPLED), ("TRACESTATE", "a=1")]);
    for place in ["outside ", "inside "] {
        let seen = seen(&output, place);
        assert_eq!((seen["TRACEPARENT"].as_str(), seen["TRACESTATE"].as_str(), seen.len()), (SAMPLED, "a=1", 2));
    }
    assert!(seen(&run("no client", &[]), "inside ").is_empty());
}

#[test]
fn what_is_malformed_is_ignored_said_once_to_who_asks_and_not_passed_on() {
    // W3C-02, W3C-05, ENVC-03, BAG-07, SDKV-04
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.endpoint();
    for (level, lines) in [("debug", 1), ("info", 0)] {
        let output = run(
            "job",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_LOG_LEVEL", level),
                ("TRACEPARENT", "00-garbage"),
                ("TRACESTATE", "a=1"),
                ("BAGGAGE", "nonsense,k=v"),
            ],
        );
        let about = said(&output).into_iter().filter(|line| line.contains("TRACEPARENT")).count();
        assert_eq!(about, lines, "{:?}", said(&output));
        assert_eq!(seen(&output, "outside "), BTreeMap::from([("BAGGAGE".to_owned(), "k=v".to_owned())]));
        let step = &seen(&output, "step ");
        assert!(step["TRACEPARENT"].ends_with("-03") && !step.contains_key("TRACESTATE"), "a trace of its own");
    }
    assert!(receiver.spans().iter().all(|span| span.span.parent_span_id.is_empty()));
    assert_eq!(receiver.span_count(), 2);
}

#[test]
fn lowercase_names_are_nobodys() {
    // ENVC-02
    let receiver = Receiver::start().unwrap();
    if cfg!(unix) {
        run("job", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), ("traceparent", SAMPLED)]);
        assert!(find(&receiver, "step").span.parent_span_id.is_empty());
    }
}

/// What a command is told, apart from what is in the environment.
fn commands() {
    let before: Vec<_> = env::vars_os().collect();
    let context = |id| SpanContext::new(TraceId::from_bytes([id; 16]), SpanId::from_bytes([id; 8]), 1, false);
    // Set for another child before: nothing of it may stay.
    let mut command = this_test("environment");
    {
        let state = otlp::TraceState::parse("a=1").unwrap();
        let span = otlp::Span::from_context(context(1).with_trace_state(state));
        let _entered = span.enter();
        command.with_trace_context();
    }
    let nothing = otlp::Span::from_context(SpanContext::INVALID);
    let _entered = nothing.enter();
    let told: Vec<_> = command.with_trace_context().get_envs().filter(|(name, _)| *name != ROLE).collect();
    let removed = |name: &'static str| (name.as_ref(), None);
    assert_eq!(told, [("BAGGAGE".as_ref(), Some("own=1".as_ref())), removed("TRACEPARENT"), removed("TRACESTATE")]);
    // The baggage that a command was given is its own, and so is that it has none.
    assert_eq!(seen_by_child(|command| command)["BAGGAGE"], "own=1");
    let with = this_test("environment").env("BAGGAGE", "mine=1").with_trace_context().output().unwrap();
    assert_eq!(seen(&with, "SEEN ")["BAGGAGE"], "mine=1");
    let without = this_test("environment").env_remove("BAGGAGE").with_trace_context().output().unwrap();
    assert!(seen(&without, "SEEN ").is_empty());
    assert_eq!(propagation::process_baggage().get("own"), Some("1"));
    assert_eq!(env::vars_os().collect::<Vec<_>>(), before);
}

#[test]
fn a_command_is_told_what_holds_now_and_nothing_stale_and_the_process_stays_as_it_is() {
    // ENVC-04, ENVC-05
    run("commands", &[("BAGGAGE", "own=1"), ("TRACESTATE", "stale=1"), ("TRACEPARENT", SAMPLED)]);
}

/// Prints what the propagators of the process make of requests.
fn propagators() {
    if let Ok(code) = env::var("PROPAGATORS_IN_CODE") {
        assert_eq!(code, "baggage");
        Propagators::new([Propagator::Baggage]).set_global();
    }
    let _otlp = otlp::init().unwrap();
    let mut headers = Vec::new();
    let context = SpanContext::new(TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]), 1, false);
    propagation::inject(&context, &mut headers);
    for (field, value) in headers {
        println!("\nsent {field} {value}");
    }
    let incoming = vec![("traceparent".to_owned(), SAMPLED.to_owned())];
    println!("\nread traceparent {}", propagation::extract(&incoming).is_some());
    println!("\nall propagators {}", Propagators::global());
    show("outside");
}

#[test]
fn the_propagators_decide_what_is_taken_in_and_what_is_passed_on() {
    // SDKV-05, SDKV-07, CTX-04
    let both = ["TRACEPARENT", "BAGGAGE"].as_slice();
    for (list, code, means, passed) in [
        ("", None, "tracecontext,baggage", both),
        ("tracecontext", None, "tracecontext", &["TRACEPARENT"]),
        ("baggage", None, "baggage", &["BAGGAGE"]),
        ("none", None, "none", &[]),
        ("xray,tracecontext", None, "tracecontext", &["TRACEPARENT"]),
        ("banana", None, "tracecontext,baggage", both),
        ("none", Some("baggage"), "baggage", &["BAGGAGE"]),
    ] {
        // SDKV-02: the client being disabled changes nothing.
        let mut variables = vec![
            ("OTEL_SDK_DISABLED", "true"),
            ("TRACEPARENT", SAMPLED),
            ("BAGGAGE", "k=v"),
            ("OTEL_PROPAGATORS", list),
        ];
        variables.extend(code.map(|code| ("PROPAGATORS_IN_CODE", code)));
        let output = run("propagators", &variables);
        let has_trace = passed.contains(&"TRACEPARENT");
        let mut names: Vec<_> = seen(&output, "outside ").into_keys().collect();
        names.reverse();
        assert_eq!(
            (seen(&output, "all ")["propagators"].as_str(), names),
            (means, passed.iter().map(|name| (*name).to_owned()).collect()),
            "{list}"
        );
        assert_eq!(seen(&output, "sent ").contains_key("traceparent"), has_trace, "{list}");
        assert_eq!(seen(&output, "read ")["traceparent"], has_trace.to_string(), "{list}");
        let warnings = said(&output);
        match list {
            "xray,tracecontext" | "banana" => {
                let name = list.split(',').next().unwrap();
                assert!(
                    matches!(&warnings[..], [one] if one.contains("OTEL_PROPAGATORS") && one.contains(name)),
                    "{warnings:?}"
                );
            }
            _ => assert!(warnings.is_empty(), "{warnings:?}"),
        }
    }
}

/// Prints what a child gets where baggage was entered.
fn baggage() {
    let user = Baggage::current().insert("user", "7").enter();
    show("inside");
    let nothing = Baggage::default().enter();
    show("nothing");
    drop(user);
    show("still nothing");
    drop(nothing);
    show("outside");
    let request = Context::extract(&vec![("traceparent".to_owned(), UNSAMPLED.to_owned())]).enter();
    show("request");
    drop(request);
    std::thread::scope(|scope| {
        let _here = Baggage::default().insert("mine", "1").enter();
        scope.spawn(|| show("elsewhere"));
    });
}

#[test]
fn a_child_is_given_the_baggage_that_is_current_on_the_thread() {
    // BAG-01, BAG-05, CTX-02, SDKV-02
    let own = "k = v%20w ;m";
    let output = run("baggage", &[("TRACEPARENT", SAMPLED), ("BAGGAGE", own)]);
    let given = |place: &str| {
        let seen = seen(&output, place);
        (seen["TRACEPARENT"].clone(), seen.get("BAGGAGE").cloned())
    };
    for (place, parent, baggage) in [
        ("inside ", SAMPLED, Some("k=v%20w;m,user=7")),
        ("nothing ", SAMPLED, None),
        ("still nothing ", SAMPLED, None),
        ("outside ", SAMPLED, Some(own)),
        ("request ", UNSAMPLED, None),
        ("elsewhere ", SAMPLED, Some(own)),
    ] {
        assert_eq!(given(place), (parent.to_owned(), baggage.map(str::to_owned)), "{place}");
    }
}

/// Two threads start children at the same time.
fn siblings() {
    let _otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("siblings");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let tracer = tracer.clone();
            std::thread::spawn(move || {
                tracer.in_span("sibling", |span| {
                    let (trace, id) = current().unwrap();
                    let context = span.context();
                    assert_eq!((trace, id), (context.trace_id().to_string(), context.span_id().to_string()));
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn children_started_side_by_side_do_not_mix() {
    // ENVC-05
    let receiver = Receiver::start().unwrap();
    run("siblings", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint())]);
    assert_eq!(receiver.span_count(), 4);
}

#[cfg(unix)]
fn fork() {
    use nix::{
        sys::wait::{WaitStatus, waitpid},
        unistd::{ForkResult, fork},
    };
    let _otlp = otlp::init().unwrap();
    let tracer = otlp::tracer("fork");
    // SAFETY: the child only uses what this crate promises to work there, and ends by itself.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            tracer.start("in the parent").end();
        }
        ForkResult::Child => {
            tracer.start("in the child").end();
            assert_eq!(otlp::client().stats().started, 1);
            std::process::exit(if otlp::client().flush(support::LONG).is_complete() { 0 } else { 1 });
        }
    }
}

#[cfg(unix)]
#[test]
fn the_child_of_a_fork_keeps_the_incoming_context() {
    let receiver = Receiver::start().unwrap();
    run("fork", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint()), ("TRACEPARENT", SAMPLED)]);
    for name in ["in the parent", "in the child"] {
        let span = find(&receiver, name).span;
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()), "{name}");
    }
}
