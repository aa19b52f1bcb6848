//! The checksums of the catalog's blocks, which lie in a file beside it.
//!
//! ```text
//! magic [u8; 8] · version u16 · 0 u16 · CRC32C of all behind u32 ·
//! commit u64 · bytes of the catalog u64 · CRC32C of each block u32[blocks]
//! ```

use bytes::{Buf, BufMut};

use crate::error::FormatError;
use crate::version::{SUMS_MAGIC, SUMS_VERSION};

/// Bytes of the catalog that one checksum covers; the last block may be shorter.
pub const SUM_BLOCK_BYTES: u64 = 4_096;

const PART: &str = "catalog sums";
/// Bytes before those that the checksum covers.
const PREFIX_BYTES: usize = 16;

/// The checksums of a catalog's blocks after one of its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogSums {
    /// The number of the commit.
    pub commit: u64,
    /// Bytes of the catalog.
    pub bytes: u64,
    /// CRC32C of each block; 0 for one whose content is not known, since nothing
    /// needs it.
    pub blocks: Vec<u32>,
}

impl CatalogSums {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX_BYTES + 16 + self.blocks.len() * 4);
        out.put_slice(&SUMS_MAGIC);
        out.put_u16_le(SUMS_VERSION);
        out.put_u16_le(0);
        out.put_u32_le(0);
        out.put_u64_le(self.commit);
        out.put_u64_le(self.bytes);
        for block in &self.blocks {
            out.put_u32_le(*block);
        }
        let covered = out.get(PREFIX_BYTES..).map_or(0, crc32c::crc32c);
        if let Some(crc) = out.get_mut(PREFIX_BYTES - 4..PREFIX_BYTES) {
            crc.copy_from_slice(&covered.to_le_bytes());
        }
        out
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// [`FormatError::NewerVersion`] for one of a newer version,
    /// [`FormatError::Checksum`] and [`FormatError::Malformed`] for damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let malformed =
            |expected: &str, found: String| FormatError::malformed(PART, 0, expected, found);
        let Some((mut prefix, mut covered)) = bytes.split_at_checked(PREFIX_BYTES) else {
            let found = format!("{} bytes", bytes.len());
            return Err(malformed("at least 32 bytes", found));
        };
        if !prefix.starts_with(&SUMS_MAGIC) {
            return Err(malformed("the magic of catalog sums", "another".into()));
        }
        prefix.advance(SUMS_MAGIC.len());
        let (version, zero) = (prefix.get_u16_le(), prefix.get_u16_le());
        if version > SUMS_VERSION {
            return Err(FormatError::NewerVersion {
                part: PART,
                found: version,
                supported: SUMS_VERSION,
            });
        }
        let (expected, found) = (prefix.get_u32_le(), crc32c::crc32c(covered));
        if expected != found || version != SUMS_VERSION || zero != 0 {
            return Err(FormatError::Checksum {
                part: PART,
                offset: PREFIX_BYTES as u64,
                expected,
                found,
            });
        }
        if covered.len() < 16 {
            let found = format!("{} bytes", bytes.len());
            return Err(malformed("at least 32 bytes", found));
        }
        let (commit, catalog_bytes) = (covered.get_u64_le(), covered.get_u64_le());
        let blocks = catalog_bytes.div_ceil(SUM_BLOCK_BYTES);
        if covered.len() as u64 != blocks.saturating_mul(4) {
            let found = format!("{} bytes", covered.len());
            return Err(malformed(&format!("{blocks} checksums"), found));
        }
        Ok(Self {
            commit,
            bytes: catalog_bytes,
            blocks: covered
                .chunks_exact(4)
                .map(|mut one| one.get_u32_le())
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> CatalogSums {
        CatalogSums {
            commit: 9,
            bytes: 2 * SUM_BLOCK_BYTES + 1,
            blocks: vec![1, 0, u32::MAX],
        }
    }

    #[test]
    fn come_back_equal() {
        assert_eq!(CatalogSums::decode(&sums().encode()), Ok(sums()));
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_found() {
        let bytes = sums().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(CatalogSums::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                CatalogSums::decode(&bytes[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_newer_version_is_refused_as_such() {
        let mut bytes = sums().encode();
        bytes[8] = SUMS_VERSION as u8 + 1;
        let error = CatalogSums::decode(&bytes).unwrap_err();
        assert!(matches!(error, FormatError::NewerVersion { .. }), "{error}");
    }
}
