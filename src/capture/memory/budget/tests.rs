use super::*;

#[test]
fn the_bound_holds_and_a_returned_chunk_is_handed_out_again() {
    let budget = MemoryBudget::with_chunks_of(200, 64);
    let chunks: Vec<_> = std::iter::from_fn(|| budget.chunk(10)).collect();
    assert_eq!((chunks.len(), budget.held()), (3, 192));
    drop(chunks);
    assert_eq!(budget.held(), 192, "idle chunks stay accounted for");
    assert!(budget.chunk(10).is_some());
}

#[test]
fn idle_chunks_make_room_for_what_is_needed_instead() {
    let budget = MemoryBudget::with_chunks_of(200, 64);
    drop(std::iter::from_fn(|| budget.chunk(10)).collect::<Vec<_>>());
    assert!(budget.reserve(150));
    assert!(!budget.reserve(51));
    budget.release(150);
    assert!(budget.chunk(200).is_some(), "a large record gets a chunk of its own");
}

#[test]
fn a_request_that_is_refused_does_not_stand_in_the_way_of_one_that_fits() {
    let budget = MemoryBudget::with_chunks_of(1000, 64);
    std::thread::scope(|threads| {
        threads.spawn(|| (0..200_000).for_each(|_| assert!(!budget.reserve(1001))));
        for _ in 0..200_000 {
            assert!(budget.reserve(1000));
            budget.release(1000);
        }
    });
}

#[test]
fn what_is_held_beyond_the_bound_is_taken_from_the_chunks() {
    let budget = MemoryBudget::with_chunks_of(256, 64);
    let mut chunks: Vec<_> = std::iter::from_fn(|| budget.chunk(10)).collect();
    budget.hold(100);
    assert_eq!(budget.held(), 356, "it exists already");
    chunks.truncate(2);
    assert_eq!(budget.held(), 228, "two chunks were freed, not kept");
    drop(chunks);
    budget.hold(100);
    assert_eq!(budget.held(), 200, "idle chunks made room");
}

#[test]
fn in_want_a_chunk_that_comes_back_goes_back_to_the_system() {
    let budget = MemoryBudget::with_chunks_of(1000, 64);
    let chunks: Vec<_> = (0..3).filter_map(|_| budget.chunk(10)).collect();
    budget.note_want();
    assert!(budget.is_in_want() && budget.held() == 192);
    drop(chunks);
    assert_eq!(budget.held(), 0);
    assert!(budget.chunk(10).is_some() && !budget.is_in_want(), "what was freed is looked for at once");
}

#[test]
fn rings_are_pressed_beyond_half_of_what_the_others_leave_them() {
    let budget = MemoryBudget::with_chunks_of(1000, 64);
    let mut chunks: Vec<_> = (0..7).filter_map(|_| budget.chunk(10)).collect();
    assert!(!budget.is_pressed(), "448 of 1000");
    assert!(budget.reserve(200));
    assert!(budget.is_pressed(), "448 of 800");
    chunks.truncate(3);
    assert!(!budget.is_pressed(), "192 of 800, the idle ones do not count");
}

#[test]
fn the_default_bound_takes_200_000_spans_of_300_bytes_whole_with_four_workers() {
    // What the client leaves of 64 MiB for rings beside four workers, and the head around each span.
    let budget = MemoryBudget::new((64 << 20) - (3 + 4) * 512 * 1024);
    let record = [7; 300 + 3];
    let mut producers: Vec<_> = (0..4).map(|_| crate::capture::ring::Ring::new(0).1).collect();
    for producer in &mut producers {
        for number in 0..50_000 {
            assert!(producer.push(&budget, 0, &record).is_ok(), "span {number}");
        }
    }
}

#[test]
fn a_large_chunk_is_freed_and_not_kept() {
    let budget = MemoryBudget::with_chunks_of(1000, 64);
    drop(budget.chunk(500));
    assert_eq!(budget.held(), 0);
}

#[test]
fn trimming_keeps_the_warm_chunks_only() {
    let budget = MemoryBudget::with_chunks_of(64 * 100, 64);
    drop(std::iter::from_fn(|| budget.chunk(10)).collect::<Vec<_>>());
    budget.trim();
    assert_eq!(budget.held(), 64 * 64);
}

fn pooled(limit: usize, pooling: Pooling) -> Arc<MemoryBudget> {
    MemoryBudget::with_pool(limit, Pooling { chunk_bytes: Some(pooling.chunk_bytes.unwrap_or(64)), ..pooling })
}

fn chunks(budget: &MemoryBudget, count: usize) -> Vec<ChunkRef> {
    (0..count).map_while(|_| budget.chunk(10)).collect()
}

fn idle(budget: &MemoryBudget) -> usize {
    budget.holdings().chunks_idle / budget.chunk_bytes()
}

#[test]
fn an_exhausted_pool_grows_by_its_factor_within_both_bounds() {
    let budget = pooled(64 * 100, Pooling { growth_factor: 2.0, ..Pooling::default() });
    let mut taken = Vec::new();
    let sizes: Vec<_> = (0..9)
        .map(|_| {
            taken.extend(budget.chunk(10));
            budget.held() / 64
        })
        .collect();
    assert_eq!(sizes, [1, 2, 4, 4, 8, 8, 8, 8, 16]);
    taken.extend(chunks(&budget, 100));
    assert_eq!((taken.len(), budget.held()), (100, 6400), "the last step is cut at the bound");

    let capped = pooled(64 * 100, Pooling { growth_factor: 10.0, max_bytes: 64 * 12, ..Pooling::default() });
    let _taken = chunks(&capped, 2);
    assert_eq!(capped.held(), 64 * 10);
    let _more = chunks(&capped, 100);
    assert_eq!(capped.held(), 64 * 12);
}

#[test]
fn a_pool_with_a_bound_of_its_own_gives_no_chunk_beyond_it_and_leaves_the_rest_to_others() {
    let budget = pooled(1000, Pooling { max_bytes: 130, ..Pooling::default() });
    let taken = chunks(&budget, 10);
    assert_eq!((taken.len(), budget.held()), (2, 128));
    assert!(budget.reserve(800), "bodies are not bound by it");
    assert_eq!(budget.could_end(0, 64), Prospect::Rings);
    assert_eq!(budget.could_end(0, 200), Prospect::None, "such a record never fits");
    drop(taken);
    assert_eq!(budget.could_end(0, 64), Prospect::Rings, "idle ones count as well");
    assert_eq!(chunks(&budget, 10).len(), 2, "but are handed out again");
    assert!(budget.chunk(200).is_none());
    assert_eq!(budget.holdings().chunks_idle, 128, "nothing is given up in vain");
    assert!(budget.chunk(100).is_some(), "and make room for a large one");
    assert_eq!(budget.holdings().chunks_idle, 0);
}

#[test]
fn rings_are_pressed_beyond_half_of_what_the_pool_may_take() {
    let budget = pooled(1 << 20, Pooling { max_bytes: 64 * 4, ..Pooling::default() });
    let mut taken = chunks(&budget, 2);
    assert!(!budget.is_pressed());
    taken.extend(budget.chunk(10));
    assert!(budget.is_pressed());
}

#[test]
fn trimming_leaves_the_share_that_may_be_idle() {
    for (idle_share, left_idle) in [(0.0, 0), (0.5, 200), (0.8, 800), (1.0, 1000)] {
        let budget = pooled(usize::MAX, Pooling { idle_share, ..Pooling::default() });
        let mut taken = chunks(&budget, 1200);
        drop(taken.split_off(200));
        budget.trim();
        assert_eq!(idle(&budget), left_idle, "{idle_share}");
        let given = (1000 - left_idle as u64) * 64;
        assert_eq!(budget.trims(), (u64::from(given > 0), given));
        assert_eq!(budget.held(), 64 * (200 + left_idle));
    }
}

#[test]
fn what_a_pool_begins_with_is_made_once_and_kept_while_workers_rest() {
    let budget = pooled(64 * 100, Pooling { initial_bytes: 640, idle_share: 0.0, ..Pooling::default() });
    assert_eq!(budget.held(), 0, "nothing before a worker starts");
    let first = budget.chunk(10);
    budget.prepare();
    assert_eq!((idle(&budget), budget.held()), (9, 640), "together with what was there");
    drop((first, chunks(&budget, 20)));
    budget.trim();
    assert_eq!((idle(&budget), budget.held()), (10, 640));
    assert_eq!(budget.trim_all(100), 740, "unless all is asked for");
    budget.prepare();
    assert_eq!(budget.held(), 0, "once");
}

#[cfg(target_os = "linux")]
#[test]
fn chunks_made_ahead_are_in_memory_before_they_are_written_to() {
    const CHUNK: usize = 64 * 4096;
    let pooling = Pooling { initial_bytes: CHUNK, chunk_bytes: Some(CHUNK), ..Pooling::default() };
    let faults = |is_prepared: bool| {
        let budget = pooled(1 << 20, pooling.clone());
        if is_prepared {
            budget.prepare();
        }
        let (_ring, mut producer) = crate::capture::ring::Ring::new(0);
        producer.push(&budget, 0, &[7; 8]).unwrap();
        let record = [7; 4000];
        let before = minor_faults();
        (0..60).for_each(|_| assert!(producer.push(&budget, 0, &record).is_ok()));
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
    let budget =
        pooled(64 * 100, Pooling { recycles: false, initial_bytes: 640, growth_factor: 4.0, ..Pooling::default() });
    budget.prepare();
    assert_eq!(budget.held(), 0);
    let taken = chunks(&budget, 5);
    assert_eq!(budget.held(), 5 * 64);
    drop(taken);
    assert_eq!(budget.held(), 0);
    let (_ring, mut producer) = crate::capture::ring::Ring::new(0);
    (0..4).for_each(|_| assert!(producer.push(&budget, 0, &[7; 8]).is_ok()));
    assert_eq!(budget.held(), 64, "records share a chunk all the same");
}

#[test]
fn a_record_larger_than_a_chunk_is_accounted_for_in_whole_pages() {
    let budget = MemoryBudget::new(64 << 20);
    assert_eq!(budget.chunk_bytes(), 16 * 1024);
    let large = budget.chunk(16 * 1024 + 1);
    assert_eq!(budget.held(), 20 * 1024);
    drop(large);
    assert_eq!(budget.holdings().chunks_in_use, 0);
}

#[test]
fn parts_are_told_apart_and_add_up() {
    let budget = pooled(10_000, Pooling::default());
    let taken = chunks(&budget, 3);
    drop(budget.chunk(10));
    assert!(budget.reserve_span(1000) && budget.reserve(200) && budget.reserve_buffer(3000));
    budget.hold(30);
    assert!(budget.reserve_span(1500));
    budget.release_span(1000);
    let Holdings { chunks_in_use, chunks_idle, spans, bodies, buffers } = budget.holdings();
    assert_eq!((chunks_in_use, chunks_idle, spans, bodies, buffers), (192, 64, 1500, 230, 3000));
    assert_eq!(budget.held(), 192 + 64 + 1500 + 230 + 3000);
    budget.release_span(1500);
    budget.release(230);
    budget.release_buffer(3000);
    drop(taken);
    assert_eq!((budget.held(), budget.holdings().chunks_idle), (256, 256));
}
