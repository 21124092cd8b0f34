//! Reports device nodes that appear and disappear, through inotify on `/dev`.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Error, Result};
use crate::station::{sealed, Received, Station};
use crate::sys::event_queue::UnreadSignal;
use crate::sys::readiness::Readiness;
use crate::sys::syscall_count::tick;

/// A change of a device node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// The node was created, or its permissions changed. Try to open it.
    Appeared(PathBuf),
    /// The node was removed.
    Removed(PathBuf),
}

/// Reports V4L2 nodes (`/dev/video*`) as they appear and disappear.
///
/// A node appears before udev sets its permissions. If an open fails with `PermissionDenied`, try again at the next
/// event. If the kernel drops events because too many are unread, each node that exists is reported as appeared.
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::v4l2::{Device, Hotplug, NodeEvent};
/// use framelease::{Received, Station};
///
/// let mut hotplug = Hotplug::new()?;
/// if let Received::Item(NodeEvent::Appeared(path)) = hotplug.recv(Duration::from_secs(60))? {
///     println!("{:?}", Device::open(path)?.info());
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
pub struct Hotplug {
    inotify: Inotify,
    folder: PathBuf,
    /// The events of one read. The next read happens when all of them are received.
    events: VecDeque<NodeEvent>,
    /// Readable while `events` is not empty.
    unread: UnreadSignal,
    /// Watches `inotify` and `unread`.
    readiness: Readiness,
}

impl Hotplug {
    /// Begins to watch `/dev` for V4L2 nodes.
    ///
    /// # Errors
    /// `Exhausted` if the user has too many inotify instances or watches.
    pub fn new() -> Result<Self> {
        Self::watching(Path::new("/dev"))
    }

    fn watching(folder: &Path) -> Result<Self> {
        let failed = |op| move |e| Error::os(op, e).on(folder.display());
        tick();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed("inotify_init1"))?;
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM;
        tick();
        inotify.add_watch(folder, flags).map_err(failed("inotify_add_watch"))?;
        let unread = UnreadSignal::new().map_err(failed("eventfd"))?;
        let readiness = Readiness::new().map_err(failed("epoll_create1"))?;
        readiness.add(&inotify, EpollFlags::EPOLLIN, 0).map_err(failed("epoll_ctl"))?;
        readiness.add(&unread, EpollFlags::EPOLLIN, 1).map_err(failed("epoll_ctl"))?;
        Ok(Self { inotify, folder: folder.to_owned(), events: VecDeque::new(), unread, readiness })
    }

    /// Returns the descriptor of inotify, for a caller that takes all events at once. It avoids one level of nested
    /// epolls.
    pub(super) fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn next(&mut self) -> Result<Option<NodeEvent>> {
        if self.events.is_empty() {
            self.read()?;
        }
        Ok(self.events.pop_front())
    }

    /// Reads pending events of inotify, at most one buffer of them.
    fn read(&mut self) -> Result<()> {
        tick();
        let read = match self.inotify.read_events() {
            Ok(read) => read,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(e) => return Err(Error::os("read", e).on(self.folder.display())),
        };
        for event in read {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                let there = crate::device_nodes::list(&self.folder.to_string_lossy(), &["video"]);
                self.events.extend(there.into_iter().map(NodeEvent::Appeared));
                continue;
            }
            let Some(name) = event.name else { continue };
            let number = name.to_str().and_then(|n| n.strip_prefix("video"));
            if !number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
                continue;
            }
            let path = self.folder.join(name);
            let is_gone = event.mask.intersects(AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM);
            self.events.push_back(if is_gone { NodeEvent::Removed(path) } else { NodeEvent::Appeared(path) });
        }
        Ok(())
    }
}

impl sealed::Sealed for Hotplug {}

impl Station for Hotplug {
    type Event = NodeEvent;

    fn dispatch(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Received<NodeEvent>> {
        let event = self.next();
        self.unread.given(!self.events.is_empty());
        event.map(Received::from)
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl Drop for Hotplug {
    fn drop(&mut self) {
        self.readiness.remove(&self.inotify);
        self.readiness.remove(&self.unread);
    }
}

impl fmt::Debug for Hotplug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hotplug({})", self.folder.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn hotplug_reports_nodes_that_appear_and_disappear() {
        let folder = std::env::temp_dir().join(format!("framelease-hotplug-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut hotplug = Hotplug::watching(&folder).unwrap();
        assert!(hotplug.recv(Duration::ZERO).unwrap().is_nothing());
        for name in ["video7", "video", "video7x", "audio7"] {
            fs::write(folder.join(name), "").unwrap();
        }
        fs::remove_file(folder.join("video7")).unwrap();
        let wait = Duration::from_secs(5);
        let next = |h: &mut Hotplug| h.recv(wait).unwrap().item();
        assert_eq!(next(&mut hotplug), Some(NodeEvent::Appeared(folder.join("video7"))));
        assert_eq!(next(&mut hotplug), Some(NodeEvent::Removed(folder.join("video7"))));
        assert!(hotplug.try_recv().unwrap().is_nothing());
        fs::remove_dir_all(&folder).unwrap();
    }
}
