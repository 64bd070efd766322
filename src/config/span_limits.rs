//! How much one span may hold.

/// How many attributes, events and links a span keeps, and how long and how deeply nested a value may be ([Span
/// limits](https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-limits)).
///
/// Entries beyond a count are left out and counted in the span (`dropped_attributes_count` and the like); the value of
/// a key that is present can still be replaced. Longer text is cut after that many characters, and more deeply nested
/// values become empty; neither is counted. Zero keeps nothing of that kind. The resource and scopes have no limits but
/// the 30 levels; a span as a whole takes at most 4 MiB.
///
/// Given in code, the whole struct counts and the environment is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanLimits {
    /// The most attributes of a span. Default 128. Environment: `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, then
    /// `OTEL_ATTRIBUTE_COUNT_LIMIT`.
    pub attribute_count_limit: usize,
    /// The most characters of a text and bytes of a byte array, in the attributes of the span, its events and its
    /// links, and in the arrays and maps there. Default `None`: no limit. With one, or with fewer than 64 attributes,
    /// setting an attribute costs a little more. Environment: `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, then
    /// `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub attribute_value_length_limit: Option<usize>,
    /// The most levels of nested arrays and maps, in the attributes of the span, its events and its links. An array or
    /// a map that is the value of an attribute is the first level; one beyond the last level becomes an empty value.
    /// Default and maximum 30: greater values count as 30. No environment variable. The specification's default is 64,
    /// but that may be 192 nested messages, and the decoders of many receivers refuse a whole request beyond 100.
    pub attribute_depth_limit: usize,
    /// The most events of a span. Default 128. Environment: `OTEL_SPAN_EVENT_COUNT_LIMIT`.
    pub event_count_limit: usize,
    /// The most links of a span. Default 128. Environment: `OTEL_SPAN_LINK_COUNT_LIMIT`.
    pub link_count_limit: usize,
    /// The most attributes of one event. Default 128. Environment: `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`.
    pub event_attribute_count_limit: usize,
    /// The most attributes of one link. Default 128. Environment: `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT`.
    pub link_attribute_count_limit: usize,
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self {
            attribute_count_limit: 128,
            attribute_value_length_limit: None,
            attribute_depth_limit: 30,
            event_count_limit: 128,
            link_count_limit: 128,
            event_attribute_count_limit: 128,
            link_attribute_count_limit: 128,
        }
    }
}
