//! Memory of the bound that is held for a request while it is made: asked for before it is taken.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::request::Request;
use crate::{
    capture::{Recorder, Reservation},
    error::Error,
};

/// How often a thread that waits for room looks for itself: not all that is freed is told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// So many bytes of the bound. They go back, and whoever waits for room is told, when this is dropped: whatever lies in
/// them has to be gone by then.
pub(super) struct Room<'i> {
    recorder: &'i Recorder,
    memory: Reservation,
    /// Held by the one whose encoder is set aside for it.
    place: Option<&'i AtomicBool>,
}

/// What an encoder takes until its thread is done with packing.
#[derive(Clone, Copy)]
pub(super) struct EncoderPlace<'i> {
    pub(super) bytes: usize,
    /// True while somebody uses what is set aside for one encoder.
    pub(super) is_taken: &'i AtomicBool,
}

impl<'i> Room<'i> {
    /// Room for `bytes`, if there is any now.
    pub(super) fn try_of(recorder: &'i Recorder, bytes: usize) -> Option<Self> {
        let memory = Reservation::reserve(&recorder.budget, bytes)?;
        Some(Self { recorder, memory, place: None })
    }

    /// As `try_of`, with what an encoder needs.
    fn try_to_encode(recorder: &'i Recorder, bytes: usize, encoder: EncoderPlace<'i>) -> Option<Self> {
        if encoder.is_taken.swap(true, Ordering::Acquire) {
            return Self::try_of(recorder, bytes + encoder.bytes);
        }
        let room = Self::try_of(recorder, bytes);
        if room.is_none() {
            encoder.is_taken.store(false, Ordering::Release);
        }
        room.map(|mut room| {
            room.place = Some(encoder.is_taken);
            room
        })
    }

    /// Room for `bytes` beside an encoder, waited for until `until` if it must be; no longer than the client is open.
    ///
    /// # Errors
    /// [`Error::NoMemory`] at once for what the whole bound has no room for, and when the time is over.
    pub(super) fn wait_for(
        recorder: &'i Recorder,
        bytes: usize,
        encoder: EncoderPlace<'i>,
        limit: usize,
        until: Instant,
    ) -> Result<Self, Error> {
        let refused = || Error::NoMemory { needed: bytes, limit };
        if bytes > recorder.budget.limit() {
            return Err(refused());
        }
        loop {
            if let Some(room) = Self::try_to_encode(recorder, bytes, encoder) {
                return Ok(room);
            }
            if recorder.is_closed() {
                return Err(Error::Shutdown);
            }
            let now = Instant::now();
            if now >= until {
                return Err(refused());
            }
            let attempt = || {
                if recorder.is_closed() { Some(None) } else { Self::try_to_encode(recorder, bytes, encoder).map(Some) }
            };
            let look = until.min(now + LOOK_EVERY);
            if let Some(Some(room)) = recorder.overflow.wait_for_room(look, || recorder.doorbell.after_batch(), attempt)
            {
                return Ok(room);
            }
        }
    }

    /// Becomes the memory of `request`, which was made in it: what it does not need goes back.
    pub(super) fn hand_over(mut self, request: &mut Request) {
        request.take_over(mem::take(&mut self.memory));
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.store(false, Ordering::Release);
        }
        drop(mem::take(&mut self.memory));
        self.recorder.overflow.made_room();
    }
}
