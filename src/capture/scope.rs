//! Instrumentation scopes: what a tracer is called, and the small id a record carries instead.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::attribute::{attribute_field_len, put_attribute, recorded};
use crate::{
    sync::locks::Mutex,
    value::KeyValue,
    wire::{Buffer, field_len},
};

/// The part of a program that makes spans: usually a crate or a component
/// ([instrumentation scope](https://opentelemetry.io/docs/specs/otel/common/instrumentation-scope/)).
///
/// A name alone converts into one. Tracers with equal scopes share it; each distinct scope is kept as long as
/// the client, so names should not be made up per operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    name: Cow<'static, str>,
    version: Cow<'static, str>,
    schema_url: Cow<'static, str>,
    attributes: Vec<KeyValue<'static>>,
}

impl Scope {
    /// A scope with this name; an empty one is allowed.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The version of the instrumented component.
    pub fn with_version(self, version: impl Into<Cow<'static, str>>) -> Self {
        Self { version: version.into(), ..self }
    }

    /// The schema its attribute names follow.
    pub fn with_schema_url(self, schema_url: impl Into<Cow<'static, str>>) -> Self {
        Self { schema_url: schema_url.into(), ..self }
    }

    /// An attribute of the scope itself; of equal keys the last wins.
    pub fn with_attribute(mut self, attribute: KeyValue<'static>) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version; empty if there is none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its schema; empty if there is none.
    pub fn schema_url(&self) -> &str {
        &self.schema_url
    }

    /// Its attributes, as they were given.
    pub fn attributes(&self) -> &[KeyValue<'static>] {
        &self.attributes
    }

    fn encode(&self) -> EncodedScope {
        const SCOPE: u32 = 1;
        const SCHEMA_URL: u32 = 3;
        const NAME: u32 = 1;
        const VERSION: u32 = 2;
        const ATTRIBUTES: u32 = 3;
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

/// The scopes of one client. Ids are indices; a scope is never removed.
#[derive(Default)]
pub(crate) struct Scopes {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    encoded: Vec<Arc<EncodedScope>>,
    /// By the encoded form: what reads the same at the receiver is the same scope.
    ids: HashMap<Arc<EncodedScope>, u32>,
}

impl Scopes {
    /// The id of `scope`, a new one if no equal scope was seen. Takes a lock and may allocate.
    pub(crate) fn id(&self, scope: &Scope) -> u32 {
        let encoded = Arc::new(scope.encode());
        let mut table = self.table.lock();
        if let Some(id) = table.ids.get(&encoded) {
            return *id;
        }
        let id = table.encoded.len() as u32;
        table.ids.insert(Arc::clone(&encoded), id);
        table.encoded.push(encoded);
        id
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
