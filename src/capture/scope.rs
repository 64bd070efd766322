//! Instrumentation scopes: a tracer's name and attributes, and the small id that a record carries instead.

use std::{borrow::Cow, collections::HashMap, mem, sync::Arc};

use super::attribute::{attribute_field_len, put_attribute, recorded};
use crate::{
    proto::{
        scope::{ATTRIBUTES, NAME, VERSION},
        scope_spans::{SCHEMA_URL, SCOPE},
    },
    sync::locks::Mutex,
    value::KeyValue,
    wire::{Buffer, field_len},
};

/// The part of a program that makes spans: usually a crate or a component
/// ([instrumentation scope](https://opentelemetry.io/docs/specs/otel/common/instrumentation-scope/)).
///
/// A name alone converts into a scope. Tracers with equal scopes share it. Each distinct scope is kept as long as the
/// client lives, so do not make up names per operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    name: Cow<'static, str>,
    version: Cow<'static, str>,
    schema_url: Cow<'static, str>,
    attributes: Vec<KeyValue<'static>>,
}

impl Scope {
    /// Makes a scope with this name; an empty name is allowed.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the version of the instrumented component. Default empty.
    #[must_use]
    pub fn with_version(self, version: impl Into<Cow<'static, str>>) -> Self {
        Self { version: version.into(), ..self }
    }

    /// Sets the URL of the schema that its attribute names follow. Default empty.
    #[must_use]
    pub fn with_schema_url(self, schema_url: impl Into<Cow<'static, str>>) -> Self {
        Self { schema_url: schema_url.into(), ..self }
    }

    /// Adds an attribute of the scope itself; among equal keys, the last wins.
    #[must_use]
    pub fn with_attribute(mut self, attribute: KeyValue<'static>) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// The scope's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scope's version; empty if there is none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The URL of the scope's schema; empty if there is none.
    pub fn schema_url(&self) -> &str {
        &self.schema_url
    }

    /// The scope's attributes, as they were given.
    pub fn attributes(&self) -> &[KeyValue<'static>] {
        &self.attributes
    }

    fn encode(&self) -> EncodedScope {
        let text_len = |text: &str| if text.is_empty() { 0 } else { field_len(text.len()) };
        let message = text_len(&self.name)
            + text_len(&self.version)
            + recorded(&self.attributes).map(attribute_field_len).sum::<usize>();
        let mut head = Buffer::default();
        head.len_head(SCOPE, message);
        for (field, text) in [(NAME, &self.name), (VERSION, &self.version)] {
            if !text.is_empty() {
                head.bytes_field(field, text.as_bytes());
            }
        }
        recorded(&self.attributes).for_each(|entry| put_attribute(&mut head, ATTRIBUTES, &entry.key, &entry.value));
        let mut tail = Buffer::default();
        if !self.schema_url.is_empty() {
            tail.bytes_field(SCHEMA_URL, self.schema_url.as_bytes());
        }
        EncodedScope { head: head.as_slice().into(), tail: tail.as_slice().into() }
    }
}

impl<T: Into<Cow<'static, str>>> From<T> for Scope {
    fn from(name: T) -> Self {
        Self::new(name)
    }
}

/// The fields of `ScopeSpans` around its spans.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct EncodedScope {
    pub(crate) head: Box<[u8]>,
    pub(crate) tail: Box<[u8]>,
}

/// The scopes of one client. Ids are indices; a scope is never removed. An allocator may record spans, and so make
/// tracers: nothing is allocated or freed while the lock is held.
#[derive(Default)]
pub(crate) struct Scopes {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    encoded: Vec<Arc<EncodedScope>>,
    /// Keyed by the encoded form: scopes that the receiver reads alike are one scope.
    ids: HashMap<Arc<EncodedScope>, u32>,
}

impl Table {
    fn with_room(scopes: usize) -> Self {
        Self { encoded: Vec::with_capacity(scopes), ids: HashMap::with_capacity(scopes) }
    }

    /// How many more scopes fit without allocating.
    fn room(&self) -> usize {
        self.encoded.capacity().min(self.ids.capacity())
    }

    /// Moves the content into `larger`, which has room for it, and takes its place.
    fn exchange(&mut self, larger: &mut Self) {
        larger.encoded.append(&mut self.encoded);
        larger.ids.extend(self.ids.drain());
        mem::swap(self, larger);
    }
}

impl Scopes {
    /// The id of `scope`; a new id if no equal scope was seen. Takes a lock and may allocate.
    pub(crate) fn id(&self, scope: &Scope) -> u32 {
        let encoded = Arc::new(scope.encode());
        let mut larger = Table::default();
        loop {
            let mut table = self.table.lock();
            if let Some(id) = table.ids.get(&encoded) {
                return *id;
            }
            let id = table.encoded.len();
            if larger.room() > id {
                table.exchange(&mut larger);
            }
            if table.room() > id {
                table.ids.insert(Arc::clone(&encoded), id as u32);
                table.encoded.push(Arc::clone(&encoded));
                return id as u32;
            }
            drop(table);
            larger = Table::with_room(2 * id + 4);
        }
    }

    pub(crate) fn get(&self, id: u32) -> Arc<EncodedScope> {
        Arc::clone(&self.table.lock().encoded[id as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scopes_share_an_id_and_different_ones_do_not() {
        // ENC-07
        let scopes = Scopes::default();
        let plain = scopes.id(&"a".into());
        assert_eq!(scopes.id(&Scope::new("a")), plain);
        let others = [
            Scope::new("a").with_version("1"),
            Scope::new("a").with_schema_url("https://example.com/1"),
            Scope::new("a").with_attribute(KeyValue::new("k", 1)),
            Scope::new("b"),
        ];
        let mut ids: Vec<_> = others.iter().map(|scope| scopes.id(scope)).collect();
        ids.push(plain);
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2, 3, 4]);
    }
}
