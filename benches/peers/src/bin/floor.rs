//! The floor: two readings of the clock for each span, and nothing else.

use std::{hint::black_box, time::Instant};

use peers::{Contender, Setup, task, work::Request};

struct Floor;

impl Contender for Floor {
    fn start(_: Setup) -> Self {
        Self
    }

    fn hot<'r>(&self, requests: impl Iterator<Item = &'r Request>) {
        black_box(Instant::now());
        for request in requests {
            black_box(Instant::now());
            black_box((&request.path, &request.user));
            black_box(Instant::now());
        }
        black_box(Instant::now());
    }

    fn bare(&self, children: usize) {
        for _ in 0..=children {
            black_box(Instant::now());
            black_box(Instant::now());
        }
    }

    fn flush(&self) {}

    fn shutdown(self) {}
}

fn main() {
    task::run::<Floor>();
}
