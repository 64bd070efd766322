//! One batch's journey in steps, for benchmarks.

use std::sync::Arc;

use super::{
    Exporter,
    delivery::{Queued, Sent},
    encode::compress::Encoder,
    encode::protobuf::{Frame, runs_by_scope},
    queue::{Batch, Extent, Lane},
    request::Request,
};
use crate::{
    capture::{CaptureLimits, Recorder, Tracer},
    config::{Options, Settings},
    error::{Diagnostics, LogLevel},
};

/// The stages of an exporter that has no workers.
pub struct Stages {
    exporter: Arc<Exporter>,
    recorder: Arc<Recorder>,
    encoder: Encoder,
    body: Vec<u8>,
}

/// Spans that left their rings.
pub struct Gathered(Batch);

/// A request that is ready to be sent.
pub struct Packed(Request);

impl Stages {
    /// Of a client with default settings.
    ///
    /// # Panics
    /// If `endpoint` is no URL of a receiver.
    pub fn new(endpoint: &str) -> Self {
        let options = Options { endpoint: Some(endpoint.to_owned()), ..Options::default() };
        let (settings, _) = Settings::resolve(options, Default::default()).expect("an endpoint and nothing else");
        let recorder = Recorder::new(CaptureLimits::default());
        let exporter = Exporter::new(settings, Arc::clone(&recorder), Diagnostics::new(LogLevel::None, None));
        let encoder = Encoder::new(exporter.encoding());
        Self { exporter, recorder, encoder, body: Vec::new() }
    }

    /// A tracer whose spans wait to be gathered.
    pub fn tracer(&self, name: &'static str) -> Tracer {
        Tracer::bound(Some(&self.recorder), name.into())
    }

    /// All spans that wait, of one batch; none if there are none.
    pub fn gather(&self) -> Option<Gathered> {
        let limits = super::queue::BatchLimits { spans: usize::MAX, bytes: usize::MAX };
        let exporter = &*self.exporter;
        exporter.gatherer.lock().gather(Lane::Whole, &Extent::Everything, limits, &exporter.ledger).map(Gathered)
    }

    /// Puts the envelope around them, and answers how many bytes that makes.
    pub fn frame(&self, Gathered(batch): &Gathered) -> usize {
        let exporter = &*self.exporter;
        Frame::new(&exporter.resource, &exporter.recorder, &runs_by_scope(&batch.slices).expect("memory")).len()
    }

    /// Frames and compresses them.
    pub fn compress(&mut self, Gathered(mut batch): Gathered) -> Packed {
        let body = std::mem::take(&mut self.body);
        Packed(self.exporter.pack(&mut batch, &mut self.encoder, body).expect("memory"))
    }

    /// Sends them; false if the receiver did not take them.
    pub fn post(&mut self, Packed(request): Packed) -> bool {
        match self.exporter.drive(request, &mut Queued) {
            Sent::Settled(mut body, _) => {
                self.body = std::mem::take(body.buffer());
                true
            }
            Sent::Again(_) => false,
        }
    }
}
