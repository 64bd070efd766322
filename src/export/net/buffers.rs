//! Buffers of a connection, no larger than needed. ureq's own buffers are 128 KiB each way and zeroed before use, which
//! is most of the memory that a process pays for sending a few spans.

use std::mem;

use ureq::unversioned::transport::Buffers;

/// Room for bodies, at first.
const BODY_BYTES: usize = 16 * 1024;
/// Room for answers, at first: hardly one is longer.
const ANSWER_BYTES: usize = 4 * 1024;

/// Room for output if the system gives no more.
const MAKESHIFT_BYTES: usize = 8 * 1024;

/// A zeroed buffer of `bytes` bytes, if the system gives memory for it.
fn zeroed(bytes: usize) -> Option<Vec<u8>> {
    let mut zeroed = Vec::new();
    zeroed.try_reserve_exact(bytes).ok()?;
    zeroed.resize(bytes, 0);
    Some(zeroed)
}

/// Buffers that are small until something large is sent or received.
pub(in crate::export) struct GrowingBuffers {
    output: Vec<u8>,
    /// Bytes of output at first, and at most.
    least_output: usize,
    most_output: usize,
    /// Received bytes, from `consumed` to `filled`.
    input: Vec<u8>,
    consumed: usize,
    filled: usize,
    most_input: usize,
    /// Whether some of the input was consumed when it was last looked at.
    is_getting_on: bool,
}

impl GrowingBuffers {
    /// Buffers of at most this many bytes each way, with room for a head of `head` bytes from the start: it is sent
    /// together with the beginning of a body in one system call, and often in one packet.
    pub(in crate::export) fn new(most_input: usize, head: usize, most_output: usize) -> Self {
        let least_output = most_output.min(BODY_BYTES + head);
        let (consumed, filled, is_getting_on) = (0, 0, false);
        let (output, input) = (Vec::new(), Vec::new());
        Self { output, least_output, most_output, input, consumed, filled, most_input, is_getting_on }
    }

    /// The first `amount` bytes of the output.
    pub(in crate::export) fn written(&self, amount: usize) -> &[u8] {
        &self.output[..amount]
    }

    /// Notes that `amount` bytes of the output were sent. If they filled it, more will most likely follow.
    pub(in crate::export) fn sent(&mut self, amount: usize) {
        if amount == self.output.len() && self.output.len() < self.most_output {
            // If the system gives no more memory, smaller steps are used.
            self.output = zeroed(self.most_output).unwrap_or_else(|| mem::take(&mut self.output));
        }
    }
}

impl Buffers for GrowingBuffers {
    fn output(&mut self) -> &mut [u8] {
        if self.output.is_empty() {
            let least = || vec![0; self.least_output.min(MAKESHIFT_BYTES)];
            self.output = zeroed(self.least_output).unwrap_or_else(least);
        }
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.consumed..self.filled]
    }

    /// Empty if the input has its largest size and none of it was consumed.
    fn input_append_buf(&mut self) -> &mut [u8] {
        if self.consumed == self.filled || self.filled == self.input.len() {
            self.input.copy_within(self.consumed..self.filled, 0);
            (self.consumed, self.filled) = (0, self.filled - self.consumed);
        }
        if self.filled == self.input.len() {
            let longer = if self.input.is_empty() { ANSWER_BYTES } else { 4 * self.input.len() };
            let longer = longer.min(self.most_input);
            if self.input.try_reserve_exact(longer - self.filled).is_ok() {
                self.input.resize(longer, 0);
            }
        }
        &mut self.input[self.filled..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.filled += amount;
    }

    fn input_consume(&mut self, amount: usize) {
        self.is_getting_on = amount > 0;
        self.consumed += amount;
    }

    /// The free part of the input serves for a body of unknown length, which is never used here.
    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.output();
        self.input_append_buf();
        (&mut self.input[self.filled..], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        !self.input().is_empty() && self.is_getting_on
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn output_is_small_until_something_fills_it_and_then_as_large_as_it_may_be() {
        let first = BODY_BYTES + 300;
        let mut buffers = GrowingBuffers::new(1024, 300, 100_000);
        assert_eq!(buffers.output().len(), first);
        buffers.sent(first - 1);
        assert_eq!(buffers.tmp_and_output().1.len(), first);
        buffers.sent(first);
        assert_eq!(buffers.output().len(), 100_000);
        buffers.sent(100_000);
        assert_eq!(buffers.tmp_and_output().1.len(), 100_000);
        assert_eq!(GrowingBuffers::new(1024, 300, 10).output().len(), 10);
    }

    #[test]
    fn an_input_that_nobody_understands_grows_to_its_bound_and_no_further() {
        let mut buffers = GrowingBuffers::new(70_000, 0, 1024);
        let mut rounds = 0;
        loop {
            let free = buffers.input_append_buf().len();
            if free == 0 {
                break;
            }
            buffers.input_appended(free);
            buffers.input_consume(0);
            rounds += 1;
        }
        assert_eq!((buffers.input().len(), rounds, buffers.can_use_input()), (70_000, 4, false));
    }

    proptest! {
        #[test]
        fn what_comes_is_handed_on_in_its_order(steps in prop::collection::vec((0_usize..9_000, 0_usize..9_000), 0..60)) {
            let mut buffers = GrowingBuffers::new(20_000, 0, 1024);
            let (mut came, mut went) = (0_usize, 0_usize);
            for (more, used) in steps {
                let free = buffers.input_append_buf();
                let more = more.min(free.len());
                free.iter_mut().take(more).enumerate().for_each(|(at, byte)| *byte = (came + at) as u8);
                buffers.input_appended(more);
                came += more;
                let waiting = buffers.input();
                prop_assert_eq!(waiting.len(), came - went);
                prop_assert!(waiting.iter().enumerate().all(|(at, byte)| *byte == (went + at) as u8));
                let used = used.min(waiting.len());
                buffers.input_consume(used);
                went += used;
                prop_assert_eq!(buffers.can_use_input(), used > 0 && went < came);
            }
        }
    }
}
