//! A program that starts more spans than can be sent, a queue, and the throttle between them.
//!
//! Time goes in milliseconds. Each trace is kept or not when it starts, by its random bits; a kept one starts and ends
//! its spans one after the other until its length is over. What leaves the queue leaves in lumps, as batches do.

use std::time::Duration;

use otlp::bench::{Pressure, SamplingThreshold, Throttle};

use crate::chance::Chance;

/// What the program does and what the receiver takes.
#[derive(Clone)]
pub(crate) struct Overload {
    pub(crate) queue_size: usize,
    pub(crate) threshold: f64,
    /// Spans per second that are drained where so many wait.
    pub(crate) capacity: f64,
    /// Milliseconds between two lumps.
    pub(crate) lump: u64,
    /// Spans of a trace, and the time from its first start to its last end.
    pub(crate) spans: u64,
    pub(crate) trace: Duration,
    /// Spans per second that are offered at a time in seconds.
    pub(crate) offered: fn(f64) -> f64,
    pub(crate) seconds: u64,
    /// Whether new traces are sampled down.
    pub(crate) is_throttled: bool,
}

impl Default for Overload {
    /// Ten times what can be sent, from one moment to the next after 5 s, for 15 s.
    fn default() -> Self {
        Self {
            queue_size: 50_000,
            threshold: 0.8,
            capacity: 10_000.0,
            lump: 50,
            spans: 5,
            trace: Duration::from_millis(10),
            offered: |at| if (5.0..20.0).contains(&at) { 100_000.0 } else { 5_000.0 },
            seconds: 25,
            is_throttled: true,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Spans of all traces, kept or not.
    pub(crate) offered: u64,
    pub(crate) recorded: u64,
    pub(crate) refused: u64,
    /// Σ 1/p over what was recorded.
    pub(crate) estimate: f64,
    pub(crate) highest_fill: f64,
    pub(crate) lowest_probability: f64,
    pub(crate) shortest_tick: Duration,
    /// The probability at each tenth of a second.
    pub(crate) probabilities: Vec<f64>,
    /// The queue's fill at each tenth of a second.
    pub(crate) fills: Vec<f64>,
}

impl Outcome {
    /// How far the estimate is off, as a share of the truth.
    pub(crate) fn error(&self) -> f64 {
        self.estimate / self.offered as f64 - 1.0
    }
}

/// Spans that will start or end in one millisecond.
#[derive(Clone, Copy, Default)]
struct Due {
    started: u64,
    ended: u64,
    /// Of those that end, Σ 1/p.
    weight: f64,
}

impl Overload {
    pub(crate) fn run(&self, seed: u64) -> Outcome {
        let mut chance = Chance::new(seed);
        let mut throttle = Throttle::new(self.threshold, self.queue_size).expect("a sensible threshold");
        let mut sampling = SamplingThreshold::ALL;
        let trace = (self.trace.as_millis() as usize).max(1);
        let mut calendar = vec![Due::default(); trace + 1];
        let mut seen = Pressure::default();
        let mut outcome = Outcome { lowest_probability: 1.0, shortest_tick: Duration::MAX, ..Outcome::default() };
        let (mut queue, mut owed) = (0u64, 0.0);
        for now in 0..self.seconds * 1000 {
            owed += (self.offered)(now as f64 / 1000.0) / 1000.0 / self.spans as f64;
            while owed >= 1.0 {
                owed -= 1.0;
                outcome.offered += self.spans;
                if sampling.keeps(chance.bits()) {
                    self.plan(&mut calendar, now as usize, 1.0 / sampling.probability());
                }
            }
            let slot = now as usize % calendar.len();
            let due = std::mem::take(&mut calendar[slot]);
            let room = (self.queue_size as u64 - queue).min(due.ended);
            queue += room;
            outcome.recorded += room;
            outcome.refused += due.ended - room;
            outcome.estimate += if due.ended == 0 { 0.0 } else { due.weight * room as f64 / due.ended as f64 };
            outcome.highest_fill = outcome.highest_fill.max(queue as f64 / self.queue_size as f64);
            if now % self.lump == 0 {
                let lump = queue.min((self.capacity * self.lump as f64 / 1000.0) as u64);
                queue -= lump;
                seen.drained += lump;
            }
            seen.elapsed += Duration::from_millis(1);
            seen.started += due.started;
            seen.ended += due.ended;
            seen.refused += due.ended - room;
            seen.fill = queue as f64 / self.queue_size as f64;
            if self.is_throttled && (seen.elapsed >= throttle.tick() || seen.refused > 0) {
                sampling = throttle.step(&std::mem::take(&mut seen));
                outcome.shortest_tick = outcome.shortest_tick.min(throttle.tick());
                outcome.lowest_probability = outcome.lowest_probability.min(sampling.probability());
            }
            if now % 100 == 0 {
                outcome.probabilities.push(sampling.probability());
                outcome.fills.push(queue as f64 / self.queue_size as f64);
            }
        }
        outcome.estimate += calendar.iter().map(|due| due.weight).sum::<f64>();
        outcome
    }

    /// Enters a trace that starts now.
    fn plan(&self, calendar: &mut [Due], now: usize, weight: f64) {
        let slots = calendar.len();
        let at = |part: u64| (now + (slots - 1) * part as usize / self.spans as usize) % slots;
        for span in 0..self.spans {
            calendar[at(span)].started += 1;
            let end = &mut calendar[at(span + 1)];
            end.ended += 1;
            end.weight += weight;
        }
    }
}
