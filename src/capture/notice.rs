//! What recording has noticed and cannot say itself, since it does no I/O: each thing once, for a worker to say.

use std::sync::atomic::{AtomicU8, Ordering};

listed! {
    /// Something about how the library is used that its user should know.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Notice {
        /// [`TraceIdRatioBased`](crate::sampling::TraceIdRatioBased) was asked about a span with a parent.
        RatioOfAChild,
        /// [`ProbabilitySampler`](crate::sampling::ProbabilitySampler) took a trace id for random that nobody says is.
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

/// Each has a bit of its own below.
const _: () = assert!(Notice::COUNT <= u8::BITS as usize);

/// What was noticed, and what of it has been said.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    noticed: AtomicU8,
    said: AtomicU8,
}

impl Notices {
    /// Cheap once it is known: threads then share what nobody writes.
    pub(super) fn note(&self, notice: Notice) {
        if self.noticed.load(Ordering::Relaxed) & notice.bit() == 0 {
            self.noticed.fetch_or(notice.bit(), Ordering::Relaxed);
        }
    }

    /// What is to be said. Each notice is answered once.
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
