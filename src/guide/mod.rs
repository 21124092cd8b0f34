//! Guides to the crate: pages of text, without items of the API.
//!
//! | page | read it |
//! |---|---|
//! | [`first_hour`] | when you have a new board: frames in two processes, a file and a stream |
//! | [`leases`] | before you write a program: frames, how many buffers a camera needs, what slow subscribers get |
//! | [`memory`] | before the CPU reads a pixel: memory kinds, caches, imports, strides |
//! | [`embedding`] | to build the library into a firmware: the event loop, a whole node, size, cross builds |
//! | [`c`] | to write the firmware in C or C++ |
//! | [`viewing`] | to choose how viewers connect, and how files are written |
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
    ($name:ident, $file:literal $(, $child:ident $of:literal)*) => {
        #[doc = include_str!("links.md")]
        #[doc = include_str!(concat!("../../", $file))]
        pub mod $name {
            $(page!($child, $of);)*
        }
    };
}

page!(first_hour, "docs/first-hour.md");
page!(leases, "docs/leases.md");
page!(memory, "docs/memory.md");
page!(embedding, "docs/embedding.md");
page!(c, "docs/c.md");
page!(viewing, "docs/viewing.md");
page!(porting_from_gstreamer, "docs/porting-from-gstreamer.md");
// Its programs need the feature.
#[cfg(any(not(doctest), feature = "unixfd"))]
page!(interop, "docs/interop.md");
page!(protocol, "docs/protocol.md");
page!(failures, "docs/failures.md");
page!(
    boards,
    "docs/boards.md",
    imx8mp "docs/boards/imx8mp.md",
    imx8mm "docs/boards/imx8mm.md",
    imx8mn "docs/boards/imx8mn.md",
    imx8mq "docs/boards/imx8mq.md",
    imx8qm "docs/boards/imx8qm.md",
    imx8ulp "docs/boards/imx8ulp.md",
    imx93 "docs/boards/imx93.md",
    imx95 "docs/boards/imx95.md",
    imx6 "docs/boards/imx6.md",
    imx6ul_imx7d "docs/boards/imx6ul-imx7d.md",
    raspberry_pi "docs/boards/raspberry-pi.md",
    rk3588 "docs/boards/rk3588.md",
    jetson "docs/boards/jetson.md",
    x86 "docs/boards/x86.md",
    qualcomm "docs/boards/qualcomm.md"
);
page!(performance, "docs/performance.md");
page!(security, "SECURITY.md");
