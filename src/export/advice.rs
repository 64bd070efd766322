//! What helps where a receiver does not know the path it was asked for.

use super::{Exporter, outcome::Outcome};

const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;

impl Exporter {
    /// Puts what helps in the place of a page that was written for browsers, and behind other words.
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

/// Whether it is markup: nothing in its first line helps.
fn is_page(message: &str) -> bool {
    message.trim_start().starts_with('<')
}
