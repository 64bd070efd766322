//! What HTTP/2 demands of a client's frames, as far as their heads tell.

use crate::http2::frame::{FrameHead, flag, kind};

/// The rule that a frame breaks, if the newest stream that was opened has this number.
pub(super) fn breach(head: FrameHead, last_stream: u32) -> Option<&'static str> {
    let is_right_length = match head.kind {
        kind::SETTINGS if head.has(flag::ACK) => head.length == 0,
        kind::SETTINGS => head.length.is_multiple_of(6),
        kind::PING => head.length == 8,
        kind::WINDOW_UPDATE | kind::RST_STREAM => head.length == 4,
        _ => true,
    };
    if !is_right_length {
        return Some("a frame of a length that its kind does not have");
    }
    let is_right_stream = match head.kind {
        kind::SETTINGS | kind::PING | kind::GOAWAY => head.stream == 0,
        kind::DATA | kind::RST_STREAM => (1..=last_stream).contains(&head.stream),
        kind::WINDOW_UPDATE => head.stream <= last_stream,
        _ => true,
    };
    (!is_right_stream).then_some("a frame on a stream where it has no place")
}
