//! Small inputs that claim to be huge are refused before memory is asked for.
//!
//! A test binary of its own, because it counts what is allocated.
#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use umbel_proto::{
    Envelope, Invocation, Limits, Map, NodeCard, ResultRecord,
    codec::{Compression, Serializer},
};

/// The system's allocator, and the most that was ever asked of it at once.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to `System` with the arguments it came with, so its guarantees are those of `System`; the
// counters are atomics and are no part of what is promised.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's layout is passed on as it is.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `pointer` came from `System.alloc` with this layout, since `alloc` above has no other source.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The memory that `work` needs at its peak, in bytes.
fn peak(work: impl FnOnce()) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

fn message(serializer: Serializer, body: &[u8]) -> Envelope {
    Envelope {
        body: body.to_vec().into(),
        content_type: serializer.content_type().to_owned(),
        content_encoding: "binary".to_owned(),
        headers: Map::from_iter([("task".to_owned(), "t".into()), ("id".to_owned(), "i".into())]),
        properties: Map::new(),
    }
}

/// One test, because the counters are the process's own.
#[test]
fn bombs_need_little_memory() {
    let limits = Limits::default();
    let lengths: [&[u8]; 6] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x93\xdd\xff\xff\xff\xff\x80\xc0",
        b"\x93\x90\xdf\x7f\xff\xff\xff\xc0",
    ];
    for bytes in lengths {
        let envelope = message(Serializer::Msgpack, bytes);
        let used = peak(|| {
            assert!(Serializer::Msgpack.decode(bytes, limits).is_err());
            assert!(Invocation::decode(&envelope, limits).is_err());
            assert!(ResultRecord::from_stored(bytes, Serializer::Msgpack, limits).is_err());
        });
        assert!(used < 64 << 10, "{used} bytes for {bytes:?}");
    }

    let levels = 4 << 20;
    let depths = [
        (Serializer::Json, vec![b'['; levels]),
        (Serializer::Json, b"{\"a\":".repeat(levels / 5)),
        (Serializer::Json, [&b"[[],{},"[..], &vec![b'['; levels]].concat()),
        (Serializer::Msgpack, vec![0x91; levels]),
        (Serializer::Msgpack, b"\x81\xa1a".repeat(levels / 3)),
        (Serializer::Msgpack, [&b"\x93\x90\x80"[..], &vec![0x91; levels]].concat()),
    ];
    for (serializer, bytes) in depths {
        let envelope = message(serializer, &bytes);
        let used = peak(|| {
            assert!(serializer.decode(&bytes, limits).is_err());
            assert!(Invocation::decode(&envelope, limits).is_err());
        });
        assert!(used < 1 << 20, "{used} bytes for {levels} levels of {serializer:?}");
    }

    // A mebibyte allowed, 32 packed.
    let zeros = vec![0; 32 << 20];
    let packed = [Compression::Zlib, Compression::Zstd].map(|compression| (compression, compression.compress(&zeros).unwrap()));
    drop(zeros);
    for (compression, packed) in packed {
        let small = Limits { size_bytes: 1 << 20, ..limits };
        let used = peak(|| assert!(compression.decompress(&packed, small).is_err()));
        assert!(used < 12 << 20, "{used} bytes for {compression:?}");
    }

    // A node card whose name claims to be longer than all memory.
    let used = peak(|| assert!(NodeCard::decode(b"\x01\xfd\xff\xff\xff\xff\xff\xff\xff\x7f").is_err()));
    assert!(used < 64 << 10, "{used} bytes for a card");
}
