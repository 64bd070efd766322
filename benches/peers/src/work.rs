//! The work: what a request leaves behind as a span.

/// How many requests are prepared at most; spans take one after the other, and begin again.
const REQUESTS: usize = 1024;

/// Spans of one root in the tasks that deliver, itself included.
pub const GROUP: usize = 200;

/// What changes from span to span, prepared so that making it is not measured.
pub struct Request {
    /// `url.path`, 20 bytes.
    pub path: String,
    /// `user.id`, 12 bytes.
    pub user: String,
}

/// The prepared requests.
pub struct Requests(Vec<Request>);

impl Requests {
    /// Prepares them for so many spans. Numbers are spread, so that the bytes compress as those of real requests might.
    pub fn prepare(spans: usize) -> Self {
        let mut state: u32 = 0x9e37_79b9;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let request = |_| Request {
            path: format!("/api/orders/{:08}", next() % 100_000_000),
            user: format!("user-{:07}", next() % 10_000_000),
        };
        Self((0..spans.min(REQUESTS)).map(request).collect())
    }

    /// `count` of them, in turn.
    pub fn take(&self, count: usize) -> impl Iterator<Item = &Request> {
        self.0.iter().cycle().take(count)
    }
}
