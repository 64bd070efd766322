//! Names to addresses, within the time there is. The system's resolver knows no deadline: it is asked on a thread of
//! its own, once for all who wait, and what it said is remembered. ureq's own resolver does so for each request, which
//! doubles the CPU a request costs.

use std::{
    collections::HashMap,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use http::Uri;
use ureq::{
    Error,
    config::Config,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use crate::sync::{
    locks::{Condvar, Mutex},
    with_signals_blocked,
};

/// How long an answer is used before the name is looked up again, beside what goes on.
const FRESH: Duration = Duration::from_secs(30);

/// As many addresses as ureq takes.
const MOST: usize = 16;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves names and remembers them: the receiver's, and a proxy's. Clones remember the same.
#[derive(Clone)]
pub(super) struct CachingResolver(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    names: Mutex<HashMap<String, Name>>,
    answered: Condvar,
}

/// What is known of one host and port.
#[derive(Default)]
struct Name {
    /// What the system said, and when.
    known: Option<(Vec<SocketAddr>, Instant)>,
    /// A thread is looking it up.
    is_asked: bool,
    /// How often the system did not know it.
    failures: u64,
}

impl Default for CachingResolver {
    fn default() -> Self {
        Self::new(|name| Ok(name.to_socket_addrs()?.collect()))
    }
}

impl CachingResolver {
    fn new(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        let (names, answered) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { lookup: Box::new(lookup), names, answered }))
    }

    fn addresses(&self, name: &str, timeout: &NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let deadline = timeout.not_zero().and_then(|left| Instant::now().checked_add(*left));
        let mut names = self.0.names.lock();
        let failures = names.get(name).map_or(0, |entry| entry.failures);
        loop {
            let entry = names.entry(name.to_owned()).or_default();
            // A name server that is slow, or down for a moment, does not make a known receiver unknown.
            if let Some((addresses, at)) = entry.known.clone() {
                if at.elapsed() >= FRESH {
                    self.ask(name, entry);
                }
                return Ok(addresses);
            }
            if entry.failures != failures {
                return Err(Error::HostNotFound);
            }
            self.ask(name, entry);
            // Where no thread can be had, it has been asked on this one.
            if !entry.is_asked {
                continue;
            }
            match deadline {
                Some(deadline) if self.0.answered.wait_until(&mut names, deadline).timed_out() => {
                    return Err(Error::Timeout(timeout.reason));
                }
                Some(_) => {}
                None => self.0.answered.wait(&mut names),
            }
        }
    }

    /// Has the name looked up, unless a thread is at it.
    fn ask(&self, name: &str, entry: &mut Name) {
        if entry.is_asked {
            return;
        }
        let (shared, wanted) = (Arc::clone(&self.0), name.to_owned());
        let spawned = with_signals_blocked(|| {
            let thread = thread::Builder::new().name("otlp-resolver".to_owned());
            thread.spawn(move || {
                let found = (shared.lookup)(&wanted);
                shared.names.lock().entry(wanted).or_default().note(found);
                shared.answered.notify_all();
            })
        });
        match spawned {
            Ok(_) => entry.is_asked = true,
            Err(_) => entry.note((self.0.lookup)(name)),
        }
    }
}

impl Name {
    fn note(&mut self, found: io::Result<Vec<SocketAddr>>) {
        self.is_asked = false;
        match found {
            Ok(addresses) => self.known = Some((addresses, Instant::now())),
            Err(_) => self.failures += 1,
        }
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Error::HostNotFound);
        };
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let addresses = self.addresses(&name, &timeout)?;
        let mut wanted = self.empty();
        for address in config.ip_family().keep_wanted(addresses.into_iter()).take(MOST) {
            wanted.push(address);
        }
        if wanted.is_empty() { Err(Error::HostNotFound) } else { Ok(wanted) }
    }
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachingResolver")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    };

    use ureq::Timeout;

    use super::*;

    const NAME: &str = "collector:4318";

    fn address() -> SocketAddr {
        "192.0.2.1:4318".parse().unwrap()
    }

    fn within(millis: u64) -> NextTimeout {
        let after = Duration::from_millis(millis).into();
        NextTimeout { after, reason: Timeout::Global, ..NextTimeout::default() }
    }

    #[test]
    fn a_system_that_does_not_answer_costs_the_time_there_is_and_one_thread() {
        let (answer, answers) = mpsc::channel();
        let answers = Mutex::new(answers);
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let resolver = CachingResolver::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            answers.lock().recv().unwrap()
        });
        for _ in 0..3 {
            let begun = Instant::now();
            let addresses = resolver.addresses(NAME, &within(20));
            assert!(matches!(addresses, Err(Error::Timeout(Timeout::Global))), "{addresses:?}");
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        answer.send(Ok(vec![address()])).unwrap();
        assert_eq!(resolver.addresses(NAME, &within(30_000)).unwrap(), [address()]);
        assert_eq!(resolver.addresses(NAME, &within(0)).unwrap(), [address()]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unknown_name_is_asked_for_again_and_an_address_never() {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let resolver = CachingResolver::new(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(vec![address()]),
        });
        let addresses = resolver.addresses(NAME, &within(30_000));
        assert!(matches!(addresses, Err(Error::HostNotFound)), "{addresses:?}");
        assert_eq!(resolver.addresses(NAME, &within(30_000)).unwrap(), [address()]);
        assert_eq!(resolver.addresses("[::1]:4318", &within(0)).unwrap(), ["[::1]:4318".parse().unwrap()]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_was_known_serves_until_the_system_answers_again() {
        let resolver = CachingResolver::new(|_| Err(io::ErrorKind::NotFound.into()));
        let long_ago = Instant::now().checked_sub(2 * FRESH).expect("the machine has been up for a minute");
        let known = Name { known: Some((vec![address()], long_ago)), ..Name::default() };
        resolver.0.names.lock().insert(NAME.to_owned(), known);
        for _ in 0..3 {
            assert_eq!(resolver.addresses(NAME, &within(0)).unwrap(), [address()]);
        }
    }
}
