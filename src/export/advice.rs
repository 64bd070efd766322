//! Advice for when a receiver does not know the requested path.

use super::{Exporter, outcome::Outcome};

const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;

impl Exporter {
    /// Replaces a web page by advice, and appends the advice to other messages.
    pub(super) fn advise(&self, outcome: &mut Outcome) {
        let Outcome::Refused { status: NOT_FOUND | METHOD_NOT_ALLOWED, message } = outcome else { return };
        let advice = match self.settings.endpoint.usual_url() {
            Some(usual) => format!("the URL is taken as it is; did you mean {usual}?"),
            None => "does a receiver of OTLP over HTTP listen there, and does it take traces at this path?".to_owned(),
        };
        if is_page(message) || message.is_empty() {
            *message = advice;
        } else {
            message.push_str("; ");
            message.push_str(&advice);
        }
    }
}

/// Whether the message is markup, whose first line never helps.
fn is_page(message: &str) -> bool {
    message.trim_start().starts_with('<')
}
