//! What was measured: for each column and measure all its samples.

use std::collections::HashMap;

#[derive(Default)]
pub(crate) struct Samples(HashMap<(&'static str, &'static str), Vec<f64>>);

impl Samples {
    pub(crate) fn add(&mut self, column: &'static str, measure: &'static str, value: f64) {
        self.0.entry((column, measure)).or_default().push(value);
    }

    fn get(&self, column: &'static str, measure: &'static str) -> Option<&[f64]> {
        self.0.get(&(column, measure)).map(Vec::as_slice)
    }

    pub(crate) fn median(&self, column: &'static str, measure: &'static str) -> Option<f64> {
        let mut sorted = self.get(column, measure)?.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        Some(if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 })
    }

    pub(crate) fn min(&self, column: &'static str, measure: &'static str) -> Option<f64> {
        self.get(column, measure)?.iter().copied().reduce(f64::min)
    }

    pub(crate) fn max(&self, column: &'static str, measure: &'static str) -> Option<f64> {
        self.get(column, measure)?.iter().copied().reduce(f64::max)
    }
}
