//! Notices: what recording has noticed and, doing no I/O, cannot log itself. A worker logs each once.

use std::sync::atomic::{AtomicU8, Ordering};

listed! {
    /// A fact about how the library is used that its user should know.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Notice {
        /// [`TraceIdRatioBased`](crate::sampling::TraceIdRatioBased) was asked about a span with a parent.
        RatioOfAChild,
        /// [`ProbabilitySampler`](crate::sampling::ProbabilitySampler) assumed that a trace id is random, without a
        /// flag that says so.
        PresumedRandomness,
        /// A tracer has no name.
        UnnamedTracer,
    }
}

impl Notice {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Each notice has a bit of its own.
const _: () = assert!(Notice::COUNT <= u8::BITS as usize);

/// Which notices were given, and which of them have been logged.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    noticed: AtomicU8,
    said: AtomicU8,
}

impl Notices {
    /// Notes it. Cheap if it is known already: threads then share a value that no thread writes.
    pub(super) fn note(&self, notice: Notice) {
        if self.noticed.load(Ordering::Relaxed) & notice.bit() == 0 {
            self.noticed.fetch_or(notice.bit(), Ordering::Relaxed);
        }
    }

    /// Takes the notices to log. Each is returned once.
    pub(crate) fn take(&self) -> impl Iterator<Item = Notice> + use<> {
        let noticed = self.noticed.load(Ordering::Relaxed);
        let said = if noticed == 0 { 0 } else { self.said.fetch_or(noticed, Ordering::Relaxed) };
        Notice::ALL.into_iter().filter(move |notice| noticed & !said & notice.bit() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_notice_is_answered_once_however_often_it_is_noted() {
        let notices = Notices::default();
        assert_eq!(notices.take().count(), 0);
        notices.note(Notice::UnnamedTracer);
        notices.note(Notice::UnnamedTracer);
        assert_eq!(notices.take().collect::<Vec<_>>(), [Notice::UnnamedTracer]);
        notices.note(Notice::UnnamedTracer);
        notices.note(Notice::RatioOfAChild);
        assert_eq!(notices.take().collect::<Vec<_>>(), [Notice::RatioOfAChild]);
    }
}
