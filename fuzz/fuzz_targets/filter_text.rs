//! Filter texts: none panics, overflows the stack or takes long, and what is
//! read compiles over the columns of a span as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore::query::{Filter, FilterLimits};

fuzz_target!(|text: &str| {
    match Filter::parse(text, &FilterLimits::default()) {
        Ok(filter) => {
            let columns = filter.columns();
            assert!(!columns.contains("team_id"), "{text}");
            drop(filter.expr().clone());
        }
        Err(error) => {
            assert!(error.position() <= text.len(), "{error}");
            assert!(error.render(text).contains('^'));
        }
    }
});
