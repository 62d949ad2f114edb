//! Packs the gateway's relocations, a tenth of a megabyte of it (`DT_RELR`). Loaders know them since glibc 2.36; an older
//! one refuses the program by name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
