//! Relocations in the short form, of which the dynamic linker reads 0.1 MB instead of 2.4 when the runner starts; they would
//! stay in its memory. A linker or a C library that does not know the form leaves them as they are. Not for functions: the
//! C library of their machines does not know it.

#![expect(clippy::disallowed_methods, reason = "a build script speaks to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_gnu = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|is| is == value);
    if is_gnu("CARGO_CFG_TARGET_OS", "linux") && is_gnu("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
