//! Any bytes as a page's header and as its values: a header lies within
//! them, and every way to read the same values reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::testing::{delta_values, hybrid_values, ones, page_header_bytes};

fuzz_target!(init: spanstore_fuzz::allow_caught_panics(), |input: (u8, u16, u16, &[u8])| {
    let (bit_width, start, end, bytes) = input;
    if let Some((length, ..)) = page_header_bytes(bytes) {
        assert!((1..=bytes.len()).contains(&length));
        // What follows a header changes nothing.
        assert_eq!(
            page_header_bytes(&bytes[..length]),
            page_header_bytes(bytes)
        );
    }

    let bit_width = u32::from(bit_width) % 40;
    let (start, end) = (usize::from(start.min(end)), usize::from(start.max(end)));
    let all = hybrid_values(bytes, bit_width, 0..end);
    if let Some(all) = &all {
        assert_eq!(all.len(), end);
        let part = hybrid_values(bytes, bit_width, start..end);
        assert_eq!(part.as_deref(), Some(&all[start..]));
    }
    if bit_width == 1
        && let (Some(values), Some(found)) = (all, ones(bytes, start..end))
    {
        let of = |values: &[u32]| values.iter().map(|value| (value & 1) as usize).sum::<usize>();
        assert_eq!(found, (of(&values[..start]), of(&values[start..])));
    }

    if let Some(all) = delta_values(bytes, &[0..end]) {
        assert_eq!(all.len(), end);
        let part = delta_values(bytes, &[start..end]);
        assert_eq!(part.as_deref(), Some(&all[start..]));
    }
});
