//! Any bytes as the columns of a file: what is read is written and read again equal,
//! and each place lies in the list.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spanstore_format::segment::FileColumns;
use spanstore_format::segment::testing::encode_columns;
use spanstore_format::span::table;

fuzz_target!(|bytes: &[u8]| {
    let Ok(columns) = FileColumns::decode(bytes, 0, table()) else {
        return;
    };
    let again = FileColumns::decode(&encode_columns(&columns), 0, table());
    assert_eq!(again.as_ref(), Ok(&columns));
    let count = columns.names().len();
    for (place, column) in table().columns().iter().enumerate() {
        let found = columns.place(place);
        let name = found.and_then(|place| columns.names().get(place));
        assert!(name.is_none_or(|name| name == column.name));
        assert!(found.is_none_or(|place| place < count));
    }
    let promoted = columns.promoted();
    for key in promoted.keys() {
        assert!(key.column < count);
        let found = promoted.find(&key.key);
        assert_eq!(found.map(|(_, found)| &found.key), Some(&key.key));
    }
    let facets = columns.facets(table());
    assert!(facets.iter().all(|column| *column < count));
});
