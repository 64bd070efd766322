//! Which baggage is current on a thread. Spans know nothing of it, so that starting one costs no more where there is
//! some.

use std::{cell::RefCell, fmt, marker::PhantomData};

use super::{Baggage, process_baggage};

thread_local! {
    static ENTERED: RefCell<Stack> = const { RefCell::new(Stack { entered: Vec::new(), next: 0 }) };
}

/// The baggage that was made current on one thread and not left yet.
struct Stack {
    entered: Vec<(u64, Baggage)>,
    next: u64,
}

impl Baggage {
    /// The calling thread's current baggage: what was entered last, else [that of the process](process_baggage). Copies
    /// it.
    pub fn current() -> Self {
        entered().unwrap_or_else(process_baggage)
    }

    /// Makes this the current baggage of the calling thread until the guard is dropped
    /// ([Attach](https://opentelemetry.io/docs/specs/otel/context/#attach-context)): [`inject`](super::inject) and
    /// [`CommandExt`](super::CommandExt) pass it on. An empty one hides what is current. Other threads do not see it,
    /// and spans do not record it.
    ///
    /// Guards may be dropped in any order: what was left never becomes current again. Where the thread's own variables
    /// are gone already, in the destructors of others, it does nothing. Allocates.
    ///
    /// ```
    /// use otlp::propagation::Baggage;
    /// let user = Baggage::current().insert("user", "7").enter();
    /// assert_eq!(Baggage::current().get("user"), Some("7"));
    /// drop(user);
    /// assert_eq!(Baggage::current().get("user"), None);
    /// ```
    pub fn enter(&self) -> EnteredBaggage {
        let enter = |stack: &RefCell<Stack>| {
            let mut stack = stack.try_borrow_mut().ok()?;
            stack.next += 1;
            let token = stack.next;
            stack.entered.push((token, self.clone()));
            Some(token)
        };
        EnteredBaggage { token: ENTERED.try_with(enter).ok().flatten(), not_send: PhantomData }
    }
}

/// What was entered last on this thread and not left, if anything was.
pub(super) fn entered() -> Option<Baggage> {
    let last = |stack: &RefCell<Stack>| Some(stack.try_borrow().ok()?.entered.last()?.1.clone());
    ENTERED.try_with(last).ok().flatten()
}

/// Keeps a [`Baggage`] current on its thread until it is dropped
/// ([Detach](https://opentelemetry.io/docs/specs/otel/context/#detach-context)).
#[must_use = "dropping the guard leaves the baggage"]
pub struct EnteredBaggage {
    token: Option<u64>,
    /// The stack it belongs to is the thread's.
    not_send: PhantomData<*const ()>,
}

impl Drop for EnteredBaggage {
    fn drop(&mut self) {
        let leave = |stack: &RefCell<Stack>| {
            let mut stack = stack.try_borrow_mut().ok()?;
            let at = stack.entered.iter().rposition(|(entered, _)| Some(*entered) == self.token)?;
            Some(stack.entered.remove(at))
        };
        // Freed only when the stack is no longer in use.
        drop(ENTERED.try_with(leave));
    }
}

impl fmt::Debug for EnteredBaggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnteredBaggage")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn of(value: &str) -> Baggage {
        Baggage::default().insert("k", value)
    }

    #[test]
    fn leaving_in_the_wrong_order_restores_what_is_still_entered() {
        // CTX-02
        let outer = of("outer").enter();
        let inner = of("inner").enter();
        drop(outer);
        assert_eq!(Baggage::current().get("k"), Some("inner"));
        let innermost = Baggage::default().enter();
        assert_eq!(entered(), Some(Baggage::default()));
        drop(inner);
        assert_eq!(entered(), Some(Baggage::default()));
        drop(innermost);
        assert_eq!(entered(), None);
    }

    #[test]
    fn each_thread_has_its_own_and_a_panic_leaves_what_it_entered() {
        // CTX-02
        let _here = of("here").enter();
        let there = thread::spawn(|| {
            let before = entered();
            let caught = std::panic::catch_unwind(|| {
                let _there = of("there").enter();
                std::panic::resume_unwind(Box::new(()));
            });
            (before, caught.is_err(), entered())
        });
        assert_eq!(there.join().unwrap(), (None, true, None));
        assert_eq!(Baggage::current().get("k"), Some("here"));
    }

    #[test]
    fn a_destructor_that_runs_when_the_thread_is_nearly_gone_may_enter_and_leave() {
        // CTX-02
        struct Late(Option<EnteredBaggage>);
        impl Drop for Late {
            fn drop(&mut self) {
                drop(self.0.take());
                drop(of("late").enter());
                let _ = Baggage::current();
            }
        }
        thread_local! {
            static LATE: RefCell<Late> = const { RefCell::new(Late(None)) };
        }
        for stack_is_made_first in [true, false] {
            let ended = thread::spawn(move || {
                if !stack_is_made_first {
                    LATE.with(|_| ());
                }
                let guard = of("early").enter();
                LATE.with(|late| late.borrow_mut().0 = Some(guard));
            });
            assert!(ended.join().is_ok());
        }
    }
}
