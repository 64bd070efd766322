//! Sizes of pool and buffers compared with the memory bound.

use super::*;

fn resolve_with(max_memory_usage: usize, pool: MemoryPool) -> Result<(Settings, Vec<String>), Error> {
    let options = Options { max_memory_usage: Some(max_memory_usage), memory_pool: Some(pool), ..Options::default() };
    resolve(options, &[])
}

#[test]
fn a_pool_has_room_for_two_chunks_and_the_bound_for_eight() {
    let pool = MemoryPool::new;
    for (pool, expected) in [
        (pool().with_chunk_size(4095), "with_memory_pool.chunk_size = 4095: must be a whole number from 4096"),
        (pool().with_max_size(8191), "with_memory_pool.max_size = 8191: must be a whole number, at least 8192"),
        (pool().with_chunk_size(4097).with_max_size(16383), "with_memory_pool.max_size = 16383: must be a whole"),
        (pool().with_max_size(8192).with_initial_size(8193), "with_memory_pool.initial_size = 8193: must be at most"),
        (pool().with_growth_factor(0.9), "with_memory_pool.growth_factor = 0.9: must be finite and at least 1"),
        (pool().with_growth_factor(f64::NAN), "with_memory_pool.growth_factor = NaN: must be finite"),
        (pool().with_gc_threshold(1.1), "with_memory_pool.gc_threshold = 1.1: must be from 0 to 1"),
    ] {
        let error = resolve_with(64 * MIB, pool).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let (settings, warnings) = resolve_with(64 * MIB, pool().with_chunk_size(5000)).unwrap();
    assert_eq!((settings.memory_pool.chunk_size, warnings.len()), (Some(8192), 0));
    let (settings, warnings) = resolve_with(MIB, pool().with_chunk_size(MIB).with_max_size(2 * MIB)).unwrap();
    assert_eq!((settings.memory_pool.chunk_size, settings.memory_pool.max_size), (Some(MIB / 8), Some(MIB)));
    assert_eq!(
        warnings,
        [
            "with_memory_pool.chunk_size = 1048576: is more than an eighth of the memory bound; using 131072",
            "with_memory_pool.max_size = 2097152: is more than the memory bound; using 1048576",
        ]
    );
}

#[test]
fn a_buffer_that_nobody_asked_for_takes_an_eighth_of_a_small_bound() {
    let options = |zero_copy_buffer| Options { max_memory_usage: Some(MIB), zero_copy_buffer, ..Options::default() };
    assert_eq!(from_code(options(None)).zero_copy_buffer.capacity(), MIB / 8);
    assert_eq!(
        from_code(options(Some(ZeroCopyBuffer::new().with_alignment(128)))).zero_copy_buffer.capacity(),
        MIB / 8
    );
    assert_eq!(from_code(Options::default()).zero_copy_buffer.capacity(), MIB);
    let given = ZeroCopyBuffer::new().with_capacity(2 * MIB).with_prefetch_size(2 * MIB);
    let (settings, warnings) = resolve(options(Some(given)), &[]).unwrap();
    assert_eq!((settings.zero_copy_buffer.capacity(), settings.zero_copy_buffer.prefetch_size), (MIB, MIB));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}
