//! Which step to try next.

use std::{collections::VecDeque, ops::RangeInclusive};

use super::limits::{TuningLimits, TuningStrategy};
use crate::config::{Compression, Effort, Tuning};

/// Sizes and numbers are first doubled and halved, then changed by less.
const FACTORS: [f64; 2] = [2.0, 1.4];

/// One change of one knob, or of two against one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Batch(Direction),
    Connections(Direction),
    /// More connections with smaller batches, or fewer with larger ones: the same amount at once, sooner or in fewer
    /// requests. Neither half of the step needs to be a gain by itself.
    Spread(Direction),
    Compress(Compression, Effort),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl Direction {
    fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

impl Step {
    /// Describes the knob and its change.
    pub(super) fn describe(&self, from: Tuning, to: Tuning) -> String {
        match self {
            Self::Batch(_) => format!("batch_size {} → {}", from.batch_size, to.batch_size),
            Self::Connections(_) => format!("connections {} → {}", from.connections, to.connections),
            Self::Spread(_) => {
                let (batches, connections) = (to.batch_size, to.connections);
                format!(
                    "batch_size {} → {batches} and connections {} → {connections}",
                    from.batch_size, from.connections
                )
            }
            Self::Compress(..) => {
                let way = |tuning: Tuning| format!("{} ({})", tuning.compression.name(), tuning.effort.name());
                format!("compression {} → {}", way(from), way(to))
            }
        }
    }

    fn is_same_knob(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// The steps still to be tried from the present settings.
///
/// A step that helped is tried again at once, and then all steps of other knobs, because they may help now. When none
/// is left, all are tried once more with a smaller factor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    limits: TuningLimits,
    steps: Vec<Step>,
    untried: VecDeque<Step>,
    factor: usize,
}

impl Plan {
    pub(super) fn new(strategies: &[TuningStrategy], limits: TuningLimits) -> Self {
        let mut steps = Vec::new();
        for strategy in strategies {
            let of_strategy = match strategy {
                TuningStrategy::BatchSize => vec![Step::Batch(Direction::Up), Step::Batch(Direction::Down)],
                TuningStrategy::ConnectionPool => {
                    vec![Step::Connections(Direction::Up), Step::Connections(Direction::Down)]
                }
                TuningStrategy::Compression => limits.compressions.iter().flat_map(|way| ways(*way)).collect(),
            };
            steps.extend(of_strategy.into_iter().filter(|step| !steps.contains(step)).collect::<Vec<_>>());
        }
        if [TuningStrategy::BatchSize, TuningStrategy::ConnectionPool].iter().all(|both| strategies.contains(both)) {
            steps.extend([Step::Spread(Direction::Up), Step::Spread(Direction::Down)]);
        }
        let untried = steps.iter().copied().collect();
        Self { limits, steps, untried, factor: 0 }
    }

    /// Starts over: every step may be tried, from the largest factor on.
    pub(super) fn begin(&mut self) {
        self.factor = 0;
        self.untried = self.steps.iter().copied().collect();
    }

    /// The next step that changes something, and its result.
    pub(super) fn next(&mut self, from: Tuning) -> Option<(Step, Tuning)> {
        loop {
            while let Some(step) = self.untried.pop_front() {
                let to = self.apply(step, from);
                if to != from {
                    return Some((step, to));
                }
            }
            if self.factor + 1 == FACTORS.len() {
                return None;
            }
            self.factor += 1;
            self.untried = self.steps.iter().filter(|step| !matches!(step, Step::Compress(..))).copied().collect();
        }
    }

    /// Notes that this step helped.
    pub(super) fn kept(&mut self, step: &Step) {
        // For compressions, the untried ones remain; the other direction leads back.
        let is_compression = matches!(step, Step::Compress(..));
        self.untried.retain(|other| is_compression || !other.is_same_knob(step));
        if !is_compression {
            self.untried.push_front(*step);
        }
        for other in &self.steps {
            if !other.is_same_knob(step) && !self.untried.contains(other) {
                self.untried.push_back(*other);
            }
        }
    }

    fn apply(&self, step: Step, from: Tuning) -> Tuning {
        match step {
            Step::Batch(direction) => {
                Tuning { batch_size: self.scaled(from.batch_size, direction, &self.limits.batch_size), ..from }
            }
            Step::Connections(direction) => {
                Tuning { connections: self.scaled(from.connections, direction, &self.limits.connections), ..from }
            }
            Step::Spread(direction) => {
                let batch_size = self.scaled(from.batch_size, direction.opposite(), &self.limits.batch_size);
                let connections = self.scaled(from.connections, direction, &self.limits.connections);
                // At a limit it would be half of a step, which was tried already.
                let both = batch_size != from.batch_size && connections != from.connections;
                if both { Tuning { batch_size, connections, ..from } } else { from }
            }
            Step::Compress(compression, effort) => Tuning { compression, effort, ..from },
        }
    }

    /// The value changed by the present factor, by 1 at least, within the limits.
    fn scaled(&self, value: usize, direction: Direction, limits: &RangeInclusive<usize>) -> usize {
        let factor = FACTORS[self.factor];
        let moved = match direction {
            Direction::Up => ((value as f64 * factor) as usize).max(value.saturating_add(1)),
            Direction::Down => ((value as f64 / factor).ceil() as usize).min(value.saturating_sub(1)),
        };
        moved.clamp(*limits.start(), *limits.end())
    }
}

fn ways(compression: Compression) -> Vec<Step> {
    match compression {
        Compression::None => vec![Step::Compress(compression, Effort::Least)],
        _ => [Effort::Least, Effort::Normal, Effort::Most].map(|effort| Step::Compress(compression, effort)).to_vec(),
    }
}
