fn main() {
    // What the library's own files ask for, not loom's dependencies.
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rustc-check-cfg=cfg(loom)");
}
