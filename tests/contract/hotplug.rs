//! The contract for `v4l2::Hotplug`. Its items are nodes that appear and disappear, in a `/dev` that only this thread
//! has.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use framelease::v4l2::{Hotplug, NodeEvent};
use nix::libc;

use crate::scene::{Description, Kind, Scene};

const NODE: &str = "/dev/video7";

/// Mounts an empty `/dev` that only this thread, and the threads and processes that it starts, can see.
fn own_dev() -> io::Result<()> {
    let done = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let mount = |source: &CStr, target: &CStr, kind: &CStr, flags| {
        // SAFETY: strings that live until the call returns, and no data.
        done(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) })
    };
    // SAFETY: no preconditions.
    done(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(c"none", c"/dev", c"tmpfs", 0)?;
    // For the child processes of a test. SAFETY: a string that lives until the call returns.
    done(unsafe { libc::mknod(c"/dev/null".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) })
}

/// A node that each item creates or removes.
struct Nodes {
    hotplug: Hotplug,
}

fn plug_or_unplug() {
    match Path::new(NODE).exists() {
        true => fs::remove_file(NODE).unwrap(),
        false => drop(File::create(NODE).unwrap()),
    }
}

impl Scene for Nodes {
    type Station = Hotplug;

    const DESCRIPTION: Description<Self> = Description {
        give: |_| plug_or_unplug(),
        most_waiting: 8,
        many: 200,
        extra_wakes: 0,
        most_ignored: None,
        // If the kernel drops events, existing nodes count as new.
        fail: None,
        // It has no end.
        end: None,
        gives_before_end: false,
        // It takes no items.
        fill: None,
        make_room: None,
        elsewhere: Some(|_| Box::new(plug_or_unplug)),
        // It does not use a device.
        restart: None,
        // Its items are not leased.
        last_lease: None,
        // It has no clients.
        crowd: None,
        drop_is_seen: None,
    };

    fn is_here() -> bool {
        let mounted = own_dev();
        if let Err(e) = &mounted {
            // Not `eprintln!`, which the test harness captures.
            let _ = writeln!(io::stderr(), "SKIPPED a /dev of its own: {e}");
        }
        mounted.is_ok()
    }

    fn new() -> Self {
        let _ = fs::remove_file(NODE);
        Self { hotplug: Hotplug::new().unwrap() }
    }

    fn station(&mut self) -> &mut Hotplug {
        &mut self.hotplug
    }

    fn kind(event: &NodeEvent) -> Kind {
        match event {
            NodeEvent::Appeared(path) | NodeEvent::Removed(path) if path == Path::new(NODE) => Kind::Item,
            _ => Kind::Other,
        }
    }
}

crate::contract!(Nodes);
