//! JSON into protobuf, element by element: what was written is let go of, so that
//! never more than one span is in memory decoded.

use std::cell::RefCell;

use super::delayed_length;

thread_local! {
    /// What this thread writes to while it reads a document; none when the document
    /// is kept as it is read.
    static OUT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Reads a document with elements written to `out`, which comes back.
pub(super) fn written_to<T>(out: Vec<u8>, read: impl FnOnce() -> T) -> (T, Vec<u8>) {
    OUT.set(Some(out));
    let read = read();
    (read, OUT.take().unwrap_or_default())
}

/// Begins an element in a field; none when elements are kept.
pub(super) fn begin(field: u32) -> Option<usize> {
    OUT.with_borrow_mut(|out| Some(delayed_length::begin(field, out.as_mut()?)))
}

/// Ends the element that began there with the rest of it.
pub(super) fn end(at: usize, write_rest: impl FnOnce(&mut Vec<u8>)) {
    OUT.with_borrow_mut(|out| {
        if let Some(out) = out {
            write_rest(out);
            delayed_length::end(at, out);
        }
    });
}

/// Takes back an element that was begun and is none.
pub(super) fn take_back(at: usize) {
    OUT.with_borrow_mut(|out| {
        if let Some(out) = out {
            // The tag, one byte, stands before the length.
            out.truncate(at.saturating_sub(1));
        }
    });
}
