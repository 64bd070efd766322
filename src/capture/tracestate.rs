//! `tracestate`: what tracing systems tell each other besides the ids, as a short list of keys and values.

use std::{borrow::Cow, fmt, sync::Arc};

/// The most members of one list.
const MOST_MEMBERS: usize = 32;

/// OpenTelemetry's member, and its sub-keys for the rejection threshold and for explicit randomness.
const OPENTELEMETRY: &str = "ot";
const THRESHOLD: &str = "th";
const RANDOM_VALUE: &str = "rv";

/// The number of digits of a threshold and of a random value: 56 bits.
const DIGITS: usize = 14;

/// Stands for no threshold, and so for no member; real thresholds have 56 bits.
const NONE: u64 = u64::MAX;

/// Bytes of the longest list that is not kept as text: `ot=th:` and all digits.
pub(super) const INLINE_BYTES: usize = 6 + DIGITS;

/// The W3C [`tracestate`](https://www.w3.org/TR/trace-context-2/#tracestate-header) of a trace: at most 32 members,
/// each with a key of its own.
///
/// A trace state never changes: methods that would change it return a new one. Cloning never allocates; without
/// members, or with only a sampling threshold (`ot=th:…`), it touches no memory that threads share.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceState(Members);

/// Each list has exactly one form, so lists are equal if their texts are.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Members {
    /// No member, or only `ot` with only a threshold: this crate's own sampling needs no allocation.
    Threshold(u64),
    /// The text as it is sent: without spaces around the members, and without empty members.
    List(Arc<str>),
}

impl TraceState {
    /// The trace state without members. Also the `Default`.
    pub const EMPTY: Self = Self(Members::Threshold(NONE));

    /// Parses a header, or several headers joined with commas. Spaces and tabs around the members and empty members are
    /// left out. Among members with the same key, the first counts.
    ///
    /// Returns `None` if there are more than 32 members, or one of them is malformed.
    pub fn parse(header: &str) -> Option<Self> {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for member in header.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || members.len() == MOST_MEMBERS {
                return None;
            }
            members.push((key, value));
        }
        Some(Self::of(members.into_iter()))
    }

    /// Makes a list of valid members: the first with each key, and at most 32.
    fn of<'m>(members: impl Iterator<Item = (&'m str, &'m str)>) -> Self {
        let mut list: Vec<(&str, &str)> = Vec::new();
        for (key, value) in members {
            if list.len() < MOST_MEMBERS && list.iter().all(|(known, _)| *known != key) {
                list.push((key, value));
            }
        }
        if let [(OPENTELEMETRY, value)] = list[..]
            && let Some(digits) = value.strip_prefix("th:")
            && let Some(threshold) = hex(digits)
            && Self::from_threshold(threshold).header() == format!("ot={value}")
        {
            return Self::from_threshold(threshold);
        }
        if list.is_empty() {
            return Self::EMPTY;
        }
        let list: Vec<_> = list.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self(Members::List(list.join(",").into()))
    }

    /// A trace state with only a sampling threshold, of 56 bits.
    #[inline]
    pub(crate) const fn from_threshold(threshold: u64) -> Self {
        Self(Members::Threshold(threshold & ((1 << 56) - 1)))
    }

    /// Returns this trace state with this sampling threshold. The rest of the `ot` member is kept, unless it would grow
    /// too long.
    pub(crate) fn with_threshold(&self, threshold: u64) -> Self {
        let Members::List(_) = self.0 else { return Self::from_threshold(threshold) };
        let Self(Members::Threshold(threshold)) = Self::from_threshold(threshold) else { return self.clone() };
        let mut scratch = [0; INLINE_BYTES];
        let mut value = write_threshold(threshold, &mut scratch)["ot=".len()..].to_owned();
        if let Some(old) = self.get(OPENTELEMETRY) {
            for other in old.split(';').filter(|part| !part.is_empty() && part.split(':').next() != Some(THRESHOLD)) {
                value.push(';');
                value.push_str(other);
            }
        }
        self.insert(OPENTELEMETRY, &value).unwrap_or_else(|| self.clone())
    }

    /// Returns this trace state without a sampling threshold. The rest of the `ot` member is kept.
    pub(crate) fn without_threshold(&self) -> Self {
        let Members::List(_) = self.0 else { return Self::EMPTY };
        let Some(old) = self.get(OPENTELEMETRY) else { return self.clone() };
        let is_threshold = |part: &&str| part.split(':').next() == Some(THRESHOLD);
        if !old.split(';').any(|part| is_threshold(&part)) {
            return self.clone();
        }
        let others: Vec<_> = old.split(';').filter(|part| !part.is_empty() && !is_threshold(part)).collect();
        self.insert(OPENTELEMETRY, &others.join(";")).unwrap_or_else(|| self.delete(OPENTELEMETRY))
    }

    /// The sampling threshold, `th` of the `ot` member; `None` if it is missing or malformed.
    pub(crate) fn threshold(&self) -> Option<u64> {
        if let Members::Threshold(threshold) = self.0 {
            return (threshold != NONE).then_some(threshold);
        }
        let own = self.get(OPENTELEMETRY)?;
        hex(own.split(';').find_map(|part| part.strip_prefix(THRESHOLD)?.strip_prefix(':'))?)
    }

    /// The explicit randomness of the trace, `rv` of the `ot` member; `None` unless it has exactly 14 hex digits.
    pub(crate) fn random_value(&self) -> Option<u64> {
        let Members::List(_) = self.0 else { return None };
        let own = self.get(OPENTELEMETRY)?;
        let digits = own.split(';').find_map(|part| part.strip_prefix(RANDOM_VALUE)?.strip_prefix(':'))?;
        if digits.len() == DIGITS { hex(digits) } else { None }
    }

    /// Whether there is no member.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        matches!(self.0, Members::Threshold(NONE))
    }

    /// The value of `key`, if there is such a member.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        match self.header() {
            Cow::Borrowed(list) => members(list).find(|(known, _)| *known == key).map(|(_, value)| value.into()),
            Cow::Owned(list) => {
                members(&list).find(|(known, _)| *known == key).map(|(_, value)| value.to_owned().into())
            }
        }
    }

    /// Returns this trace state with `key` set to `value`, as the first member. If there are 32 others already, the
    /// last one is removed.
    ///
    /// Returns `None` if W3C does not allow the key or the value. A key begins with a lowercase letter or a digit,
    /// continues with those and `_-*/@`, and has at most 256 characters. A value has 1 to 256 printable ASCII
    /// characters except `,` and `=`, and does not end with a space. Allocates.
    #[must_use]
    pub fn insert(&self, key: &str, value: &str) -> Option<Self> {
        if !is_key(key) || !is_value(value) {
            return None;
        }
        let header = self.header();
        Some(Self::of(std::iter::once((key, value)).chain(members(&header).filter(|(known, _)| *known != key))))
    }

    /// Returns this trace state without `key`.
    #[must_use]
    pub fn delete(&self, key: &str) -> Self {
        let header = self.header();
        Self::of(members(&header).filter(|(known, _)| *known != key))
    }

    /// The value of the `tracestate` header; empty if there is no member, and then no header is sent.
    pub fn header(&self) -> Cow<'_, str> {
        match &self.0 {
            Members::Threshold(_) => self.text(&mut [0; INLINE_BYTES]).to_owned().into(),
            Members::List(list) => Cow::Borrowed(list),
        }
    }

    /// The header; written into `scratch` if it is not kept as text.
    pub(super) fn text<'a>(&'a self, scratch: &'a mut [u8; INLINE_BYTES]) -> &'a str {
        match &self.0 {
            Members::Threshold(NONE) => "",
            Members::Threshold(threshold) => write_threshold(*threshold, scratch),
            Members::List(list) => list,
        }
    }
}

/// `ot=th:` and the digits of `threshold`, without zeros at the end.
fn write_threshold(threshold: u64, to: &mut [u8; INLINE_BYTES]) -> &str {
    to[..6].copy_from_slice(b"ot=th:");
    let mut end = 7;
    for (at, digit) in to[6..].iter_mut().enumerate() {
        let nibble = (threshold >> (4 * (DIGITS - 1 - at)) & 15) as usize;
        *digit = b"0123456789abcdef"[nibble];
        if nibble != 0 {
            end = 7 + at;
        }
    }
    str::from_utf8(&to[..end]).unwrap_or_default()
}

/// Reads 1 to 14 lowercase hex digits, as if zeros followed up to 14.
fn hex(digits: &str) -> Option<u64> {
    let are_digits = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !are_digits || !(1..=DIGITS).contains(&digits.len()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().map(|value| value << (4 * (DIGITS - digits.len())))
}

fn members(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(',').filter_map(|member| member.split_once('='))
}

fn is_key(key: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=256).contains(&key.len())
        && key.bytes().next().is_some_and(is_first)
        && key.bytes().all(|byte| is_first(byte) || b"_-*/@".contains(&byte))
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
        && !value.ends_with(' ')
}

impl Default for TraceState {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Writes the value of the header.
impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text(&mut [0; INLINE_BYTES]))
    }
}

/// Writes the value of the header, in quotes.
impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(&mut [0; INLINE_BYTES]), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(header: &str) -> TraceState {
        TraceState::parse(header).unwrap_or_else(|| panic!("{header:?} is valid"))
    }

    #[test]
    fn a_header_is_read_member_by_member_and_written_as_it_was() {
        // W3C-08, W3C-09, W3C-10
        for header in [
            "foo=1",
            "foo=1,bar=2",
            "foo@=1,foo@@bar=2,t@vvvvvvvvvvvvvvv=3",
            "0a=  x",
            "a= !\"#$%&'()*+-./:;<>?@[]^_`{|}~",
        ] {
            assert_eq!(parsed(header).header(), header);
        }
        assert_eq!(parsed("foo=1 \t , \t,, bar=2,").header(), "foo=1,bar=2");
        assert_eq!(parsed("foo=  x").get("foo").as_deref(), Some("  x"));
        let longest = format!("{}={}", "k".repeat(256), "v".repeat(256));
        assert_eq!(parsed(&longest).header(), longest);
        for empty in ["", " ", ",", "\t,  ,"] {
            assert!(parsed(empty).is_empty() && parsed(empty) == TraceState::EMPTY);
        }
    }

    #[test]
    fn one_malformed_member_discards_the_whole_header() {
        // W3C-07, W3C-09, W3C-10, W3C-11
        for header in [
            "foo", "foo=", "=1", "a=b=c", "@foo=1", "FOO=1", "foo =1", "a=é", "é=a", "a=\u{7f}", "a=b\tc", "a=\tb",
            "===",
        ] {
            assert_eq!(TraceState::parse(&format!("fine=1,{header}")), None, "{header}");
        }
        for header in [format!("{}=1", "k".repeat(257)), format!("k={}", "v".repeat(257))] {
            assert_eq!(TraceState::parse(&header), None);
        }
    }

    #[test]
    fn thirty_two_members_are_taken_and_thirty_three_are_not() {
        // W3C-11
        let list = |count: usize| (0..count).map(|at| format!("k{at}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(parsed(&list(32)).header(), list(32));
        assert_eq!(TraceState::parse(&list(33)), None);
        let added = parsed(&list(32)).insert("new", "1").unwrap();
        assert_eq!(added.header(), format!("new=1,{}", list(31)));
        assert_eq!(parsed(&list(32)).insert("k31", "2").unwrap().header(), format!("k31=2,{}", list(31)));
    }

    #[test]
    fn what_is_changed_moves_to_the_front_and_the_old_list_stays_as_it_was() {
        // W3C-12
        let list = parsed("a=1,b=2,c=3");
        assert_eq!(list.insert("b", "x").unwrap().header(), "b=x,a=1,c=3");
        assert_eq!(list.insert("d", "4").unwrap().header(), "d=4,a=1,b=2,c=3");
        assert_eq!(list.delete("a").header(), "b=2,c=3");
        assert_eq!(list.delete("unknown"), list);
        assert_eq!(list.header(), "a=1,b=2,c=3");
        assert_eq!((list.get("b").as_deref(), list.get("B")), (Some("2"), None));
        for (key, value) in [("B", "1"), ("", "1"), ("b", ""), ("b", "1,c=2"), ("b", "1 "), ("b", "é")] {
            assert_eq!(list.insert(key, value), None, "{key}={value}");
        }
        assert_eq!(parsed("a=1,b=2,a=3").header(), "a=1,b=2");
        assert!(parsed("a=1").delete("a").is_empty());
    }

    #[test]
    fn a_header_of_many_characters_is_kept_whole() {
        // W3C-13
        let long = format!("a={},b={},c={}", "1".repeat(250), "2".repeat(250), "3".repeat(250));
        assert_eq!(parsed(&long).header(), long);
    }

    #[test]
    fn a_lone_threshold_reads_as_any_other_member() {
        // SMP-11
        for (threshold, header) in
            [(0, "ot=th:0"), (0xc0 << 48, "ot=th:c"), (0xfd_70a0 << 32, "ot=th:fd70a"), (1, "ot=th:00000000000001")]
        {
            let state = TraceState::from_threshold(threshold);
            assert_eq!((state.header().as_ref(), state.to_string().as_str()), (header, header));
            assert_eq!(parsed(header), state);
            assert!(matches!(parsed(header).0, Members::Threshold(_)), "{header}");
            assert_eq!(state.get("ot").as_deref(), header.strip_prefix("ot="));
            assert_eq!(state.insert("a", "1").unwrap().header(), format!("a=1,{header}"));
            assert_eq!(state.insert("a", "1").unwrap().delete("a"), state);
        }
        for header in ["ot=th:c0", "ot=th:C", "ot=th:", "ot=th:000000000000001", "ot=th:c;rv:1"] {
            assert_eq!(parsed(header).header(), header, "kept as it is");
        }
    }

    #[test]
    fn a_threshold_leaves_the_other_sub_keys_alone() {
        // SMP-11
        let state = parsed("a=1,ot=p:8;th:4;rv:00000000000abc").with_threshold(0x80 << 48);
        assert_eq!(state.header(), "ot=th:8;p:8;rv:00000000000abc,a=1");
        assert_eq!(state.random_value(), Some(0xabc));
        assert_eq!(TraceState::EMPTY.with_threshold(0x80 << 48).header(), "ot=th:8");
        let full = parsed(&format!("ot=x:{}", "y".repeat(254)));
        assert_eq!(full.with_threshold(1), full, "no room");
        for header in ["ot=rv:abc", "ot=rv:00000000000abcd", "ot=rv:00000000000ABC", "b=rv:00000000000abc"] {
            assert_eq!(parsed(header).random_value(), None, "{header}");
        }
    }

    #[test]
    fn it_adds_two_words_to_a_context() {
        assert_eq!(size_of::<TraceState>(), 16);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_as_it_reads(header in "[ \t,=a-cA;:@é0-9]{0,40}|ot=th:[0-9a-f]{1,15}") {
            if let Some(state) = TraceState::parse(&header) {
                let again = TraceState::parse(&state.header());
                prop_assert_eq!(again.as_ref(), Some(&state));
                let keys: Vec<_> = header.split(',').filter_map(|member| Some(member.trim_matches([' ', '\t']).split_once('=')?.0)).collect();
                for key in keys {
                    prop_assert!(state.get(key).is_some());
                }
            }
        }
    }
}
