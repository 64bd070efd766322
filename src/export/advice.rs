//! Advice for when a receiver does not know the requested path.

use super::{
    Exporter,
    outcome::{Code, Outcome, StatusCode},
};
use crate::config::Protocol;

const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;

impl Exporter {
    /// Replaces a web page by advice, and appends the advice to other messages.
    pub(super) fn advise(&self, outcome: &mut Outcome) {
        let Outcome::Refused {
            code: Code::Http(NOT_FOUND | METHOD_NOT_ALLOWED) | Code::Grpc(StatusCode::UNIMPLEMENTED),
            message,
        } = outcome
        else {
            return;
        };
        let is_grpc = self.settings.protocol == Protocol::Grpc;
        let advice = match self.settings.endpoint.usual_url().filter(|_| !is_grpc) {
            None if is_grpc => "does a receiver of OTLP over gRPC listen there, and does it take traces?".to_owned(),
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
