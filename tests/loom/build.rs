fn main() {
    // Only for the library's own files, not for loom's dependencies.
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rustc-check-cfg=cfg(loom)");
}
