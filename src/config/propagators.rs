//! Which propagators carry context into and out of a process, and the syntax of their list.

use std::fmt;

use crate::env::{self, Rejected};

listed! {
    /// One way to write context into a carrier and to read it from there.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Propagator {
        /// W3C Trace Context: `traceparent` and `tracestate`.
        TraceContext,
        /// W3C Baggage: `baggage`.
        Baggage,
    }
}

/// Names of the specification that this version does not support.
const UNSUPPORTED: [&str; 5] = ["b3", "b3multi", "jaeger", "xray", "ottrace"];

impl Propagator {
    /// The propagator's name in `OTEL_PROPAGATORS`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TraceContext => "tracecontext",
            Self::Baggage => "baggage",
        }
    }

    /// The header names that the propagator reads and writes
    /// ([Fields](https://opentelemetry.io/docs/specs/otel/context/api-propagators/#fields)).
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::TraceContext => &["traceparent", "tracestate"],
            Self::Baggage => &["baggage"],
        }
    }
}

/// A list of propagators in the order they run in, each at most once. The default is `tracecontext,baggage`; the list
/// may be empty ([composite
/// propagator](https://opentelemetry.io/docs/specs/otel/context/api-propagators/#composite-propagator)).
///
/// The process uses the [global](Self::global) list: it applies to [`inject`](crate::propagation::inject),
/// [`extract`](crate::propagation::extract), [`CommandExt`](crate::propagation::CommandExt) and the
/// [context](crate::propagation::process_context) the process was started with. `OTEL_PROPAGATORS` sets it, and in code
/// [`set_global`](Self::set_global).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Propagators {
    /// Filled from the front, without gaps.
    members: [Option<Propagator>; Propagator::ALL.len()],
}

impl Propagators {
    /// No propagator: nothing is injected, and nothing extracted.
    pub const NONE: Self = Self { members: [None; Propagator::ALL.len()] };

    /// Makes a list of these propagators, in this order; repeated ones count once.
    pub fn new(propagators: impl IntoIterator<Item = Propagator>) -> Self {
        let mut list = Self::NONE;
        propagators.into_iter().for_each(|propagator| list.push(propagator));
        list
    }

    fn push(&mut self, propagator: Propagator) {
        if !self.contains(propagator)
            && let Some(free) = self.members.iter_mut().find(|member| member.is_none())
        {
            *free = Some(propagator);
        }
    }

    /// The propagators of the list, in order.
    pub fn iter(&self) -> impl Iterator<Item = Propagator> + use<> {
        self.members.into_iter().flatten()
    }

    /// Whether the list contains `propagator`.
    pub fn contains(&self, propagator: Propagator) -> bool {
        self.members.contains(&Some(propagator))
    }

    /// The header names that they read and write, in order. Allocates.
    pub fn fields(&self) -> Vec<&'static str> {
        self.iter().flat_map(Propagator::fields).copied().collect()
    }

    /// Parses a comma-separated list; also returns what to report about it. In a list with unusable names the others
    /// count, and `none` among others is unusable. `None` if nothing is left (SDKV-06, SDKV-07).
    pub(crate) fn parse(text: &str) -> (Option<Self>, Option<Rejected>) {
        let known = |name: &str| Propagator::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name));
        let must = "must be a list of tracecontext and baggage, or none alone";
        let (list, rejected) = env::list(text, must, &UNSUPPORTED, known);
        (list.map(Self::new), rejected)
    }
}

impl Default for Propagators {
    fn default() -> Self {
        Self::new(Propagator::ALL)
    }
}

impl FromIterator<Propagator> for Propagators {
    fn from_iter<I: IntoIterator<Item = Propagator>>(propagators: I) -> Self {
        Self::new(propagators)
    }
}

/// Writes the list in the syntax of `OTEL_PROPAGATORS`.
impl fmt::Display for Propagators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.iter().map(Propagator::name).collect::<Vec<_>>() {
            none if none.is_empty() => f.pad("none"),
            names => f.pad(&names.join(",")),
        }
    }
}

impl fmt::Debug for Propagators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_its_order_and_a_repeated_name_counts_once() {
        // SDKV-05, SDKV-06, ENV-07
        for (text, list) in [
            ("tracecontext,baggage", "tracecontext,baggage"),
            (" Baggage , TRACECONTEXT ,", "baggage,tracecontext"),
            ("tracecontext,tracecontext,baggage,tracecontext", "tracecontext,baggage"),
            ("baggage", "baggage"),
            (" None ", "none"),
        ] {
            let (read, rejected) = Propagators::parse(text);
            assert_eq!((read.unwrap().to_string().as_str(), rejected), (list, None), "{text}");
        }
        assert_eq!(Propagators::default().to_string(), "tracecontext,baggage");
    }

    #[test]
    fn an_unusable_name_is_told_and_costs_only_itself() {
        // SDKV-07, ENV-08
        for (text, list, why) in [
            ("xray,tracecontext", Some("tracecontext"), "; \"xray\" is not supported"),
            ("baggage,banana,B3", Some("baggage"), "; \"banana\" is unknown; \"B3\" is not supported"),
            ("none,baggage", Some("baggage"), "; \"none\" is not alone"),
            ("jaeger", None, "; \"jaeger\" is not supported"),
            ("b3\n", None, "; \"b3\" is not supported"),
            (",", None, "or none alone"),
            (" ", None, "or none alone"),
        ] {
            let (read, rejected) = Propagators::parse(text);
            assert_eq!(read.map(|list| list.to_string()).as_deref(), list, "{text}");
            assert!(rejected.as_ref().unwrap().must.ends_with(why), "{rejected:?}");
        }
        let (_, many) = Propagators::parse(&"x\u{1b},".repeat(1000));
        assert_eq!(many.unwrap().must.matches(r#""x\u{1b}" is unknown"#).count(), 4);
    }

    #[test]
    fn the_fields_are_those_of_the_members_in_their_order() {
        // CTX-04
        let list = Propagators::new([Propagator::Baggage, Propagator::TraceContext, Propagator::Baggage]);
        assert_eq!(list.fields(), ["baggage", "traceparent", "tracestate"]);
        assert_eq!(list.iter().collect::<Vec<_>>(), [Propagator::Baggage, Propagator::TraceContext]);
        assert!(Propagators::NONE.fields().is_empty() && !Propagators::NONE.contains(Propagator::Baggage));
    }
}
