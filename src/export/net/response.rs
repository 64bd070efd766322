//! Reading an answer of HTTP/1.1 ([RFC 9112](https://www.rfc-editor.org/rfc/rfc9112)): bytes in, as they come; a head
//! and a body out. In time in proportion to what came, with bounded memory, whatever it is.

use httparse::{EMPTY_HEADER, Header, Status};

mod chunks;

use chunks::Chunks;
pub(in crate::export) use chunks::Progress;

/// The most bytes of a head, status line and headers.
const MOST_HEAD_BYTES: usize = 64 * 1024;
const MOST_HEADERS: usize = 128;
/// Line breaks before the status line that are overlooked.
const MOST_BREAKS: usize = 4;

/// What every answer begins with.
const BEGINNING: &[u8] = b"HTTP/1.";

/// Why what came is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::export) enum Unusable {
    /// It is something else than HTTP/1.0 or HTTP/1.1.
    OtherProtocol,
    /// Its head breaks the rules of HTTP/1.1, and how.
    Malformed(&'static str),
    /// Its head has more headers or bytes than anybody needs.
    Endless,
}

/// Reads heads out of what has come so far.
#[derive(Debug, Default)]
pub(in crate::export) struct HeadReader {
    /// How much of the input has been searched for the end of a head.
    searched: usize,
    /// How much there was when it was last parsed.
    parsed: usize,
}

/// What the head of an answer says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::export) struct Head {
    pub(in crate::export) status: u16,
    /// The value of `Retry-After`.
    pub(in crate::export) retry_after: Option<String>,
    /// What the body is.
    pub(in crate::export) content: Content,
    /// The schemes by which a proxy wants to be shown who asks, without what belongs to them.
    pub(in crate::export) proxy_authenticate: Option<String>,
    /// A proxy says so itself, and not whoever it was asked for. Of most proxies that cannot be told; squid and tinyproxy
    /// sign what is their own.
    pub(in crate::export) is_of_proxy: bool,
    /// Another request may follow over the connection.
    pub(in crate::export) keeps_alive: bool,
    framing: Framing,
}

/// What a body is, by its `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::export) enum Content {
    Json,
    /// A page for browsers.
    Page,
    /// What OTLP says it is, something else, or nobody says.
    #[default]
    Other,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl HeadReader {
    /// The head that `input` begins with, and its length; none if more has to come. `input` is what was given before,
    /// and more. Bytes that cannot become a head are told at once.
    pub(in crate::export) fn read(&mut self, input: &[u8]) -> Result<Option<(Head, usize)>, Unusable> {
        let breaks = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begun = &input[breaks..];
        if breaks > MOST_BREAKS || !begun.iter().zip(BEGINNING).all(|(byte, expected)| byte == expected) {
            return Err(Unusable::OtherProtocol);
        }
        // Each look begins at the front: when all is there, and else each time the input has doubled.
        let is_over = self.searched(begun);
        if is_over || begun.len() / 2 >= self.parsed && begun.len() > BEGINNING.len() {
            self.parsed = begun.len();
            let mut headers = [EMPTY_HEADER; MOST_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(begun) {
                Ok(Status::Complete(length)) if length <= MOST_HEAD_BYTES => {
                    return Ok(Some((Head::of(&response)?, breaks + length)));
                }
                Ok(Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => return Err(Unusable::Endless),
                Ok(Status::Partial) => {}
                Err(httparse::Error::Version) => return Err(Unusable::OtherProtocol),
                Err(error) => return Err(Unusable::Malformed(described(error))),
            }
        }
        if begun.len() > MOST_HEAD_BYTES { Err(Unusable::Endless) } else { Ok(None) }
    }

    /// Whether an empty line has come since this was last asked.
    fn searched(&mut self, begun: &[u8]) -> bool {
        let from = self.searched.saturating_sub(3).min(begun.len());
        self.searched = begun.len();
        let fresh = &begun[from..];
        memchr::memchr_iter(b'\n', fresh).any(|at| matches!(&fresh[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
    }
}

fn described(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::Status => "a status that is no number of three digits",
        httparse::Error::HeaderName => "a header without a valid name",
        httparse::Error::HeaderValue => "a header with control characters",
        httparse::Error::NewLine => "a line that does not end as it should",
        _ => "a line that is none of HTTP",
    }
}

impl Head {
    fn of(response: &httparse::Response<'_, '_>) -> Result<Self, Unusable> {
        let (mut length, mut codings, mut retry_after) = (None, None, None);
        let (mut closes, mut keeps) = (false, false);
        let (mut content, mut schemes) = (Content::Other, Vec::new());
        let mut is_of_proxy = false;
        for Header { name, value } in response.headers.iter() {
            if name.eq_ignore_ascii_case("content-length") {
                // Twice the same is the same.
                for number in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    let number = self::length(number).ok_or(Unusable::Malformed("a length that is no number"))?;
                    if *length.get_or_insert(number) != number {
                        return Err(Unusable::Malformed("two lengths"));
                    }
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                codings = Some(*value);
            } else if name.eq_ignore_ascii_case("connection") {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    closes |= token.eq_ignore_ascii_case(b"close");
                    keeps |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("retry-after") {
                retry_after = str::from_utf8(value).ok().map(str::to_owned);
            } else if name.eq_ignore_ascii_case("x-squid-error")
                || name.eq_ignore_ascii_case("server") && value.starts_with(b"tinyproxy")
            {
                is_of_proxy = true;
            } else if name.eq_ignore_ascii_case("content-type") {
                content = Content::of(value);
            } else if name.eq_ignore_ascii_case("proxy-authenticate") {
                schemes.extend(scheme(value).filter(|_| schemes.len() < MOST_SCHEMES));
            }
        }
        let status = response.code.unwrap_or_default();
        let is_chunked = |codings: &[u8]| {
            let last = codings.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            last.trim_ascii().eq_ignore_ascii_case(b"chunked")
        };
        // RFC 9112, 6.3.
        let framing = match (status, codings, length) {
            (100..=199 | 204 | 304, ..) => Framing::Length(0),
            (_, Some(codings), _) if is_chunked(codings) => Framing::Chunked,
            (_, Some(_), _) | (_, None, None) => Framing::UntilClose,
            (_, None, Some(length)) => Framing::Length(length),
        };
        // Two ways to find the end may lead to two ends.
        let is_unambiguous = codings.is_none() || length.is_none() && response.version == Some(1);
        let is_kept = if response.version == Some(1) { !closes } else { keeps && !closes };
        let keeps_alive = is_kept && is_unambiguous && status != SWITCHED;
        let proxy_authenticate = Some(schemes.join(", ")).filter(|schemes| !schemes.is_empty());
        Ok(Self { status, retry_after, content, proxy_authenticate, is_of_proxy, keeps_alive, framing })
    }

    /// Whether another answer follows, which is the one that counts.
    pub(in crate::export) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != SWITCHED
    }
}

impl Content {
    fn of(value: &[u8]) -> Self {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        if is("application/json") {
            Self::Json
        } else if is("text/html") || is("application/xhtml+xml") {
            Self::Page
        } else {
            Self::Other
        }
    }
}

/// More are in no challenge.
const MOST_SCHEMES: usize = 8;
const LONGEST_SCHEME: usize = 32;

/// The scheme at the beginning of a challenge.
fn scheme(challenge: &[u8]) -> Option<&str> {
    let end = challenge.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    let scheme = &challenge[..end.unwrap_or(challenge.len())];
    str::from_utf8(scheme).ok().filter(|scheme| (1..=LONGEST_SCHEME).contains(&scheme.len()))
}

/// The receiver speaks something else from here on, which nobody asked for.
const SWITCHED: u16 = 101;

/// A length; one that is too large to be counted is as large as it can be.
fn length(digits: &[u8]) -> Option<u64> {
    let number = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(*digit - b'0'));
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, number))
}

/// The body of an answer, while it comes.
#[derive(Debug)]
pub(in crate::export) struct Body {
    rest: Rest,
    bytes: Vec<u8>,
    most: usize,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunks(Chunks),
    UntilClose,
}

impl Body {
    /// The body behind `head`, of which at most so many bytes are read.
    pub(in crate::export) fn of(head: &Head, most: usize) -> Self {
        let rest = match head.framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunks(Chunks::default()),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self { rest, bytes: Vec::new(), most }
    }

    /// Takes what has come, and says how much of it was of this body.
    pub(in crate::export) fn take(&mut self, input: &[u8]) -> (usize, Progress) {
        match &mut self.rest {
            Rest::Length(left) => {
                let own = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= own as u64;
                let is_whole = *left == 0;
                match keep(&mut self.bytes, &input[..own], self.most) {
                    false => (own, Progress::TooLarge),
                    true => (own, if is_whole { Progress::Whole } else { Progress::Open }),
                }
            }
            Rest::Chunks(chunks) => chunks.take(input, |bytes| keep(&mut self.bytes, bytes, self.most)),
            Rest::UntilClose => match keep(&mut self.bytes, input, self.most) {
                false => (input.len(), Progress::TooLarge),
                true => (input.len(), Progress::Open),
            },
        }
    }

    /// What of it has come.
    pub(in crate::export) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Keeps `more` unless that makes more than `most` bytes.
fn keep(bytes: &mut Vec<u8>, more: &[u8], most: usize) -> bool {
    let fits = more.len() <= most - bytes.len();
    if fits {
        bytes.extend_from_slice(more);
    }
    fits
}

#[cfg(test)]
mod tests;
