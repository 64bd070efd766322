//! Why a text is not a valid value of a setting, from the environment or anywhere else.

use std::{error, fmt, io, sync::Arc};

/// Why a text is not a valid value of a setting; returned by the [`FromStr`](std::str::FromStr) of settings. Its
/// message shows the text, shortened, and what is allowed.
///
/// ```
/// let error = "lzma".parse::<otlp::Compression>().unwrap_err();
/// assert_eq!(error.to_string(), r#""lzma": must be one of none, gzip, brotli, zstd"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The value in quotes, shortened and without control characters; or a stand-in for a secret.
    pub(crate) value: String,
    /// What it must be instead: a clause that follows the value.
    pub(crate) must: String,
    /// The system's error, if there was one.
    pub(crate) cause: Option<Cause>,
}

/// The system's error.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) Arc<io::Error>);

/// Compared by their kinds.
impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind() == other.0.kind()
    }
}

impl Eq for Cause {}

impl ParseError {
    pub(crate) fn new(value: &str, must: impl Into<String>) -> Self {
        const SHOWN: usize = 64;
        let cut = value.char_indices().nth(SHOWN).map_or(value.len(), |(at, _)| at);
        let ellipsis = if cut < value.len() { "…" } else { "" };
        Self { value: format!("{:?}{ellipsis}", &value[..cut]), must: must.into(), cause: None }
    }

    pub(crate) fn hidden(must: impl Into<String>) -> Self {
        Self { value: "(hidden)".to_owned(), must: must.into(), cause: None }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn because(self, cause: io::Error) -> Self {
        Self { cause: Some(Cause(Arc::new(cause))), ..self }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.value, self.must)
    }
}

impl error::Error for ParseError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &*cause.0 as _)
    }
}

/// Parses one of several names, in any case (ENV-07, ENV-08).
pub(crate) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, ParseError> {
    let chosen = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        ParseError::new(text, format!("must be one of {}", names.join(", ")))
    })
}

/// The first name of a value in the list that it is parsed from.
pub(crate) fn name_of<T: PartialEq>(value: &T, choices: &[(&'static str, T)]) -> &'static str {
    choices.iter().find(|(_, known)| known == value).map_or("", |(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_value_is_shown_on_one_short_line() {
        assert_eq!(ParseError::new("a\nb\u{1b}[0m", "").value, r#""a\nb\u{1b}[0m""#);
        assert_eq!(ParseError::new(&"é".repeat(100), "").value, format!("\"{}\"…", "é".repeat(64)));
    }
}
