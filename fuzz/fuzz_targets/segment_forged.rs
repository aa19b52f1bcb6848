//! A segment with a few bytes changed, all checksums right: each read ends in
//! an answer or an error.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::testing::{Change, Forgery, Place, read_all};

static FORGERY: LazyLock<Forgery> = LazyLock::new(Forgery::new);

#[derive(Debug, Arbitrary)]
enum Where {
    Start(u16, u8),
    Part(u8, u32),
    Header(u8),
    Tail(u32),
}

impl From<Where> for Place {
    fn from(place: Where) -> Self {
        match place {
            Where::Start(number, by) => Self::Start(u32::from(number), u64::from(by)),
            Where::Part(part, at) => Self::Part(u32::from(part), at),
            Where::Header(at) => Self::Header(u32::from(at)),
            Where::Tail(at) => Self::Tail(at),
        }
    }
}

fuzz_target!(init: spanstore_fuzz::allow_caught_panics(), |changes: Vec<(Where, Vec<u8>)>| {
    let changes = changes.into_iter().take(8);
    let changes: Vec<Change> = changes
        .map(|(place, bytes)| Change {
            place: place.into(),
            bytes,
        })
        .collect();
    let (file, summary) = FORGERY.with(&changes);
    read_all(file, summary);
});
