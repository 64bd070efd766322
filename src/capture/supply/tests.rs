use super::*;

#[test]
fn the_bound_holds_and_a_returned_chunk_is_handed_out_again() {
    let supply = Supply::with_chunks_of(200, 64);
    let chunks: Vec<_> = std::iter::from_fn(|| supply.chunk(10)).collect();
    assert_eq!((chunks.len(), supply.held()), (3, 192));
    drop(chunks);
    assert_eq!(supply.held(), 192, "idle chunks stay accounted for");
    assert!(supply.chunk(10).is_some());
}

#[test]
fn idle_chunks_make_room_for_what_is_needed_instead() {
    let supply = Supply::with_chunks_of(200, 64);
    drop(std::iter::from_fn(|| supply.chunk(10)).collect::<Vec<_>>());
    assert!(supply.reserve(150));
    assert!(!supply.reserve(51));
    supply.release(150);
    assert!(supply.chunk(200).is_some(), "a large record gets a chunk of its own");
}

#[test]
fn a_request_that_is_refused_does_not_stand_in_the_way_of_one_that_fits() {
    let supply = Supply::with_chunks_of(1000, 64);
    std::thread::scope(|threads| {
        threads.spawn(|| (0..200_000).for_each(|_| assert!(!supply.reserve(1001))));
        for _ in 0..200_000 {
            assert!(supply.reserve(1000));
            supply.release(1000);
        }
    });
}

#[test]
fn what_is_held_beyond_the_bound_is_taken_from_the_chunks() {
    let supply = Supply::with_chunks_of(256, 64);
    let mut chunks: Vec<_> = std::iter::from_fn(|| supply.chunk(10)).collect();
    supply.hold(100);
    assert_eq!(supply.held(), 356, "it exists already");
    chunks.truncate(2);
    assert_eq!(supply.held(), 228, "two chunks were freed, not kept");
    drop(chunks);
    supply.hold(100);
    assert_eq!(supply.held(), 200, "idle chunks made room");
}

#[test]
fn in_want_a_chunk_that_comes_back_goes_back_to_the_system() {
    let supply = Supply::with_chunks_of(1000, 64);
    let chunks: Vec<_> = (0..3).filter_map(|_| supply.chunk(10)).collect();
    supply.note_want();
    assert!(supply.is_in_want() && supply.held() == 192);
    drop(chunks);
    assert_eq!(supply.held(), 0);
    assert!(supply.chunk(10).is_some() && !supply.is_in_want(), "what was freed is looked for at once");
}

#[test]
fn rings_are_pressed_beyond_half_of_what_the_others_leave_them() {
    let supply = Supply::with_chunks_of(1000, 64);
    let mut chunks: Vec<_> = (0..7).filter_map(|_| supply.chunk(10)).collect();
    assert!(!supply.is_pressed(), "448 of 1000");
    assert!(supply.reserve(200));
    assert!(supply.is_pressed(), "448 of 800");
    chunks.truncate(3);
    assert!(!supply.is_pressed(), "192 of 800, the idle ones do not count");
}

#[test]
fn the_default_bound_takes_200_000_spans_of_300_bytes_whole_with_four_workers() {
    // What the client leaves of 64 MiB for rings beside four workers, and the head around each span.
    let supply = Supply::new((64 << 20) - (3 + 4) * 512 * 1024);
    let record = [7; 300 + 3];
    let mut producers: Vec<_> = (0..4).map(|_| crate::capture::ring::Ring::new(0).1).collect();
    for producer in &mut producers {
        for number in 0..50_000 {
            assert!(producer.push(&supply, 0, &record).is_ok(), "span {number}");
        }
    }
}

#[test]
fn a_large_chunk_is_freed_and_not_kept() {
    let supply = Supply::with_chunks_of(1000, 64);
    drop(supply.chunk(500));
    assert_eq!(supply.held(), 0);
}

#[test]
fn trimming_keeps_the_warm_chunks_only() {
    let supply = Supply::with_chunks_of(64 * 100, 64);
    drop(std::iter::from_fn(|| supply.chunk(10)).collect::<Vec<_>>());
    supply.trim();
    assert_eq!(supply.held(), 64 * 64);
}

fn pooled(limit: usize, pooling: Pooling) -> Arc<Supply> {
    Supply::with_pool(limit, Pooling { chunk_bytes: Some(pooling.chunk_bytes.unwrap_or(64)), ..pooling })
}

fn chunks(supply: &Supply, count: usize) -> Vec<ChunkRef> {
    (0..count).map_while(|_| supply.chunk(10)).collect()
}

fn idle(supply: &Supply) -> usize {
    supply.holdings().chunks_idle / supply.chunk_bytes()
}

#[test]
fn an_exhausted_pool_grows_by_its_factor_within_both_bounds() {
    let supply = pooled(64 * 100, Pooling { growth_factor: 2.0, ..Pooling::default() });
    let mut taken = Vec::new();
    let sizes: Vec<_> = (0..9)
        .map(|_| {
            taken.extend(supply.chunk(10));
            supply.held() / 64
        })
        .collect();
    assert_eq!(sizes, [1, 2, 4, 4, 8, 8, 8, 8, 16]);
    taken.extend(chunks(&supply, 100));
    assert_eq!((taken.len(), supply.held()), (100, 6400), "the last step is cut at the bound");

    let capped = pooled(64 * 100, Pooling { growth_factor: 10.0, max_bytes: 64 * 12, ..Pooling::default() });
    let _taken = chunks(&capped, 2);
    assert_eq!(capped.held(), 64 * 10);
    let _more = chunks(&capped, 100);
    assert_eq!(capped.held(), 64 * 12);
}

#[test]
fn a_pool_with_a_bound_of_its_own_gives_no_chunk_beyond_it_and_leaves_the_rest_to_others() {
    let supply = pooled(1000, Pooling { max_bytes: 130, ..Pooling::default() });
    let taken = chunks(&supply, 10);
    assert_eq!((taken.len(), supply.held()), (2, 128));
    assert!(supply.reserve(800), "bodies are not bound by it");
    assert_eq!(supply.could_end(0, 64), Prospect::Rings);
    assert_eq!(supply.could_end(0, 200), Prospect::None, "such a record never fits");
    drop(taken);
    assert_eq!(supply.could_end(0, 64), Prospect::Rings, "idle ones count as well");
    assert_eq!(chunks(&supply, 10).len(), 2, "but are handed out again");
    assert!(supply.chunk(200).is_none());
    assert_eq!(supply.holdings().chunks_idle, 128, "nothing is given up in vain");
    assert!(supply.chunk(100).is_some(), "and make room for a large one");
    assert_eq!(supply.holdings().chunks_idle, 0);
}

#[test]
fn rings_are_pressed_beyond_half_of_what_the_pool_may_take() {
    let supply = pooled(1 << 20, Pooling { max_bytes: 64 * 4, ..Pooling::default() });
    let mut taken = chunks(&supply, 2);
    assert!(!supply.is_pressed());
    taken.extend(supply.chunk(10));
    assert!(supply.is_pressed());
}

#[test]
fn trimming_leaves_the_share_that_may_be_idle() {
    for (idle_share, left_idle) in [(0.0, 0), (0.5, 200), (0.8, 800), (1.0, 1000)] {
        let supply = pooled(usize::MAX, Pooling { idle_share, ..Pooling::default() });
        let mut taken = chunks(&supply, 1200);
        drop(taken.split_off(200));
        supply.trim();
        assert_eq!(idle(&supply), left_idle, "{idle_share}");
        let given = (1000 - left_idle as u64) * 64;
        assert_eq!(supply.trims(), (u64::from(given > 0), given));
        assert_eq!(supply.held(), 64 * (200 + left_idle));
    }
}

#[test]
fn what_a_pool_begins_with_is_made_once_and_kept_while_workers_rest() {
    let supply = pooled(64 * 100, Pooling { initial_bytes: 640, idle_share: 0.0, ..Pooling::default() });
    assert_eq!(supply.held(), 0, "nothing before a worker starts");
    let first = supply.chunk(10);
    supply.prepare();
    assert_eq!((idle(&supply), supply.held()), (9, 640), "together with what was there");
    drop((first, chunks(&supply, 20)));
    supply.trim();
    assert_eq!((idle(&supply), supply.held()), (10, 640));
    assert_eq!(supply.trim_all(100), 740, "unless all is asked for");
    supply.prepare();
    assert_eq!(supply.held(), 0, "once");
}

#[cfg(target_os = "linux")]
#[test]
fn chunks_made_ahead_are_in_memory_before_they_are_written_to() {
    const CHUNK: usize = 64 * 4096;
    let pooling = Pooling { initial_bytes: CHUNK, chunk_bytes: Some(CHUNK), ..Pooling::default() };
    let faults = |is_prepared: bool| {
        let supply = pooled(1 << 20, pooling.clone());
        if is_prepared {
            supply.prepare();
        }
        let (_ring, mut producer) = crate::capture::ring::Ring::new(0);
        producer.push(&supply, 0, &[7; 8]).unwrap();
        let record = [7; 4000];
        let before = minor_faults();
        (0..60).for_each(|_| assert!(producer.push(&supply, 0, &record).is_ok()));
        minor_faults() - before
    };
    let (cold, warm) = (faults(false), faults(true));
    assert!(cold >= 50 && warm <= 5, "{cold} page faults, and {warm}");
}

#[cfg(target_os = "linux")]
fn minor_faults() -> i64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_THREAD).unwrap().minor_page_faults()
}

#[test]
fn where_nothing_is_used_again_a_chunk_is_freed_when_it_is_empty() {
    let supply =
        pooled(64 * 100, Pooling { recycles: false, initial_bytes: 640, growth_factor: 4.0, ..Pooling::default() });
    supply.prepare();
    assert_eq!(supply.held(), 0);
    let taken = chunks(&supply, 5);
    assert_eq!(supply.held(), 5 * 64);
    drop(taken);
    assert_eq!(supply.held(), 0);
    let (_ring, mut producer) = crate::capture::ring::Ring::new(0);
    (0..4).for_each(|_| assert!(producer.push(&supply, 0, &[7; 8]).is_ok()));
    assert_eq!(supply.held(), 64, "records share a chunk all the same");
}

#[test]
fn a_record_larger_than_a_chunk_is_accounted_for_in_whole_pages() {
    let supply = Supply::new(64 << 20);
    assert_eq!(supply.chunk_bytes(), 16 * 1024);
    let large = supply.chunk(16 * 1024 + 1);
    assert_eq!(supply.held(), 20 * 1024);
    drop(large);
    assert_eq!(supply.holdings().chunks_in_use, 0);
}

#[test]
fn parts_are_told_apart_and_add_up() {
    let supply = pooled(10_000, Pooling::default());
    let taken = chunks(&supply, 3);
    drop(supply.chunk(10));
    assert!(supply.reserve_span(1000) && supply.reserve(200) && supply.reserve_buffer(3000));
    supply.hold(30);
    supply.resize_span(1000, 1500);
    let Holdings { chunks_in_use, chunks_idle, spans, bodies, buffers } = supply.holdings();
    assert_eq!((chunks_in_use, chunks_idle, spans, bodies, buffers), (192, 64, 1500, 230, 3000));
    assert_eq!(supply.held(), 192 + 64 + 1500 + 230 + 3000);
    supply.release_span(1500);
    supply.release(230);
    supply.release_buffer(3000);
    drop(taken);
    assert_eq!((supply.held(), supply.holdings().chunks_idle), (256, 256));
}
