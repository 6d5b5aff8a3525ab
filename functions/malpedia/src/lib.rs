//! The Malpedia family: the library of references, malware families and actors, from disk, bucket or API.

pub mod bibtex;
