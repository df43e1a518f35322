//! Digests as they are said to the other agent.

use novacron_protocol::pages::PageTable;
use novacron_protocol::session::message::{DIGEST_REGIONS_MAX, MemoryDigest};

/// The digest of a RAM block. Neighbouring regions are added up until there are few enough to send.
pub(crate) fn memory_digest(block: &str, table: &PageTable) -> MemoryDigest {
    let per_region = table.regions().len().div_ceil(DIGEST_REGIONS_MAX).max(1);
    let sum =
        |regions: &[u128]| regions.iter().fold(0_u128, |sum, region| sum.wrapping_add(*region));
    MemoryDigest {
        block: block.to_owned(),
        pages: table.pages() as u64,
        regions: table.regions().chunks(per_region).map(|chunk| sum(chunk).to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::pages::{PAGE_BYTES, PageHasher};

    #[test]
    fn a_large_block_still_fits_a_message_and_shows_every_change() {
        let pages = 512 * 5000;
        let mut table = PageTable::new(pages);
        let before = memory_digest("pc.ram", &table);
        assert!(before.regions.len() <= DIGEST_REGIONS_MAX);
        let hash = PageHasher::new(1).hash_bytes(&[1; PAGE_BYTES]);
        table.admit(pages - 1, 1, hash).unwrap();
        assert_ne!(memory_digest("pc.ram", &table), before);
    }
}
