use std::{
    collections::BTreeSet,
    env,
    sync::atomic::{AtomicU32, AtomicU64},
};

use parking_lot::{RwLock, RwLockReadGuard};

use super::*;
use crate::config::Compression;

mod killed;

const URL: &str = "http://localhost:4318/v1/traces";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Steps until this process is killed, where that is wanted.
static STEPS_LEFT: AtomicU32 = AtomicU32::new(u32::MAX);

pub(super) fn boundary() {
    if STEPS_LEFT.load(Ordering::Relaxed) != u32::MAX && STEPS_LEFT.fetch_sub(1, Ordering::Relaxed) == 0 {
        killed::kill_this_process();
    }
}

/// Between fork and exec a child has a copy of every descriptor, and so keeps locked what this process has just given
/// up: who starts children does so while nobody else claims.
static NO_CHILDREN: RwLock<()> = RwLock::new(());

/// A directory that does not exist yet, and is removed in the end.
struct Place(PathBuf, #[expect(dead_code, reason = "held, not looked at")] Option<RwLockReadGuard<'static, ()>>);

impl Place {
    fn new() -> Self {
        Self(Self::path(), Some(NO_CHILDREN.read()))
    }

    fn path() -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        env::temp_dir().join(format!("otlp-spool-unit-{}-{number}", std::process::id())).join("spool")
    }

    fn spool(&self) -> Spool {
        self.spool_of(SpoolConfig::default())
    }

    fn spool_of(&self, config: SpoolConfig) -> Spool {
        Spool::new(&config, &self.0, URL)
    }

    /// Every file below, by its name.
    fn files(&self) -> Vec<String> {
        let files = directories(&self.0).flat_map(|lane| fs::read_dir(lane).unwrap());
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The only body's path.
    fn body(&self) -> PathBuf {
        let files = directories(&self.0).flat_map(|lane| fs::read_dir(lane).unwrap());
        let mut bodies = files.map(|file| file.unwrap().path()).filter(|path| path.extension().unwrap() == "otlp");
        let body = bodies.next().expect("a body");
        assert!(bodies.next().is_none());
        body
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn contents(body: &[u8]) -> Contents<'_> {
    Contents { spans: body.len() as u64, uncompressed: 90, compression: Compression::Gzip, body }
}

fn store(spool: &Spool, body: &str) {
    drop(spool.store(&contents(body.as_bytes()), SystemTime::now()).unwrap());
}

fn claim(spool: &Spool) -> Option<Found> {
    spool.claim(SystemTime::now(), |_| true)
}

fn claim_body(spool: &Spool) -> Option<(Claimed, String)> {
    match claim(spool)? {
        Found::Body { claimed, body, .. } => Some((claimed, String::from_utf8(body).unwrap())),
        other => panic!("{other:?}"),
    }
}

/// Sends everything there is to send.
fn drain(spool: &Spool) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some((claimed, body)) = claim_body(spool) {
        claimed.done();
        bodies.push(body);
    }
    bodies
}

#[test]
fn a_body_comes_back_as_it_was_written_to_whoever_asks_for_the_same_url() {
    let place = Place::new();
    let (spool, other) = (place.spool(), place.spool());
    store(&spool, "a body");
    match claim(&other) {
        Some(Found::Body { claimed, header, body }) => {
            assert_eq!((header.spans, header.uncompressed, header.compression), (6, 90, Compression::Gzip));
            assert_eq!((body.as_slice(), claimed.is_own()), (&b"a body"[..], false));
        }
        found => panic!("{found:?}"),
    }
    let (own, _) = claim_body(&spool).unwrap();
    assert!(own.is_own(), "what was given back is free again");
    own.done();
    assert!(claim(&spool).is_none() && claim(&other).is_none());
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn a_body_is_never_given_to_who_sends_elsewhere() {
    let place = Place::new();
    store(&place.spool(), "for the first");
    for url in
        ["http://localhost:4318/v1/traces/", "http://localhost:4319/v1/traces", "https://localhost:4318/v1/traces"]
    {
        assert!(claim(&Spool::new(&SpoolConfig::default(), &place.0, url)).is_none(), "{url}");
    }
    assert_eq!(drain(&place.spool()), ["for the first"]);
}

#[test]
fn the_hash_in_the_path_is_the_published_one() {
    // From the reference implementation's test vectors.
    assert_eq!((fnv1a(b""), fnv1a(b"foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
}

#[test]
fn a_spool_that_is_not_used_leaves_no_trace() {
    let place = Place::new();
    let spool = place.spool();
    assert!(claim(&spool).is_none());
    assert_eq!(spool.sweep(SystemTime::now()), []);
    assert!(!place.0.parent().unwrap().exists());
}

#[cfg(unix)]
#[test]
fn what_is_written_is_for_the_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    store(&place.spool(), "secret");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let body = place.body();
    assert_eq!((mode(&body), mode(body.parent().unwrap()), mode(&place.0)), (0o600, 0o700, 0o700));
    let first_made = place.0.parent().unwrap();
    assert_eq!(mode(first_made), 0o700);
}

#[test]
fn what_one_holds_nobody_else_gets_until_it_is_given_back_or_gone() {
    let place = Place::new();
    let (spool, other) = (place.spool(), place.spool());
    let written = spool.store(&contents(b"1"), SystemTime::now()).unwrap();
    assert!(claim(&other).is_none(), "the writer holds it");
    drop(written);
    let (held, _) = claim_body(&spool).unwrap();
    assert!(claim(&other).is_none() && claim(&spool).is_none());
    drop(held);
    let (held, body) = claim_body(&other).unwrap();
    assert_eq!(body, "1");
    held.done();
    assert!(claim(&spool).is_none());
}

#[test]
fn a_copy_of_the_descriptor_in_a_forked_child_neither_frees_the_file_nor_gives_it_to_the_child() {
    let place = Place::new();
    let spool = place.spool();
    store(&spool, "1");
    let (held, _) = claim_body(&spool).unwrap();
    let copy = held.copy_of_file();
    assert!(claim(&place.spool()).is_none(), "whoever opens it anew");
    drop(copy);
    assert!(claim(&place.spool()).is_none(), "closing one of two descriptors");
    let copy = held.copy_of_file();
    drop(held);
    assert!(claim(&place.spool()).is_none(), "the other one is as good");
    drop(copy);
    assert!(claim(&place.spool()).is_some());
}

#[test]
fn the_oldest_body_comes_first_whoever_wrote_it() {
    let place = Place::new();
    let now = SystemTime::now();
    for (age, body) in [(2, "3"), (9, "1"), (5, "2"), (1, "4")] {
        drop(place.spool().store(&contents(body.as_bytes()), now - Duration::from_secs(age)).unwrap());
    }
    assert_eq!(drain(&place.spool()), ["1", "2", "3", "4"]);
}

#[test]
fn more_bodies_than_are_listed_at_a_time_all_come_once() {
    let place = Place::new();
    let spool = place.spool();
    let all: Vec<_> = (0..2 * LISTED + 10).map(|number| number.to_string()).collect();
    for body in &all {
        store(&spool, body);
    }
    assert_eq!(drain(&place.spool()), all);
}

#[test]
fn of_many_that_claim_at_once_each_body_goes_to_one() {
    let place = Place::new();
    let spool = place.spool();
    (0..200).for_each(|number| store(&spool, &number.to_string()));
    let mut all: Vec<String> = std::thread::scope(|scope| {
        // Each its own spool, as in processes of their own: a lock belongs to whoever opened the file.
        let senders: Vec<_> = (0..8).map(|_| scope.spawn(|| drain(&place.spool()))).collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    let distinct: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!((all.len(), distinct.len()), (200, 200));
    all.clear();
    assert_eq!(drain(&spool), all);
}

#[test]
fn a_damaged_file_is_set_aside_and_told_once_and_the_others_are_sent() {
    let damage: [fn(Vec<u8>) -> Vec<u8>; 6] = [
        |mut file| {
            *file.last_mut().unwrap() ^= 1;
            file
        },
        |mut file| {
            file[15] ^= 1;
            file
        },
        |mut file| {
            file.truncate(HEADER_BYTES + 1);
            file
        },
        |mut file| {
            file.truncate(3);
            file
        },
        |mut file| {
            file.push(0);
            file
        },
        |file| vec![0; file.len()],
    ];
    for (number, damage) in damage.into_iter().enumerate() {
        let place = Place::new();
        let spool = place.spool();
        store(&spool, "damaged");
        let path = place.body();
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        store(&spool, "sound");
        match claim(&spool) {
            Some(Found::Damaged { path: aside, .. }) => assert_eq!(aside, path.with_extension("damaged")),
            found => panic!("{number}: {found:?}"),
        }
        assert_eq!(drain(&spool), ["sound"], "{number}");
        assert!(claim(&place.spool()).is_none(), "{number}");
        assert_eq!(place.files().len(), 1, "{number}");
    }
}

#[test]
fn an_empty_file_was_sent_and_could_not_be_removed() {
    let place = Place::new();
    let spool = place.spool();
    store(&spool, "sent");
    fs::write(place.body(), "").unwrap();
    assert!(claim(&spool).is_none());
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn files_that_are_not_the_spools_are_left_alone() {
    let place = Place::new();
    let spool = place.spool();
    store(&spool, "body");
    let path = place.body();
    let lane = path.parent().unwrap();
    fs::write(lane.join("README"), "x").unwrap();
    fs::write(place.0.join("notes.otlp"), "x").unwrap();
    fs::create_dir(lane.join("00000000000000000001-00000000000000ab-7-1.otlp")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&path, lane.join("00000000000000000001-00000000000000ab-7-2.otlp")).unwrap();
        let socket = lane.join("00000000000000000001-00000000000000ab-7-3.tmp");
        std::os::unix::net::UnixListener::bind(socket).unwrap();
    }
    let before = place.files().len();
    spool.sweep(SystemTime::now() + 30 * DAY);
    assert_eq!(place.files().len(), before - 1, "the body was too old, the rest is none of our business");
    assert!(claim(&spool).is_none());
    assert!(place.0.join("notes.otlp").exists());
}

#[test]
fn a_body_without_room_in_memory_stays_where_it_is() {
    let place = Place::new();
    let spool = place.spool();
    store(&spool, "large body");
    store(&spool, "small");
    match spool.claim(SystemTime::now(), |bytes| bytes < 6) {
        Some(Found::Body { claimed, body, .. }) => {
            assert_eq!(body, b"small");
            claimed.done();
        }
        found => panic!("{found:?}"),
    }
    assert_eq!(drain(&spool), ["large body"]);
}

#[test]
fn what_exceeds_the_cap_is_refused_and_what_is_there_stays() {
    let place = Place::new();
    let config = SpoolConfig { max_bytes: 2 * (HEADER_BYTES as u64 + 3), ..SpoolConfig::default() };
    let spool = place.spool_of(config.clone());
    store(&spool, "one");
    // Bodies for other receivers count too.
    store(&Spool::new(&config, &place.0, "http://elsewhere/"), "two");
    let spool = place.spool_of(config);
    match spool.store(&contents(b"."), SystemTime::now()) {
        Err(StoreError::Full { used, max }) => assert_eq!(used, max),
        other => panic!("{other:?}"),
    }
    assert_eq!(place.files().len(), 2);
    assert_eq!(drain(&spool), ["one"]);
    store(&spool, "new");
    assert_eq!(drain(&spool), ["new"]);
}

#[test]
fn a_body_that_waited_too_long_is_removed_and_counted_where_it_is_met() {
    let place = Place::new();
    let spool = place.spool();
    store(&spool, "old");
    let later = SystemTime::now() + 8 * DAY;
    drop(spool.store(&contents(b"young"), later).unwrap());
    let unlimited = place.spool_of(SpoolConfig { max_age: Duration::ZERO, ..SpoolConfig::default() });
    match unlimited.claim(later + 1000 * DAY, |_| true) {
        Some(Found::Body { body, .. }) => assert_eq!(body, b"old", "zero is no limit"),
        found => panic!("{found:?}"),
    }
    match spool.claim(later, |_| true) {
        Some(Found::Expired(expired)) => assert_eq!(expired, Expired { spans: 3, is_own: true }),
        found => panic!("{found:?}"),
    }
    assert_eq!(drain(&spool), ["young"]);
}

#[test]
fn a_sweep_removes_what_is_too_old_or_unfinished_and_nothing_else() {
    let place = Place::new();
    let spool = place.spool();
    let elsewhere = Spool::new(&SpoolConfig::default(), &place.0, "http://elsewhere/");
    store(&elsewhere, "nobody sends there any more");
    store(&spool, "damaged");
    let path = place.files();
    assert_eq!(path.len(), 2);
    let body = directories(&place.0).flat_map(|lane| fs::read_dir(lane).unwrap());
    let body = body.map(|entry| entry.unwrap().path()).find(|path| path.starts_with(&spool.lane)).unwrap();
    fs::write(&body, "x").unwrap();
    assert!(matches!(claim(&spool), Some(Found::Damaged { .. })));
    fs::write(spool.lane.join("00000000000000000001-00000000000000ab-7-1.tmp"), "half a bo").unwrap();
    let writing = fs::File::create(spool.lane.join("00000000000000000001-00000000000000ab-7-2.tmp")).unwrap();
    assert!(claim::lock(&writing).unwrap());
    store(&spool, "young");
    assert_eq!(spool.sweep(SystemTime::now()), []);
    assert_eq!(place.files().len(), 4, "only the leftover is gone: {:?}", place.files());
    let expired = spool.sweep(SystemTime::now() + 8 * DAY);
    let spans: Vec<_> = expired.iter().map(|body| (body.spans, body.is_own)).collect();
    assert_eq!(spans.len(), 2);
    assert!(spans.contains(&(27, false)) && spans.contains(&(5, true)), "{spans:?}");
    assert_eq!(place.files(), ["00000000000000000001-00000000000000ab-7-2.tmp"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_that_says_so() {
    let place = Place::new();
    fs::create_dir_all(place.0.parent().unwrap()).unwrap();
    fs::write(&place.0, "a file").unwrap();
    match place.spool().store(&contents(b"body"), SystemTime::now()) {
        Err(error @ StoreError::Io(_)) => assert!(error.advice().contains("OTLP_SPOOL_DIR"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(claim(&place.spool()).is_none());
}

#[test]
fn a_body_is_replaced_by_its_halves_and_these_by_theirs() {
    let place = Place::new();
    let spool = place.spool_of(SpoolConfig { fsync: true, ..SpoolConfig::default() });
    store(&spool, "abcd");
    let (whole, _) = claim_body(&spool).unwrap();
    spool.split(whole, &[contents(b"ab"), contents(b"cd")]).unwrap();
    let (half, body) = claim_body(&spool).unwrap();
    assert_eq!((body.as_str(), half.is_own()), ("ab", true));
    spool.split(half, &[contents(b"a"), contents(b"b")]).unwrap();
    assert_eq!(drain(&place.spool()), ["a", "b", "cd"]);
    assert_eq!(place.files(), Vec::<String>::new());
}

/// When a machine without a clock of its own believes it is, half a minute after it was switched on.
fn just_on() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(30)
}

/// Writes a body while the clock shows `time`, which the file system shows too.
fn store_at(place: &Place, body: &str, time: SystemTime) {
    let claimed = place.spool().store(&contents(body.as_bytes()), time).unwrap();
    claimed.copy_of_file().set_modified(time).unwrap();
}

#[test]
fn what_was_written_before_the_clock_was_set_or_while_it_was_ahead_is_as_old_as_its_first_sight() {
    let now = SystemTime::now();
    for written in [just_on(), now - 20_000 * DAY, now + 30 * DAY, now + 20_000 * DAY] {
        let place = Place::new();
        store_at(&place, "body", written);
        assert_eq!(place.spool().sweep(just_on()), [], "a clock that is not set makes nothing old");
        assert_eq!(place.spool().sweep(now), []);
        assert_eq!(place.spool().sweep(now + 6 * DAY), [], "another process counts from the same first sight");
        match place.spool().claim(now + 6 * DAY, |_| true) {
            Some(Found::Body { body, .. }) => assert_eq!(body, b"body"),
            found => panic!("{found:?}"),
        }
        let expired = place.spool().sweep(now + 8 * DAY);
        assert_eq!(expired, [Expired { spans: 4, is_own: false }], "nor does it stay for ever");
        assert_eq!(place.files(), Vec::<String>::new());
    }
}

#[test]
fn a_body_of_an_unset_clock_is_stamped_by_whoever_claims_it_too() {
    let place = Place::new();
    let now = SystemTime::now();
    store_at(&place, "body", just_on());
    assert!(matches!(place.spool().claim(now, |_| true), Some(Found::Body { .. })));
    assert!(matches!(place.spool().claim(now + 6 * DAY, |_| true), Some(Found::Body { .. })));
    assert!(matches!(place.spool().claim(now + 8 * DAY, |_| true), Some(Found::Expired(_))));
}

#[test]
fn halves_of_a_body_of_an_unset_clock_are_as_old_as_it_was() {
    let place = Place::new();
    let now = SystemTime::now();
    store_at(&place, "abcd", just_on());
    let four_days_ago = now - 4 * DAY;
    let Some(Found::Body { claimed, .. }) = place.spool().claim(four_days_ago, |_| true) else { panic!("a body") };
    place.spool().split(claimed, &[contents(b"ab"), contents(b"cd")]).unwrap();
    assert_eq!(place.spool().sweep(now + 2 * DAY), []);
    assert_eq!(place.spool().sweep(now + 4 * DAY).len(), 2);
}

#[test]
fn a_damaged_file_of_an_unset_clock_is_kept_for_its_time_and_then_removed() {
    let place = Place::new();
    let now = SystemTime::now();
    store_at(&place, "body", just_on());
    let path = place.body();
    fs::write(&path, "x").unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(just_on()).unwrap();
    drop(file);
    assert!(matches!(claim(&place.spool()), Some(Found::Damaged { .. })));
    for (days, left) in [(0, 1), (6, 1), (8, 0)] {
        assert_eq!(place.spool().sweep(now + days * DAY), []);
        assert_eq!(place.files().len(), left, "after {days} days");
    }
}
