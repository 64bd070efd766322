//! Baggage: names and values that travel along with a trace.

use std::{borrow::Cow, fmt};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{
    BAGGAGE, Extractor, Injector,
    carrier::{get_all, set},
};

/// What W3C lets everybody rely on: more may be dropped on the way.
const MOST_MEMBERS: usize = 64;
const MOST_BYTES: usize = 8192;

/// What a value may not hold as it is. Beyond ASCII nothing may stand as it is either.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// The [baggage](https://opentelemetry.io/docs/specs/otel/baggage/api/) of a process or a request: text by name, for
/// whoever works on it next. It is not recorded in spans. [`enter`](Self::enter) makes it current on a thread.
///
/// It never changes: what would change it answers a new one. Names and values are case-sensitive, and values may be any
/// text. A name that is no token of HTTP (letters, digits and `` !#$%&'*+-.^_`|~ ``) is kept, and left out when the
/// baggage is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baggage {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    value: String,
    /// What stands behind the first `;`, as it is.
    metadata: String,
}

impl Baggage {
    /// Reads a header, or several that were joined with commas. Members that are malformed are left out, as is what
    /// goes beyond 64 members or 8192 bytes; of members with one name the last counts. What is not UTF-8 in a value
    /// becomes U+FFFD.
    pub fn parse(header: &str) -> Self {
        Self::read(header).0
    }

    /// As `parse`, and whether nothing was left out.
    pub(super) fn read(header: &str) -> (Self, bool) {
        let (mut baggage, mut is_whole, mut bytes) = (Self::default(), true, 0);
        for member in header.split(',') {
            bytes += member.len() + 1;
            let member = trimmed(member);
            if member.is_empty() {
                continue;
            }
            let entry = (bytes <= MOST_BYTES + 1).then(|| Entry::parse(member)).flatten();
            match entry {
                Some(entry) if baggage.entries.len() < MOST_MEMBERS || baggage.get(&entry.name).is_some() => {
                    baggage.put(entry);
                }
                _ => is_whole = false,
            }
        }
        (baggage, is_whole)
    }

    /// Reads the baggage that a carrier holds, whatever the [propagators](super::Propagators) of the process are;
    /// several headers are one list.
    pub fn extract(carrier: &(impl Extractor + ?Sized)) -> Self {
        Self::parse(&get_all(carrier, BAGGAGE).join(","))
    }

    /// Writes the baggage into a carrier, if there is anything to write, whatever the [propagators](super::Propagators)
    /// of the process are.
    pub fn inject(&self, carrier: &mut (impl Injector + ?Sized)) {
        let header = self.to_string();
        if !header.is_empty() {
            set(carrier, BAGGAGE, header);
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| entry.value.as_str())
    }

    /// What is said about the value of `name`, as it was received or set; empty if nothing.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| entry.metadata.as_str())
    }

    /// Every name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.value.as_str()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// This baggage with `name` set to `value`, in place of the value and the metadata it has.
    #[must_use]
    pub fn insert(&self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.insert_with_metadata(name, value, "")
    }

    /// This baggage with `name` set to `value` and something said about it: properties of W3C Baggage, `key` or `key=value`
    /// with `;` between them. Metadata that no header may hold is left out when the baggage is sent.
    #[must_use]
    pub fn insert_with_metadata(
        &self,
        name: impl Into<String>,
        value: impl Into<String>,
        metadata: impl Into<String>,
    ) -> Self {
        let mut changed = self.clone();
        changed.put(Entry { name: name.into(), value: value.into(), metadata: metadata.into() });
        changed
    }

    /// This baggage without `name`.
    #[must_use]
    pub fn delete(&self, name: &str) -> Self {
        Self { entries: self.entries.iter().filter(|entry| entry.name != name).cloned().collect() }
    }

    fn put(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|known| known.name == entry.name) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }
}

impl Entry {
    fn parse(member: &str) -> Option<Self> {
        let (pair, metadata) = member.split_once(';').unwrap_or((member, ""));
        let (name, value) = pair.split_once('=')?;
        let (name, value, metadata) = (trimmed(name), trimmed(value), trimmed(metadata));
        let is_valid = is_token(name) && is_printable(value) && is_printable(metadata);
        is_valid.then(|| Self {
            name: name.to_owned(),
            value: percent_decode_str(value).decode_utf8_lossy().into_owned(),
            metadata: metadata.to_owned(),
        })
    }

    /// As it is sent; `None` if it cannot be.
    fn member(&self) -> Option<String> {
        let value = Cow::from(utf8_percent_encode(&self.value, ENCODED));
        let metadata = trimmed(&self.metadata);
        let is_sent = !metadata.is_empty() && is_printable(metadata) && !metadata.contains(',');
        let metadata = if is_sent { format!(";{metadata}") } else { String::new() };
        is_token(&self.name).then(|| format!("{}={value}{metadata}", self.name))
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The token of RFC 7230.
fn is_token(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

/// What a header may hold.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

/// The header: as many whole members as fit into 64 members and 8192 bytes.
impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut members, mut bytes) = (Vec::new(), 0);
        for member in self.entries.iter().filter_map(Entry::member) {
            let separator = usize::from(!members.is_empty());
            if members.len() < MOST_MEMBERS && bytes + separator + member.len() <= MOST_BYTES {
                bytes += separator + member.len();
                members.push(member);
            }
        }
        f.pad(&members.join(","))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_set_replaced_and_removed_and_the_old_baggage_stays() {
        // BAG-01, BAG-02
        let first = Baggage::default().insert("user", "B% 💼").insert("User", "other");
        let second = first.insert("user", "2").delete("User");
        assert_eq!((first.get("user"), first.get("User"), first.get("nobody")), (Some("B% 💼"), Some("other"), None));
        assert_eq!(second.iter().collect::<Vec<_>>(), [("user", "2")]);
        assert!(second.delete("user").is_empty() && Baggage::default().is_empty());
        assert_eq!(Baggage::parse("a=1,b=2,a=3;m").insert("c", "4").to_string(), "a=3;m,b=2,c=4");
    }

    #[test]
    fn values_are_percent_encoded_where_a_header_needs_it() {
        // BAG-03
        let sent = Baggage::default().insert("k", "50% ü,;\"\\=\u{7f}").to_string();
        assert_eq!(sent, "k=50%25%20%C3%BC%2C%3B%22%5C=%7F");
        assert_eq!(Baggage::parse(&sent).get("k"), Some("50% ü,;\"\\=\u{7f}"));
        assert_eq!(Baggage::parse("a=%FF").get("a"), Some("\u{fffd}"));
        assert_eq!(Baggage::parse("a=50%").get("a"), Some("50%"));
    }

    #[test]
    fn spaces_around_the_parts_of_a_member_are_left_out() {
        // BAG-04, BAG-05
        let baggage = Baggage::parse("k = v=w ; p = 1 , k2=x,, \tk3\t=\ty\t;a;b=1\t");
        assert_eq!(baggage.iter().collect::<Vec<_>>(), [("k", "v=w"), ("k2", "x"), ("k3", "y")]);
        assert_eq!(baggage.metadata("k"), Some("p = 1"));
        assert_eq!(Baggage::parse("k=v;a;b=1").to_string(), "k=v;a;b=1");
        let said = Baggage::default().insert_with_metadata("k", "v", "bad,member=1").insert_with_metadata("l", "", "a");
        assert_eq!(said.to_string(), "k=v,l=;a");
    }

    #[test]
    fn a_member_that_is_malformed_costs_only_itself() {
        // BAG-07
        for header in ["a", "=1", "a b=1", "a=é", "é=1", "a\0=1", "a=\0", "a=1;\u{1b}"] {
            let baggage = Baggage::parse(&format!("before=1,{header},after=2"));
            assert_eq!(baggage.iter().collect::<Vec<_>>(), [("before", "1"), ("after", "2")], "{header:?}");
        }
        let named = Baggage::default().insert("a b", "1").insert("ключ", "2").insert("", "3").insert("fine", "4");
        assert_eq!(named.to_string(), "fine=4");
        assert_eq!(named.get("ключ"), Some("2"));
    }

    #[test]
    fn sixty_four_members_and_8192_bytes_travel_whole_and_never_a_part_of_a_member() {
        // BAG-06
        let small = (0..64).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(Baggage::parse(&small).to_string(), small);
        assert_eq!(Baggage::parse(&format!("{small},k64=v")).to_string(), small);
        let large = format!("a={},b={}", "1".repeat(4000), "2".repeat(8192 - 4000 - 5));
        assert_eq!(large.len(), 8192);
        assert_eq!(Baggage::parse(&large).to_string(), large);
        let more = Baggage::parse(&large).insert("c", "3");
        assert_eq!((more.to_string(), more.get("c")), (large.clone(), Some("3")));
        let ten = (0..10).map(|at| format!("k{at}={}", "v".repeat(1020))).collect::<Vec<_>>();
        assert_eq!(Baggage::parse(&ten.join(",")).to_string(), ten[..8].join(",")[..8 * 1024 - 1].to_owned());
    }

    #[test]
    fn several_headers_are_one_list_and_nothing_is_sent_for_nothing() {
        // BAG-06, CTX-05
        let headers = [("baggage", "a=1"), ("Baggage", "b=2;m")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let baggage = Baggage::extract(&headers.to_vec());
        let mut sent = HashMap::new();
        baggage.inject(&mut sent);
        assert_eq!(sent["baggage"], "a=1,b=2;m");
        sent.clear();
        Baggage::default().inject(&mut sent);
        assert!(sent.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(values in prop::collection::vec("\\PC{0,20}", 0..8)) {
            // BAG-01, BAG-03
            let mut baggage = Baggage::default();
            for (at, value) in values.iter().enumerate() {
                baggage = baggage.insert(format!("k{at}"), value);
            }
            let header = baggage.to_string();
            prop_assert!(header.bytes().all(|byte| matches!(byte, b'!'..=b'~')));
            prop_assert_eq!(Baggage::parse(&header), baggage);
        }

        #[test]
        fn whatever_arrives_is_sent_as_a_valid_header(header in "\\PC{0,60}|([a-c ]=[ -~]{0,9},){0,6}") {
            // BAG-07
            let (baggage, _) = Baggage::read(&header);
            let sent = baggage.to_string();
            prop_assert!(is_printable(&sent));
            let again = Baggage::parse(&sent);
            prop_assert_eq!(again.iter().collect::<Vec<_>>(), baggage.iter().collect::<Vec<_>>());
        }
    }
}
