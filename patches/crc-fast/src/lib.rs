//! Stands for the crate of this name, of which `object_store` asks one checksum: `x-amz-checksum-crc64nvme` of Amazon S3.
//!
//! The crate itself carries the tables of all its checksums, as it chooses one at run time: 0.68 MB in every function that
//! knows buckets, of which a zip makes 0.62.

use crc::{CRC_64_NVME, Crc};

static NVME: Crc<u64> = Crc::<u64>::new(&CRC_64_NVME);

/// Which checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcAlgorithm {
    /// CRC-64/NVME.
    Crc64Nvme,
}

/// A checksum in the making.
pub struct Digest(crc::Digest<'static, u64>);

impl Digest {
    /// That of no bytes.
    pub fn new(algorithm: CrcAlgorithm) -> Self {
        match algorithm {
            CrcAlgorithm::Crc64Nvme => Self(NVME.digest()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes that were added.
    pub fn finalize(self) -> u64 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-64/NVME: <https://reveng.sourceforge.io/crc-catalogue/17plus.htm>.
    #[test]
    fn gives_the_check_value_of_the_catalogue_in_any_pieces() {
        for cut in 0..=9 {
            let (head, tail) = b"123456789".split_at(cut);
            let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
            digest.update(head);
            digest.update(tail);
            assert_eq!(digest.finalize(), 0xAE8B_1486_0A79_9888);
        }
    }
}
