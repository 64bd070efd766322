//! The propagators of this process.

// A number rather than a lock: whoever injects never waits, nor does the child of a fork.
use std::sync::atomic::{AtomicU8, Ordering};

use crate::{
    config::{Propagator, Propagators},
    env,
};

/// Propagators as a number, two bits for each in order; 0 until they are known.
static GLOBAL: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
const KNOWN: u8 = 0x80;
const BITS: usize = 2;

impl Propagators {
    /// What `OTEL_PROPAGATORS` says now; the default where it says nothing usable. Names that are not supported are
    /// left out: making a client says so.
    pub fn from_env() -> Self {
        let text = env::variable(env::PROPAGATORS).filter(|text| !text.is_empty());
        text.and_then(|text| Self::parse(text.to_str()?).0).unwrap_or_default()
    }

    /// The propagators of this process: what [`set_global`](Self::set_global) was given, else what the environment said when they
    /// were first needed, which is when the first client or tracer is made at the latest.
    pub fn global() -> Self {
        match GLOBAL.load(Ordering::Relaxed) {
            UNKNOWN => Self::from_env().settle(),
            known => decoded(known),
        }
    }

    /// Has the process use these, whatever the environment says. Call it before the first client or tracer is made: the
    /// context the process was started with is read then, and once.
    pub fn set_global(self) {
        GLOBAL.store(encoded(self), Ordering::Relaxed);
    }

    /// Makes these the process's, unless they are known already; answers those that are.
    pub(super) fn settle(self) -> Self {
        match GLOBAL.compare_exchange(UNKNOWN, encoded(self), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => self,
            Err(known) => decoded(known),
        }
    }
}

fn encoded(propagators: Propagators) -> u8 {
    let digit =
        |propagator| 1 + Propagator::ALL.iter().position(|known| *known == propagator).unwrap_or_default() as u8;
    propagators.iter().enumerate().fold(KNOWN, |code, (at, propagator)| code | digit(propagator) << (at * BITS))
}

fn decoded(code: u8) -> Propagators {
    let digits = (0..Propagator::ALL.len()).map(|at| code >> (at * BITS) & 0b11);
    Propagators::new(digits.filter_map(|digit| Propagator::ALL.get(usize::from(digit).checked_sub(1)?).copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_survives_being_a_number() {
        use Propagator::{Baggage, TraceContext};
        let lists: [&[_]; 5] = [&[], &[TraceContext], &[Baggage], &[TraceContext, Baggage], &[Baggage, TraceContext]];
        for list in lists {
            let list = Propagators::new(list.iter().copied());
            assert_eq!(decoded(encoded(list)), list);
            assert_ne!(encoded(list), UNKNOWN);
        }
    }
}
