//! Any bytes as promoted keys: what is read is written and read again equal,
//! and has a column for each key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::Promotion;
use spanstore_format::segment::facets;
use spanstore_format::segment::testing::encode_promotion;

fuzz_target!(|bytes: &[u8]| {
    let Ok(promotion) = Promotion::decode(bytes, 0) else {
        return;
    };
    let again = Promotion::decode(&encode_promotion(&promotion), 0);
    assert_eq!(again.as_ref(), Ok(&promotion));
    let columns = promotion.file_schema().fields().len();
    for key in promotion.keys() {
        assert!(key.column < columns);
        let found = promotion
            .find(key.owner, &key.key)
            .map(|(_, found)| &found.key);
        assert_eq!(found, Some(&key.key));
    }
    assert!(
        facets::columns(&promotion)
            .iter()
            .all(|column| *column < columns)
    );
});
