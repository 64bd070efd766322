//! What a process that is killed between any two steps leaves behind. A first child counts the steps, then one child
//! for each of them is killed exactly there.
#![cfg(unix)]

use std::process::Command;

use nix::sys::signal::{Signal, raise};

use super::*;

/// What a child does, where it does it, and how many steps it lives.
const ROLE: &str = "OTLP_TEST_ROLE";
const PLACE: &str = "OTLP_TEST_PLACE";
const STEPS: &str = "OTLP_TEST_STEPS";

/// More steps than any role takes.
const MANY: u32 = 1_000;

pub(super) fn kill_this_process() {
    let _ = raise(Signal::SIGKILL);
}

/// Not a test of its own: what the child processes run.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let spool = Spool::new(&SpoolConfig::default(), Path::new(&env::var(PLACE).unwrap()), URL);
    STEPS_LEFT.store(env::var(STEPS).unwrap().parse().unwrap(), Ordering::Relaxed);
    match role.as_str() {
        "store" => drop(spool.store(&contents(b"abcd"), SystemTime::now()).unwrap()),
        "send" => assert_eq!(drain(&spool), ["abcd"]),
        "split" => {
            let (whole, _) = claim_body(&spool).unwrap();
            spool.split(whole, &[contents(b"ab"), contents(b"cd")]).unwrap();
        }
        role => panic!("{role}"),
    }
    // Leaves no doubt that it was not killed before.
    println!("steps taken: {}", MANY - STEPS_LEFT.load(Ordering::Relaxed));
}

/// Runs a child that is killed after `steps` steps; how many it took if it lived.
fn run(role: &str, place: &Place, steps: u32) -> Option<u32> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "export::spool::tests::killed::child", "--nocapture", "--test-threads=1"]);
    let output = command.env(ROLE, role).env(PLACE, &place.0).env(STEPS, steps.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let taken = said.split("steps taken: ").nth(1).map(|rest| rest.lines().next().unwrap().parse().unwrap());
    assert_eq!(output.status.success(), taken.is_some(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    taken
}

/// Has `role` killed at each of its steps, each time in a place that was prepared, and shows what is left.
fn at_each_step(role: &str, prepare: impl Fn(&Spool), mut check: impl FnMut(u32, &Place)) {
    let _alone = NO_CHILDREN.write();
    let place = Place(Place::path(), None);
    prepare(&place.spool());
    let steps = run(role, &place, MANY).expect("nobody kills it");
    assert!(steps >= 3, "{role} has {steps} steps");
    for step in 0..steps {
        let place = Place(Place::path(), None);
        prepare(&place.spool());
        assert_eq!(run(role, &place, step), None, "{role} was to be killed at step {step}");
        check(step, &place);
    }
}

#[test]
fn a_writer_that_is_killed_leaves_a_whole_body_or_nothing() {
    let mut written = Vec::new();
    at_each_step(
        "store",
        |_| {},
        |step, place| {
            let bodies = drain(&place.spool());
            assert!(bodies.is_empty() || bodies == ["abcd"], "{step}: {bodies:?}");
            assert_eq!(place.files(), Vec::<String>::new(), "{step}: no leftovers");
            written.push(!bodies.is_empty());
        },
    );
    assert!(written.is_sorted() && !written[0] && written[written.len() - 1], "{written:?}");
}

#[test]
fn a_sender_that_is_killed_frees_the_body_at_once_until_it_removed_it() {
    let mut kept = Vec::new();
    at_each_step(
        "send",
        |spool| store(spool, "abcd"),
        |step, place| {
            let bodies = drain(&place.spool());
            assert!(bodies.is_empty() || bodies == ["abcd"], "{step}: {bodies:?}");
            kept.push(!bodies.is_empty());
        },
    );
    // The step after the removal is the only one that finds nothing.
    assert_eq!(kept.iter().filter(|kept| !**kept).count(), 1, "{kept:?}");
    assert!(!kept[kept.len() - 1], "{kept:?}");
}

#[test]
fn a_body_that_is_being_replaced_by_its_halves_is_sent_whole_or_in_halves_and_never_both() {
    let mut halved = Vec::new();
    at_each_step(
        "split",
        |spool| store(spool, "abcd"),
        |step, place| {
            let bodies = drain(&place.spool());
            assert!(bodies == ["abcd"] || bodies == ["ab", "cd"], "{step}: {bodies:?}");
            assert_eq!(place.files(), Vec::<String>::new(), "{step}: no leftovers");
            halved.push(bodies.len() == 2);
        },
    );
    assert!(halved.is_sorted() && halved[halved.len() - 1] && !halved[0], "{halved:?}");
}
