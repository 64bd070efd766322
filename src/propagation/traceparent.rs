//! W3C Trace Context: `traceparent`, the ids and flags of a span in 55 characters, and `tracestate` beside it.

use super::{
    Extractor, Injector, TRACEPARENT, TRACESTATE,
    carrier::{get_all, set},
};
use crate::capture::{SpanContext, SpanId, TraceId, TraceState};

/// The length of version 00, and of the part of later versions that is known today.
const LENGTH: usize = 55;

pub(super) fn inject(context: &SpanContext, carrier: &mut (impl Injector + ?Sized)) {
    if !context.is_valid() {
        return;
    }
    set(carrier, TRACEPARENT, write(context));
    if !context.trace_state().is_empty() {
        set(carrier, TRACESTATE, context.trace_state().to_string());
    }
}

pub(super) fn extract(carrier: &(impl Extractor + ?Sized)) -> Option<SpanContext> {
    let [header] = get_all(carrier, TRACEPARENT)[..] else { return None };
    let context = read(header)?;
    // Several headers are one list.
    let state = TraceState::parse(&get_all(carrier, TRACESTATE).join(","));
    Some(context.with_trace_state(state.unwrap_or_default()))
}

/// Version 00, with the flags that are defined.
fn write(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
}

/// Reads version 00 and, as far as it is known, what comes after it. Spaces and tabs around it do not count.
fn read(header: &str) -> Option<SpanContext> {
    let header = header.trim_matches([' ', '\t']);
    let (known, later) = header.split_at_checked(LENGTH)?;
    let version = byte(known.get(..2)?)?;
    let is_of_its_version = match version {
        0 => later.is_empty(),
        0xff => false,
        _ => later.is_empty() || later.starts_with('-'),
    };
    let are_dashes = [2, 35, 52].iter().all(|at| known.as_bytes()[*at] == b'-');
    if !is_of_its_version || !are_dashes {
        return None;
    }
    let trace_id = TraceId::from_hex(known.get(3..35)?)?;
    let span_id = SpanId::from_hex(known.get(36..52)?)?;
    let context = SpanContext::new(trace_id, span_id, byte(known.get(53..)?)?, true);
    context.is_valid().then_some(context)
}

/// Exactly two lowercase hex digits.
fn byte(digits: &str) -> Option<u8> {
    let are_digits = digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    are_digits.then(|| u8::from_str_radix(digits, 16).ok())?
}
