//! The default of a thread: what `otlp::tracer` and `otlp::client` mean on it, in tests that run at the same time.
#![cfg(feature = "testing")]

mod support;

use std::{collections::BTreeSet, sync::LazyLock, thread};

use otlp::{Client, Tracer, testing::Receiver};
use support::{LONG, assert_accounted, client_of};

/// As a library keeps it, made by whichever test comes first.
static KEPT: LazyLock<Tracer> = LazyLock::new(|| otlp::tracer("kept"));

/// What is tested: it knows of no client but the process-wide one.
fn work(name: &str) {
    KEPT.in_span(name, |span| {
        span.set_attribute("n", 1);
        otlp::tracer("made anew").start(&format!("{name}, child")).end();
        otlp::tracer("made anew").span(&format!("{name}, root")).root().start().end();
    });
}

fn names(receiver: &Receiver) -> BTreeSet<String> {
    receiver.spans().into_iter().map(|span| span.span.name).collect()
}

fn made_by(names: &[&str]) -> BTreeSet<String> {
    let of_one = |name: &&str| [(*name).to_owned(), format!("{name}, child"), format!("{name}, root")];
    names.iter().flat_map(of_one).collect()
}

#[track_caller]
fn works_for_its_own_receiver(name: &str) {
    for _ in 0..20 {
        let receiver = Receiver::start().unwrap();
        let client = client_of(&receiver).build().unwrap();
        let default = client.set_default();
        work(name);
        assert!(otlp::client().flush(LONG).is_complete());
        assert_eq!(names(&receiver), made_by(&[name]));
        drop(default);
        let before = assert_accounted(&client).ended;
        work("after");
        assert_eq!(client.stats().ended, before, "the default is over");
    }
}

#[test]
fn a_test_sees_its_own_spans() {
    works_for_its_own_receiver("one");
}

#[test]
fn and_so_does_another_one_at_the_same_time() {
    works_for_its_own_receiver("two");
}

#[test]
fn a_process_wide_client_beside_them_gets_what_threads_without_a_default_record() {
    let receivers = [(); 2].map(|()| Receiver::start().unwrap());
    let installed = client_of(&receivers[0]).install().unwrap();
    let default = client_of(&receivers[1]).build().unwrap();
    work("before");
    let guard = default.set_default();
    work("default");
    thread::spawn(|| work("without")).join().unwrap();
    let handle = otlp::client();
    let with = thread::spawn(move || {
        let _default = handle.set_default();
        work("with");
    });
    with.join().unwrap();
    drop(guard);
    work("restored");
    assert!(default.flush(LONG).is_complete());
    // Other tests of this process record without a default too.
    assert!(installed.client().flush(LONG).is_complete());
    let all = names(&receivers[0]);
    assert!(all.is_superset(&made_by(&["before", "without", "restored"])), "{all:?}");
    assert!(all.is_disjoint(&made_by(&["default", "with"])), "{all:?}");
    assert_eq!(names(&receivers[1]), made_by(&["default", "with"]));
}

#[test]
fn defaults_are_nested_and_taken_back_in_any_order() {
    let receivers = [(); 2].map(|()| Receiver::start().unwrap());
    let [outer, inner] = receivers.each_ref().map(|receiver| client_of(receiver).build().unwrap());
    let outer_default = outer.set_default();
    work("outer");
    let inner_default = inner.set_default();
    work("inner");
    drop(outer_default);
    work("inner still");
    drop(inner_default);
    work("nobody's");
    assert!(outer.flush(LONG).is_complete() && inner.flush(LONG).is_complete());
    assert_eq!(names(&receivers[0]), made_by(&["outer"]));
    assert_eq!(names(&receivers[1]), made_by(&["inner", "inner still"]));
}

#[test]
fn a_default_that_is_disabled_or_closed_records_nothing() {
    let receiver = Receiver::start().unwrap();
    let disabled = Client::builder().with_sdk_disabled(true).build().unwrap();
    let closed = client_of(&receiver).build().unwrap();
    closed.close();
    for client in [disabled, closed] {
        let _default = client.set_default();
        assert!(!KEPT.enabled());
        work("nothing");
        assert!(otlp::client().flush(LONG).is_complete());
    }
    assert_eq!(receiver.span_count(), 0);
}

#[test]
fn a_default_whose_handles_are_gone_lives_as_long_as_its_guard() {
    let receiver = Receiver::start().unwrap();
    let client = client_of(&receiver).build().unwrap();
    let default = client.set_default();
    drop(client);
    work("kept alive");
    drop(default);
    assert_eq!(names(&receiver), made_by(&["kept alive"]), "and is closed with it");
}
