//! Every magic number and format version in one place.
//!
//! A magic number never changes. A version is raised by one whenever bytes
//! change their meaning; a reader refuses a version that is newer than its own
//! ([`FormatError::NewerVersion`](crate::FormatError::NewerVersion)).

/// First bytes of a log file.
pub const LOG_MAGIC: [u8; 8] = *b"SPANLOG\0";
/// Version of log files, frames and records.
pub const LOG_VERSION: u16 = 3;

/// First bytes of a file of recent appends.
pub const RECENT_MAGIC: [u8; 8] = *b"SPANRCT\0";
/// Version of files of recent appends.
pub const RECENT_VERSION: u16 = 1;

/// First bytes of the index that a segment embeds.
pub const INDEX_MAGIC: [u8; 8] = *b"SPANIDX\0";
/// Version of a segment: its row order and the header of its index. Columns and
/// parts of the index come and go without a new one.
pub const SEGMENT_VERSION: u16 = 4;

/// Version of the tables in the catalog.
pub const CATALOG_VERSION: u16 = 4;

/// First bytes of the checksums of the catalog.
pub const SUMS_MAGIC: [u8; 8] = *b"SPANSUM\0";
/// Version of the checksums of the catalog.
pub const SUMS_VERSION: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers_never_change() {
        assert_eq!(&LOG_MAGIC, b"SPANLOG\0");
        assert_eq!(&RECENT_MAGIC, b"SPANRCT\0");
        assert_eq!(&INDEX_MAGIC, b"SPANIDX\0");
        assert_eq!(&SUMS_MAGIC, b"SPANSUM\0");
    }
}
