//! The frames of HTTP/2 ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113), section 4): nine bytes of head, and a payload.
//! Pure: bytes in, frames out, and the other way round.

/// What a client says first. The frame of its settings follows.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const HEAD_BYTES: usize = 9;

/// The largest payload that is taken, which is what the protocol starts with.
pub(crate) const MOST_PAYLOAD: usize = 16_384;

/// Bytes that either side may have under way, at first: of a stream, and of all together.
pub(crate) const FIRST_WINDOW: i64 = 65_535;
/// Streams and windows have 31 bits.
pub(crate) const MOST_ID: u32 = (1 << 31) - 1;
pub(crate) const MOST_WINDOW: i64 = (1 << 31) - 1;

/// The types of frames (section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    /// Of settings and pings.
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 32;
}

/// What settings are called (section 6.5.2).
pub(crate) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Bytes of the payload, in 24 bits.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The stream it belongs to; 0 for the connection.
    pub(crate) stream: u32,
}

impl FrameHead {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, length: usize) -> Self {
        Self { length, kind, flags, stream }
    }

    pub(crate) fn read(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved, and means nothing.
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) & MOST_ID }
    }

    pub(crate) fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&FrameHead::new(kind, flags, stream, payload.len()).bytes());
    out.extend_from_slice(payload);
}

/// Appends the frame that gives the other side room for so many bytes more.
pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// The payload without its padding; none if there is more padding than payload.
pub(crate) fn without_padding(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// Four bytes of a payload as a number of 31 bits.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?) & MOST_ID)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_head_of_a_frame_reads_as_it_was_written(length in 0_usize..1 << 24, kind: u8, flags: u8, stream in 0..=MOST_ID) {
            let head = FrameHead::new(kind, flags, stream, length);
            prop_assert_eq!(FrameHead::read(head.bytes()), head);
        }
    }

    #[test]
    fn the_reserved_bit_of_a_stream_means_nothing() {
        let mut bytes = FrameHead::new(kind::DATA, 0, 5, 1).bytes();
        bytes[5] |= 0x80;
        assert_eq!(FrameHead::read(bytes).stream, 5);
    }

    #[test]
    fn padding_is_taken_off_and_cannot_be_longer_than_what_it_pads() {
        let padded = FrameHead::new(kind::DATA, flag::PADDED, 1, 4);
        for (payload, right) in [
            (&[2, b'a', 0, 0][..], Some(&b"a"[..])),
            (&[3, 0, 0, 0], Some(b"")),
            (&[0], Some(b"")),
            (&[4, 0, 0, 0], None),
            (&[1], None),
            (&[], None),
        ] {
            assert_eq!(without_padding(padded, payload), right, "{payload:?}");
        }
        assert_eq!(without_padding(FrameHead::new(kind::DATA, 0, 1, 1), &[9]), Some(&[9][..]));
    }
}
