//! The memory that a store takes, counted at the allocator. A binary of its
//! own, with one test: what others allocate would be counted too.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use spanstore::StoreOptions;
use spanstore_test_support::spans::{request, span};
use spanstore_test_support::{open_with, quiet, team};

/// The system's allocator, counting bytes.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all requests go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCHES: u64 = 300;
const BATCH: u64 = 500;

/// Bytes at the peak of appending 150,000 spans, beyond those before.
fn peak(options: StoreOptions) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), options);
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let acme = store.team(&team("acme"));
            scope.spawn(move || {
                for batch in (thread..BATCHES).step_by(2) {
                    let spans = (batch * BATCH..(batch + 1) * BATCH).map(span);
                    acme.append(request(spans)).unwrap();
                }
            });
        }
    });
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let acme = store.team(&team("acme"));
    let chunks = acme.export().unwrap();
    let spans: usize = chunks.map(|chunk| chunk.unwrap().len()).sum();
    assert_eq!(spans as u64, BATCHES * BATCH);
    peak
}

/// However much is appended, memory keeps to the budget of rows and to what a
/// seal and the batches on their way take.
#[test]
fn hot_rows_keep_to_their_budget() {
    let free = peak(quiet());
    let bounded = [8 << 20, 16 << 20].map(|hot_bytes| {
        peak(StoreOptions {
            hot_bytes,
            background: true,
            ..quiet()
        })
    });
    println!("peak without a budget {free} bytes, with 8 and 16 MiB: {bounded:?}");
}
