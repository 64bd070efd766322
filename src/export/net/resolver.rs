//! Names to addresses, within the time there is. The system's resolver knows no deadline: it is asked on a thread of
//! its own, once for all who wait, and what it said is remembered. ureq's own resolver does so for each request, which
//! doubles the CPU a request costs.

use std::{
    collections::HashMap,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::Arc,
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

use super::interface;
use crate::sync::{
    Runs,
    locks::{Condvar, Mutex},
    spawn,
};

/// How long an answer is used before the name is looked up again, beside what goes on.
const FRESH: Duration = Duration::from_secs(30);

/// How long the system is waited for with a name whose addresses are known anyway. It looks into a file, and asks
/// name servers only where the file does not say it.
const LOCAL: Duration = Duration::from_millis(20);

/// As many addresses as ureq takes.
const MOST: usize = 16;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Resolves names and remembers them: the receiver's, and a proxy's. Clones remember the same.
#[derive(Clone)]
pub(in crate::export) struct CachingResolver(Arc<Shared>);

struct Shared {
    lookup: Box<Lookup>,
    /// The network interface of the receiver's address, where that is one of IPv6 that needs one.
    zone: Option<String>,
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
    /// Why it could not be looked up the last time, where that says nothing about the name.
    hindrance: Option<Hindrance>,
}

impl CachingResolver {
    /// Asks the system.
    pub(in crate::export) fn new(zone: Option<&str>) -> Self {
        Self::asking(zone, |name| match name.to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(hindered(error, has_file_numbers)),
        })
    }

    fn asking(
        zone: Option<&str>,
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let (names, answered, zone) = (Mutex::default(), Condvar::new(), zone.map(str::to_owned));
        Self(Arc::new(Shared { lookup: Box::new(lookup), zone, names, answered }))
    }

    /// A host of which nothing is known so far, because the system has not answered yet. Nobody waits for `localhost`.
    pub(in crate::export) fn unanswered(&self) -> Option<String> {
        // Whoever holds it does so for a moment.
        let names = self.0.names.lock();
        let is_unanswered =
            |name: &str, entry: &Name| entry.is_asked && entry.known.is_none() && loopback(name).is_none();
        let (name, _) = names.iter().find(|(name, entry)| is_unanswered(name, entry))?;
        Some(host(name).to_owned())
    }

    fn addresses(&self, name: &str, timeout: &NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = name.parse() {
            return Ok(vec![self.in_zone(address)?]);
        }
        let loopback = loopback(name);
        let begun = Instant::now();
        let deadline = timeout.not_zero().and_then(|left| begun.checked_add(*left));
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
                return loopback.ok_or_else(|| entry.failure(name));
            }
            self.ask(name, entry);
            // Where no thread can be had, it has been asked on this one.
            if !entry.is_asked {
                continue;
            }
            if let Some(loopback) = &loopback {
                let until = deadline.map_or(begun + LOCAL, |deadline| deadline.min(begun + LOCAL));
                if self.0.answered.wait_until(&mut names, until).timed_out() {
                    return Ok(loopback.clone());
                }
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

    /// The address with the number that its zone has now: interfaces come and go.
    fn in_zone(&self, mut address: SocketAddr) -> Result<SocketAddr, Error> {
        if let (SocketAddr::V6(address), Some(zone)) = (&mut address, &self.0.zone) {
            let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no network interface {zone}"));
            address.set_scope_id(interface::number(zone).ok_or_else(unknown)?);
        }
        Ok(address)
    }

    /// Has the name looked up, unless a thread is at it.
    fn ask(&self, name: &str, entry: &mut Name) {
        if entry.is_asked {
            return;
        }
        let (shared, wanted) = (Arc::clone(&self.0), name.to_owned());
        let spawned = spawn("otlp-resolver", Runs::OwnCode, move || {
            let found = (shared.lookup)(&wanted);
            shared.names.lock().entry(wanted).or_default().note(found);
            shared.answered.notify_all();
        });
        match spawned {
            Ok(()) => entry.is_asked = true,
            Err(_) => entry.note((self.0.lookup)(name)),
        }
    }
}

fn host(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(host, _)| host)
}

/// What kept the system from looking a name up.
#[derive(Debug, Clone)]
struct Hindrance(String);

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hindrance {}

/// The same, or what is behind it. Whoever cannot open the system's lists of names and name servers does not know any
/// name, and the system tells no more than that.
fn hindered(error: io::Error, has_file_numbers: impl Fn() -> io::Result<()>) -> io::Error {
    let words = error.to_string();
    let why = match has_file_numbers() {
        Err(starved) => {
            format!("the system opens no files for it: {starved}; raise the limit (ulimit -n), or close some")
        }
        // In the words of glibc, and of musl.
        Ok(()) if words.contains("Temporary failure") || words.contains("Try again") => {
            "no name server answered".to_owned()
        }
        Ok(()) => return error,
    };
    io::Error::other(Hindrance(why))
}

/// Whether there are as many as looking a name up takes.
fn has_file_numbers() -> io::Result<()> {
    let open = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).or_else(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)));
    match open().and_then(|one| Ok((one, open()?))) {
        Err(error) if is_starved(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn is_starved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(not(unix))]
fn is_starved(_: &io::Error) -> bool {
    false
}

/// What `localhost` is by definition ([RFC 6761](https://www.rfc-editor.org/rfc/rfc6761#section-6.3)), whatever the
/// system knows; none for another name.
fn loopback(name: &str) -> Option<Vec<SocketAddr>> {
    let (host, port) = name.rsplit_once(':')?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_below = host.len() > 10 && host.is_char_boundary(host.len() - 10);
    let is_local = host.eq_ignore_ascii_case("localhost")
        || is_below && host[host.len() - 10..].eq_ignore_ascii_case(".localhost");
    let port = port.parse().ok().filter(|_| is_local)?;
    Some(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
}

impl Name {
    fn note(&mut self, found: io::Result<Vec<SocketAddr>>) {
        self.is_asked = false;
        match found {
            Ok(addresses) => self.known = Some((addresses, Instant::now())),
            Err(error) => {
                self.failures += 1;
                self.hindrance = error.get_ref().and_then(|inner| inner.downcast_ref()).cloned();
            }
        }
    }

    /// Why there is no address.
    fn failure(&self, name: &str) -> Error {
        let host = host(name);
        match &self.hindrance {
            // As an interface that is not there.
            Some(why) => {
                io::Error::new(io::ErrorKind::NotFound, format!("the host name {host} could not be looked up: {why}"))
                    .into()
            }
            None => Error::HostNotFound,
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
        let resolver = CachingResolver::asking(None, move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            answers.lock().recv().unwrap()
        });
        for _ in 0..3 {
            let begun = Instant::now();
            let addresses = resolver.addresses(NAME, &within(20));
            assert!(matches!(addresses, Err(Error::Timeout(Timeout::Global))), "{addresses:?}");
            assert!(begun.elapsed() < Duration::from_secs(10));
            assert_eq!(resolver.unanswered().as_deref(), Some("collector"));
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
        let resolver = CachingResolver::asking(None, move |_| match counted.fetch_add(1, Ordering::SeqCst) {
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
    fn what_kept_the_system_from_looking_is_told_and_forgotten_when_it_is_over() {
        let words = Mutex::new(vec!["Name or service not known", "Temporary failure in name resolution"]);
        let is_full = Mutex::new(true);
        let resolver = CachingResolver::asking(None, move |_| {
            let Some(words) = words.lock().pop() else { return Ok(vec![address()]) };
            let full = std::mem::take(&mut *is_full.lock());
            Err(hindered(io::Error::other(words), || if full { Err(io::Error::other("full")) } else { Ok(()) }))
        });
        let told = |error: Result<_, Error>| error.map(|_: Vec<SocketAddr>| ()).unwrap_err().to_string();
        let first = told(resolver.addresses(NAME, &within(30_000)));
        assert!(first.contains("collector could not be looked up: the system opens no files for it: full"), "{first}");
        assert!(matches!(resolver.addresses(NAME, &within(30_000)), Err(Error::HostNotFound)));
        assert_eq!(resolver.addresses(NAME, &within(30_000)).unwrap(), [address()]);
        assert!(
            hindered(io::Error::other("Temporary failure"), || Ok(())).to_string().contains("no name server answered")
        );
    }

    #[test]
    fn localhost_is_this_machine_though_the_system_does_not_know_it_or_does_not_answer() {
        let ours: [SocketAddr; 2] = ["127.0.0.1:4318".parse().unwrap(), "[::1]:4318".parse().unwrap()];
        let ignorant = CachingResolver::asking(None, |_| Err(io::ErrorKind::NotFound.into()));
        for name in ["localhost:4318", "LocalHost:4318", "localhost.:4318", "otlp.localhost:4318"] {
            assert_eq!(ignorant.addresses(name, &within(30_000)).unwrap(), ours, "{name}");
        }
        for name in ["localhost.example:4318", "notlocalhost:4318", ".localhos:1"] {
            assert!(matches!(ignorant.addresses(name, &within(30_000)), Err(Error::HostNotFound)), "{name}");
        }
        let (answer, answers) = mpsc::channel();
        let answers = Mutex::new(answers);
        let silent = CachingResolver::asking(None, move |_| answers.lock().recv().unwrap());
        assert_eq!(silent.addresses("localhost:4318", &within(30_000)).unwrap(), ours);
        assert_eq!(silent.unanswered(), None);
        // What the system says counts once it has said it.
        answer.send(Ok(vec![address()])).unwrap();
        let begun = Instant::now();
        while silent.addresses("localhost:4318", &within(30_000)).unwrap() != [address()] {
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_zone_is_a_network_interface_by_its_name_or_by_its_number() {
        let scope = |zone| match CachingResolver::new(Some(zone)).addresses("[::1]:4318", &within(0)) {
            Ok(addresses) => match addresses[..] {
                [SocketAddr::V6(address)] => Some(address.scope_id()),
                _ => panic!("{addresses:?}"),
            },
            Err(error) => {
                assert!(error.to_string().contains(zone), "{error}");
                None
            }
        };
        assert_eq!((scope("lo"), scope("1"), scope("no-such")), (Some(1), Some(1), None));
    }

    #[test]
    fn what_was_known_serves_until_the_system_answers_again() {
        let resolver = CachingResolver::asking(None, |_| Err(io::ErrorKind::NotFound.into()));
        let long_ago = Instant::now().checked_sub(2 * FRESH).expect("the machine has been up for a minute");
        let known = Name { known: Some((vec![address()], long_ago)), ..Name::default() };
        resolver.0.names.lock().insert(NAME.to_owned(), known);
        for _ in 0..3 {
            assert_eq!(resolver.addresses(NAME, &within(0)).unwrap(), [address()]);
        }
    }
}
