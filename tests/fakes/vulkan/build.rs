//! Names the library as programs look for it. A program that has loaded it by its path gets it for that name too.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvulkan.so.1");
}
