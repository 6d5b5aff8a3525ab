//! What the family is called and given.

/// The family's name, in ids of documents and sources too.
pub(crate) const NAME: &str = "signature-base";

base::settings! {
    /// Where the repository is, and how sure it is of what it says.
    pub struct Settings {
        /// Address of signature-base's tarball: any `.tar.gz` with one folder at its top.
        url: String = "https://codeload.github.com/Neo23x0/signature-base/tar.gz/refs/heads/master", "SIGNATURE_BASE_URL", address;
        /// Score of signature-base's command servers and hashes that have none of their own, 0 to 100.
        score: u32 = "75", "SIGNATURE_BASE_SCORE", percent;
    }
}
