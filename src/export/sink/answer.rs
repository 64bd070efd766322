//! What receivers answer with, read as far as it is of use: `ExportTraceServiceResponse` and `google.rpc.Status`.
//!
//! A message with anything wrong in it is none: a part of it would be taken for what the receiver said.

use std::borrow::Cow;

use crate::{
    proto::{
        answer::PARTIAL_SUCCESS,
        partial_success::{ERROR_MESSAGE, REJECTED},
        rpc_status::{CODE, MESSAGE},
    },
    wire::{Field, Fields, LEN, tag},
};

mod json;

/// What was not accepted of a request that was.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct PartialSuccess<'a> {
    pub(super) rejected_spans: i64,
    pub(super) message: Cow<'a, str>,
}

impl<'a> PartialSuccess<'a> {
    /// None if `body` is not the message it should be. Of what is there twice the last counts.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut partial = Self::default();
        fields(body, |field| {
            if field.number() != PARTIAL_SUCCESS {
                return Some(());
            }
            let inner = bytes(body, &field)?;
            fields(inner, |field| {
                match field.number() {
                    REJECTED => partial.rejected_spans = field.varint(inner)? as i64,
                    ERROR_MESSAGE => partial.message = text(inner, &field)?.into(),
                    _ => {}
                }
                Some(())
            })
        })?;
        Some(partial)
    }
}

/// The message of a `google.rpc.Status`; none if `body` is something else.
pub(super) fn status_message(body: &[u8]) -> Option<&str> {
    let mut message = "";
    fields(body, |field| {
        match field.number() {
            CODE => drop(field.varint(body)?),
            MESSAGE => message = text(body, &field)?,
            _ => {}
        }
        Some(())
    })?;
    Some(message)
}

/// Hands the fields of `message` to `take`; none if that finds something wrong, or they do not go on to its end.
pub(super) fn fields(message: &[u8], mut take: impl FnMut(Field) -> Option<()>) -> Option<()> {
    let mut fields = Fields::new(message, 0);
    fields.by_ref().try_for_each(&mut take)?;
    fields.are_over().then_some(())
}

pub(super) fn bytes<'a>(message: &'a [u8], field: &Field) -> Option<&'a [u8]> {
    (field.tag == tag(field.number(), LEN)).then(|| &message[field.body.clone()])
}

fn text<'a>(message: &'a [u8], field: &Field) -> Option<&'a str> {
    str::from_utf8(bytes(message, field)?).ok()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::hostile::mutated;

    /// As the official types have it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    }

    fn response(rejected_spans: i64, error_message: &str) -> Vec<u8> {
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: error_message.into() });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    }

    fn status(code: i32, message: &str) -> Vec<u8> {
        RpcStatus { code, message: message.into() }.encode_to_vec()
    }

    /// Bodies that nearly are the messages, or follow one another.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let message = prop_oneof![
            (any::<i64>(), any::<String>()).prop_map(|(rejected, message)| response(rejected, &message)),
            (any::<i32>(), any::<String>()).prop_map(|(code, message)| status(code, &message)),
            any::<Vec<u8>>(),
        ];
        mutated(prop::collection::vec(message, 0..4).prop_map(|messages| messages.concat()))
    }

    /// Groups are older than the format of these messages, which has none. Here they are not followed.
    fn has_groups(body: &[u8]) -> bool {
        body.iter().any(|byte| matches!(byte & 7, 3 | 4))
    }

    proptest! {
        #[test]
        fn an_answer_reads_as_it_was_written(rejected: i64, code: i32, text: String) {
            // RTY-06
            let partial = PartialSuccess { rejected_spans: rejected, message: Cow::Borrowed(&*text) };
            let (response, status) = (response(rejected, &text), status(code, &text));
            prop_assert_eq!(PartialSuccess::read(&response), Some(partial));
            prop_assert_eq!(status_message(&status), Some(text.as_str()));
        }

        #[test]
        fn whatever_comes_is_read_as_the_official_types_read_it(body in nearly()) {
            // RTY-06, RTY-11
            let theirs = ExportTraceServiceResponse::decode(body.as_slice()).map(|r| r.partial_success.unwrap_or_default());
            match (PartialSuccess::read(&body), &theirs) {
                (Some(ours), Ok(theirs)) => {
                    prop_assert_eq!(ours.rejected_spans, theirs.rejected_spans);
                    prop_assert_eq!(&*ours.message, &theirs.error_message);
                }
                (None, Err(_)) => {}
                (None, Ok(_)) => prop_assert!(has_groups(&body)),
                (Some(ours), Err(error)) => prop_assert!(false, "{ours:?}, {error}"),
            }
            match (status_message(&body), RpcStatus::decode(body.as_slice())) {
                (Some(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs.message),
                (None, Err(_)) => {}
                (None, Ok(_)) => prop_assert!(has_groups(&body)),
                (Some(ours), Err(error)) => prop_assert!(false, "{ours:?}, {error}"),
            }
        }
    }
}
