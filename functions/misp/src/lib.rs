//! The MISP family: threat feeds in MISP's format, tables and free text into `cti_misp_iocs`.

pub mod freetext;
