//! From spans to a request: framed and compressed, straight from the memory they were recorded into.

use std::sync::Arc;

use memmap2::MmapMut;

use super::{
    Exporter,
    encode::{
        compress::{Encoder, NoMemory},
        protobuf::{CopiedRuns, Frame, Runs, runs_by_scope},
    },
    queue::Batch,
    request::Request,
};
use crate::{capture::Reservation, config::Compression};

impl Exporter {
    /// Frames and compresses a batch into `body`, straight from ring memory, or by way of a copy that frees it first.
    /// What the request takes is accounted for before the chunks are free: it is not given to rings again.
    pub(super) fn pack(&self, batch: &mut Batch, encoder: &mut Encoder, body: Vec<u8>) -> Result<Request, NoMemory> {
        let request = Request::new(batch.id, batch.spans, body);
        if self.settings.zero_copy {
            return self.pack_batch(&runs_by_scope(&batch.slices)?, encoder, request);
        }
        let copied = CopiedRuns::of(&runs_by_scope(&batch.slices)?)?;
        let _copy = Reservation::hold(&self.recorder.budget, copied.memory());
        self.recorder.stats.copied(copied.len());
        batch.slices.clear();
        self.recorder.overflow.made_room();
        self.pack_batch(&copied.runs()?, encoder, request)
    }

    /// Packs spans that come from rings, and notes when they ended.
    fn pack_batch(&self, runs: &Runs<'_>, encoder: &mut Encoder, request: Request) -> Result<Request, NoMemory> {
        self.note_example(runs);
        let mut request = self.pack_runs(runs, encoder, request)?;
        request.ages = self.meter.ages(runs);
        request.account(&self.recorder.budget);
        Ok(request)
    }

    /// Packs spans that are in no ring, in memory that was reserved for that.
    pub(super) fn pack_records(&self, id: u64, spans: u64, runs: &Runs<'_>) -> Result<Request, NoMemory> {
        self.with_encoder(|encoder| self.pack_runs(runs, encoder, Request::new(id, spans, Vec::new())))
    }

    /// Packs a request that stands in memory: as it is, or compressed from there, in memory that was reserved for that.
    pub(super) fn pack_request(
        &self,
        id: u64,
        spans: u64,
        pages: &Arc<MmapMut>,
        len: usize,
    ) -> Result<Request, NoMemory> {
        let mut request = Request::new(id, spans, Vec::new());
        request.uncompressed = len;
        if self.encoding().compression == Compression::None {
            request.lend(pages, len);
        } else {
            request.compression = self.with_encoder(|encoder| {
                encoder.encode_whole(&mut request.body, &pages[..len])?;
                Ok(encoder.compression())
            })?;
        }
        Ok(request)
    }

    /// Writes the body of a request that holds `runs`, in which equal scopes stand next to each other.
    fn pack_runs(&self, runs: &Runs<'_>, encoder: &mut Encoder, mut request: Request) -> Result<Request, NoMemory> {
        let frame = Frame::new(&self.resource, &self.recorder, runs);
        request.traced = self.own_tracing.as_ref().is_some_and(|own| own.is_worth_it(runs));
        request.compression = encoder.compression();
        request.uncompressed = frame.len();
        encoder.encode_body(&mut request.body, request.uncompressed, |sink| frame.pieces(sink))?;
        Ok(request)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{
        capture::{CaptureLimits, Recorder},
        config::{Encoding, Options, PerformanceConfig, Settings},
        error::{Diagnostics, LogLevel},
        export::queue::{Extent, Lane},
    };

    #[test]
    fn a_batch_that_is_copied_gives_its_ring_memory_back_before_it_is_compressed() {
        let packed = [true, false].map(|enable_zero_copy| {
            let performance = PerformanceConfig { enable_zero_copy, ..PerformanceConfig::default() };
            // Two clients would be two instances.
            let resource_detectors = Some(Vec::new());
            let options = Options { performance: Some(performance), resource_detectors, ..Options::default() };
            let (settings, _) = Settings::resolve(options, Default::default()).expect("valid settings");
            let recorder =
                Recorder::new(CaptureLimits { memory_bytes: 1 << 20, workers: 1, ..CaptureLimits::default() });
            let exporter = Exporter::new(settings, Arc::clone(&recorder), Diagnostics::new(LogLevel::None, None));
            let scopes = ["a", "b"].map(|name| recorder.scopes.id(&name.into()));
            let mut producer = recorder.registry.check_out();
            for number in 0..200_usize {
                let record = [b'x'; 100];
                assert!(producer.push(&recorder.budget, scopes[number % 2], &record).is_ok());
            }
            let gathered = exporter.gatherer.lock().gather(
                Lane::Whole,
                &Extent::Everything,
                exporter.batch_limits(),
                &exporter.ledger,
            );
            let mut batch = gathered.expect("there is something");
            let request = exporter.pack(&mut batch, &mut Encoder::new(Encoding::NONE), Vec::new()).unwrap();
            assert_eq!(batch.slices.is_empty(), !enable_zero_copy);
            let copied = exporter.snapshot().copied_bytes;
            assert_eq!(copied, if enable_zero_copy { 0 } else { 200 * 100 });
            let held = exporter.memory_stats().bodies_in_flight;
            assert_eq!(held, request.memory() as u64, "the copy is not accounted for any more");
            request.body.to_vec()
        });
        assert!(packed[0].len() > 20_000 && packed[0] == packed[1]);
    }
}
