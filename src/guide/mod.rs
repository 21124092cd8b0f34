//! Guides to the crate: pages of text, without items of the API.
//!
//! | page | read it |
//! |---|---|
//! | [`first_hour`] | when you have a new board: frames in two processes, a file and a stream |
//! | [`leases`] | before you write a program: frames, how many buffers a camera needs, what slow subscribers get |
//! | [`memory`] | before the CPU reads a pixel: memory kinds, caches, imports, strides |
//! | [`embedding`] | to build the library into a firmware: the event loop, a whole node, size, cross builds |
//! | [`porting_from_gstreamer`] | to replace a pipeline |
//! | [`interop`] | to connect consumers in C, Python and GStreamer |
//! | [`protocol`] | to write a subscriber in another language |
//! | [`failures`] | to learn how sharing fails elsewhere, and which test prevents it here |
//! | [`boards`] | to see what has run on hardware, and what to check |
//! | [`performance`] | to see measurements, and to repeat them |
//! | [`security`] | before you let other users connect |

// The first definition of a link wins in Markdown. links.md names the pages as they are here. The definitions at the
// end of each page are for readers of the repository.
macro_rules! page {
    ($name:ident, $file:literal) => {
        #[doc = include_str!("links.md")]
        #[doc = include_str!(concat!("../../", $file))]
        pub mod $name {}
    };
}

page!(first_hour, "docs/first-hour.md");
page!(leases, "docs/leases.md");
page!(memory, "docs/memory.md");
page!(embedding, "docs/embedding.md");
page!(porting_from_gstreamer, "docs/porting-from-gstreamer.md");
// Its programs need the feature.
#[cfg(any(not(doctest), feature = "unixfd"))]
page!(interop, "docs/interop.md");
page!(protocol, "docs/protocol.md");
page!(failures, "docs/failures.md");
page!(boards, "docs/boards.md");
page!(performance, "docs/performance.md");
page!(security, "SECURITY.md");
