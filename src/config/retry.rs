//! Which failures are retried, how often, and at what intervals.

use std::time::Duration;

use super::bounds::positive;
use crate::{error::Error, sync::LONGEST};

/// How failed requests are retried ([OTLP exporter
/// retry](https://opentelemetry.io/docs/specs/otel/protocol/exporter/#retry)).
///
/// Attempt *n* is followed by a pause of `initial_interval × multiplierⁿ⁻¹`, at most `max_interval`, varied by
/// `randomization_factor`; a delay that the receiver asks for (`Retry-After`) is used instead. Whatever is set here, a
/// batch is given up when its time is over (`with_request_timeout`), and a failure that the specification calls not
/// retryable is never retried unchanged; but a refusal that may come from one node of many is verified over another
/// connection, see [`ConnectionPoolConfig`](super::ConnectionPoolConfig).
///
/// A request that is too large for the receiver (413) is sent in halves, and these in halves again, until the span at
/// fault is alone. The specification would drop all of it; the halves are new requests, which no receiver has refused
/// yet. A request whose compression is not supported (415) is sent once more as gzip, see
/// [`Compression`](super::Compression).
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// The most attempts, including the first. Default 10; at least 1.
    pub max_attempts: u32,
    /// The pause after the first attempt. Default 100 ms; longer than zero.
    pub initial_interval: Duration,
    /// The longest pause. Default 5 s; not shorter than `initial_interval`.
    pub max_interval: Duration,
    /// The factor from each pause to the next. Default 2.0; finite and at least 1.
    pub multiplier: f64,
    /// The share by which a pause is varied at random, up and down, so that clients do not return in step.
    /// Default 0.2; from 0 to 1.
    pub randomization_factor: f64,
    /// The kinds of failure that are retried. Default: all of them.
    pub retryable_errors: Vec<ErrorType>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            initial_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(5),
            multiplier: 2.0,
            randomization_factor: 0.2,
            retryable_errors: vec![
                ErrorType::Network,
                ErrorType::Timeout,
                ErrorType::Throttled,
                ErrorType::Unavailable,
            ],
        }
    }
}

/// A kind of failure that may be temporary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorType {
    /// The receiver could not be reached, or the connection broke: refused, reset, unknown host, TLS.
    Network,
    /// No answer came in time.
    Timeout,
    /// The receiver asked to slow down (429).
    Throttled,
    /// The receiver, or something in front of it, is temporarily out of service (502, 503, 504).
    Unavailable,
}

impl RetryConfig {
    /// Returns the settings if they are valid.
    pub(super) fn checked(self) -> Result<Self, Error> {
        if self.max_attempts == 0 {
            return Err(Error::config("with_retry_config.max_attempts", 0, "must be at least 1"));
        }
        positive("with_retry_config.initial_interval", Some(self.initial_interval))?;
        if self.max_interval < self.initial_interval {
            let allowed = format!("must be at least initial_interval, which is {:?}", self.initial_interval);
            return Err(Error::config("with_retry_config.max_interval", format!("{:?}", self.max_interval), allowed));
        }
        if !(self.multiplier.is_finite() && self.multiplier >= 1.0) {
            let allowed = "must be finite and at least 1";
            return Err(Error::config("with_retry_config.multiplier", self.multiplier, allowed));
        }
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            let allowed = "must be from 0 to 1";
            return Err(Error::config("with_retry_config.randomization_factor", self.randomization_factor, allowed));
        }
        Ok(Self {
            initial_interval: self.initial_interval.min(LONGEST),
            max_interval: self.max_interval.min(LONGEST),
            ..self
        })
    }
}
