//! A trace as text: who called whom, when, and for how long.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use super::exchange::ReceivedSpan;

/// All lines together, the head and the "... n more" included.
const LINES: usize = 60;
const BAR: usize = 40;
/// The longest indented name that is shown whole, in characters.
const NAME: usize = 40;
/// Deeper spans are not indented further.
const DEPTH: usize = 12;

/// Draws one trace: the one the first span belongs to. Spans of other traces are left out.
///
/// One line says which trace it is, how many spans it has and how long it took from the first start to the last
/// end. Then comes one line per span, below its parent and indented by two: `!` if its status is an error, its
/// name, a bar of at most 40 characters scaled to the trace, its duration and its events as `·name`. Children come
/// in the order of their starts; a span whose parent is not among `spans` is shown as a root. At most 60 lines are
/// drawn, the last of which then says how many spans are missing. Without spans the text is empty.
///
/// ```text
/// trace 0af7651916cd43dd8448eb211c80319c: 3 spans, 12.0 ms
///   checkout  ████████████████████████████████████████  12.0 ms
///     cart    ██████████                                3.00 ms  ·cache miss
/// !   charge            ██████████████████████████████  9.00 ms
/// ```
#[must_use]
pub fn waterfall(spans: &[ReceivedSpan]) -> String {
    let Some(first) = spans.first() else { return String::new() };
    let trace_id = &first.span.trace_id;
    let mut spans: Vec<&Span> =
        spans.iter().map(|received| &received.span).filter(|span| span.trace_id == *trace_id).collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let start = spans[0].start_time_unix_nano;
    let length = spans.iter().map(|span| span.end_time_unix_nano).max().unwrap_or(start).saturating_sub(start);

    let mut text = format!("trace {}: {} spans, {}\n", hex(trace_id), spans.len(), duration(length));
    let shown = if spans.len() < LINES { spans.len() } else { LINES - 2 };
    let rows: Vec<_> =
        tree(&spans).into_iter().take(shown).map(|(index, depth)| (spans[index], label(spans[index], depth))).collect();
    let width = rows.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
    for (span, label) in rows {
        let failed = span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
        let bar = bar(span, start, length);
        let took = duration(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
        let mark = if failed { '!' } else { ' ' };
        let _ = write!(text, "{mark} {label:width$}  {bar:BAR$}  {took}");
        for (index, event) in span.events.iter().enumerate() {
            let _ = write!(text, "{}·{}", if index == 0 { "  " } else { " " }, printable(&event.name));
        }
        text.push('\n');
    }
    if spans.len() > shown {
        let _ = writeln!(text, "... {} more", spans.len() - shown);
    }
    text
}

/// Every span once, with its depth, parents before children. `spans` are in the order of their starts.
fn tree(spans: &[&Span]) -> Vec<(usize, usize)> {
    let known: HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
    let mut children: HashMap<_, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        match known.contains(&span.parent_span_id) {
            true => children.entry(&span.parent_span_id).or_default().push(index),
            false => roots.push(index),
        }
    }
    let mut lines = Vec::with_capacity(spans.len());
    let mut seen = vec![false; spans.len()];
    // Spans that are their own ancestors have no root: what the roots do not reach starts a tree of its own.
    for root in roots.into_iter().chain(0..spans.len()) {
        let mut stack = vec![(root, 0)];
        while let Some((index, depth)) = stack.pop() {
            if !std::mem::replace(&mut seen[index], true) {
                lines.push((index, depth));
                // Of spans that share an id, the first has them all.
                let below = children.remove(&spans[index].span_id).unwrap_or_default();
                stack.extend(below.into_iter().rev().map(|child| (child, depth + 1)));
            }
        }
    }
    lines
}

fn label(span: &Span, depth: usize) -> String {
    let label = format!("{:indent$}{}", "", printable(&span.name), indent = 2 * depth.min(DEPTH));
    match label.char_indices().nth(NAME) {
        Some(_) => label.chars().take(NAME - 1).chain(['…']).collect(),
        None => label,
    }
}

/// From the span's start to its end, at least one character, on a scale where the trace has `BAR`.
fn bar(span: &Span, start: u64, length: u64) -> String {
    let position = |nanos: u64| {
        let offset = nanos.saturating_sub(start).min(length);
        // Rounded to the nearest character.
        let scaled = (u128::from(offset) * BAR as u128 * 2 + u128::from(length)) / (u128::from(length.max(1)) * 2);
        usize::try_from(scaled).unwrap_or(BAR).min(BAR)
    };
    let from = position(span.start_time_unix_nano).min(BAR - 1);
    let to = position(span.end_time_unix_nano).max(from + 1);
    format!("{:from$}{}", "", "█".repeat(to - from))
}

/// Three digits and the unit that fits: `12.3 ms`.
fn duration(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..999_500 => (nanos as f64 / 1e3, "µs"),
        999_500..999_500_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A name comes from outside: control characters would break the lines or steer the terminal.
fn printable(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::{Status, span::Event};

    use super::*;

    const MILLI: u64 = 1_000_000;

    /// A span from `start` to `end`, in milliseconds.
    fn span(name: &str, id: u8, parent: u8, start: u64, end: u64) -> ReceivedSpan {
        let span = Span {
            trace_id: vec![0xab; 16],
            span_id: vec![id; 8],
            parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
            name: name.to_owned(),
            start_time_unix_nano: 1_000_000 * MILLI + start * MILLI,
            end_time_unix_nano: 1_000_000 * MILLI + end * MILLI,
            ..Span::default()
        };
        ReceivedSpan { resource: Vec::new(), scope: Default::default(), span }
    }

    fn names(text: &str) -> Vec<&str> {
        text.lines().skip(1).map(|line| line.split('█').next().unwrap().trim_end()).collect()
    }

    #[test]
    fn a_small_tree_is_drawn_to_scale() {
        let mut charge = span("charge", 3, 1, 3, 12);
        charge.span.status = Some(Status { code: StatusCode::Error as i32, ..Status::default() });
        let mut cart = span("cart", 2, 1, 0, 3);
        cart.span.events =
            ["cache miss", "full"].map(|name| Event { name: name.to_owned(), ..Event::default() }).to_vec();
        let spans = [charge, cart, span("checkout", 1, 0, 0, 12)];
        assert_eq!(
            waterfall(&spans),
            "\
trace abababababababababababababababab: 3 spans, 12.0 ms
  checkout  ████████████████████████████████████████  12.0 ms
    cart    ██████████                                3.00 ms  ·cache miss ·full
!   charge            ██████████████████████████████  9.00 ms
"
        );
    }

    #[test]
    fn orphans_and_cycles_are_shown_as_roots() {
        let spans =
            [span("orphan", 1, 99, 0, 1), span("a", 2, 3, 1, 2), span("b", 3, 2, 2, 3), span("own", 4, 4, 3, 4)];
        assert_eq!(names(&waterfall(&spans)), ["  orphan", "  a", "    b", "  own"]);
    }

    #[test]
    fn children_come_in_the_order_of_their_starts_below_their_parent() {
        let spans =
            [span("late", 2, 1, 5, 6), span("early", 3, 1, 1, 2), span("leaf", 4, 3, 1, 2), span("root", 1, 0, 0, 9)];
        assert_eq!(names(&waterfall(&spans)), ["  root", "    early", "      leaf", "    late"]);
    }

    #[test]
    fn a_large_trace_ends_with_the_number_of_spans_left_out() {
        let spans: Vec<_> = (0..100).map(|index| span("s", index + 1, index, u64::from(index), 100)).collect();
        let text = waterfall(&spans);
        assert_eq!(text.lines().count(), 60);
        assert_eq!(text.lines().last(), Some("... 42 more"));
        assert_eq!(waterfall(&spans[..59]).lines().count(), 60);
    }

    #[test]
    fn other_traces_are_left_out_and_no_spans_give_no_text() {
        let mut other = span("other", 2, 0, 0, 1);
        other.span.trace_id = vec![1; 16];
        assert_eq!(names(&waterfall(&[span("mine", 1, 0, 0, 1), other])), ["  mine"]);
        assert_eq!(waterfall(&[]), "");
    }

    #[test]
    fn odd_names_and_times_do_not_break_the_picture() {
        let mut backwards = span("backwards", 2, 1, 1, 0);
        backwards.span.start_time_unix_nano = u64::MAX;
        let long = "x".repeat(100);
        let text = waterfall(&[span("two\nlines", 1, 0, 0, 0), backwards, span(&long, 3, 1, 0, 0)]);
        assert_eq!(text.lines().count(), 4);
        assert!(text.contains("two\u{fffd}lines") && text.contains("xxx…"), "{text}");
    }

    #[test]
    fn durations_have_three_digits_and_the_unit_that_fits() {
        let texts = [0, 999, 1_500, 12_345, 999_499, 999_500, 12_345_678, 61 * 1_000_000_000].map(duration);
        assert_eq!(texts, ["0 ns", "999 ns", "1.50 µs", "12.3 µs", "999 µs", "1.00 ms", "12.3 ms", "61.0 s"]);
    }
}
