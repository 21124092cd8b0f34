//! Records what is around a trigger.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use super::packets::{Packets, RingOptions};
use crate::error::{Error, ErrorKind, Rejected, Result};
use crate::frame::{AdvancingTime, Packet};
use crate::sink::recorder::{Recorder, RecorderEvent, RecorderOptions, RecorderStats};
use crate::station::{sealed, Received, Station, Submit, Submitted};
use crate::sys::clock::monotonic_ns;

/// Keeps the last packets in memory, and records them and what follows when it is triggered.
///
/// A recording is one file. It begins with a key frame before the trigger ([`RingOptions::before`]), and ends some time
/// after it ([`RingOptions::after`]). A trigger during a recording extends it. Recordings that follow each other
/// closely share packets, because each shows what led to its event. Names, deletion of the oldest files and repair are
/// those of a [`Recorder`], and a rotation also divides long recordings.
///
/// The ring copies each packet once, because an encoder has few buffers. [`Packet::detach`] says when there is nothing
/// to copy. A trigger writes the whole ring to the disk and may block, so give this station a thread with a
/// [`PacketReceiver`](crate::frame::PacketReceiver).
///
/// ```no_run
/// use std::time::Duration;
/// use framelease::sink::recorder::{FileNames, RecorderOptions};
/// use framelease::sink::ring::{EventRecorder, RingOptions};
/// use framelease::Submit;
/// # fn packets() -> Vec<framelease::frame::Packet> { Vec::new() }
/// # fn door_has_opened() -> bool { true }
///
/// let options = RecorderOptions::default().names(FileNames::WallClock);
/// let ring = RingOptions::default().before(Duration::from_secs(5)).after(Duration::from_secs(20));
/// let mut recorder = EventRecorder::new("/data/door.mp4", options, ring)?;
/// for packet in packets() {
///     let _ = recorder.try_submit(packet)?;
///     if door_has_opened() {
///         recorder.trigger()?;
///     }
///     if recorder.awaits_key() { /* encoder.force_key() */ }
/// }
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Debug)]
pub struct EventRecorder {
    recorder: Recorder,
    options: RingOptions,
    packets: Packets,
    /// The timestamp of the latest packet.
    latest_ns: Option<u64>,
    /// The clock of the recordings' ends. It also advances where timestamps stand still.
    time: AdvancingTime,
    now_ns: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waits,
    /// The trigger came before the first key frame.
    Triggered,
    /// The last time of the recording.
    Until(u64),
}

impl EventRecorder {
    /// Creates a recorder of events. The first trigger creates the first file.
    ///
    /// # Errors
    /// `InvalidArgument` if `path` is a pipe or a device. Errors of [`Recorder::new`].
    pub fn new(path: impl AsRef<Path>, options: RecorderOptions, ring: RingOptions) -> Result<Self> {
        let path = path.as_ref();
        let recorder = Recorder::new(path, options)?;
        if recorder.is_pipe() {
            let text = "events are recorded to regular files, not to a pipe or a device";
            return Err(Error::new(ErrorKind::InvalidArgument, "open", text).on(path.display()));
        }
        Ok(Self {
            recorder,
            options: ring,
            packets: Packets::default(),
            latest_ns: None,
            time: AdvancingTime::default(),
            now_ns: 0,
            state: State::Waits,
        })
    }

    /// Begins a recording with the packets in the ring, or extends the one under way. If the ring is empty, the
    /// recording begins with the next key frame.
    ///
    /// # Errors
    /// Errors of [`Recorder::try_submit`](Submit::try_submit), such as `Exhausted` on a full disk. The recording then
    /// continues at the next key frame of the ring or of the stream, as far as the disk has room. `State` after
    /// [`EventRecorder::finish`].
    pub fn trigger(&mut self) -> Result<()> {
        if self.recorder.is_finished() {
            return Err(Error::new(ErrorKind::State, "trigger", "the recording is finished"));
        }
        let was_recording = self.is_recording();
        self.state = if self.packets.is_empty() { State::Triggered } else { self.until_after(self.now_ns) };
        if was_recording {
            return Ok(());
        }
        let mut done = Ok(());
        for packet in self.packets.iter() {
            if let Err(rejected) = self.recorder.try_submit(packet.clone()) {
                done = done.and(Err(rejected.error));
            }
        }
        done
    }

    fn until_after(&self, time_ns: u64) -> State {
        let after_ns = u64::try_from(self.options.after.as_nanos()).unwrap_or(u64::MAX);
        State::Until(time_ns.saturating_add(after_ns))
    }

    /// Returns `true` during a recording.
    pub fn is_recording(&self) -> bool {
        self.state != State::Waits
    }

    /// Returns `true` while a key frame is needed: the ring is empty, or the recording waits for one. Force a key frame
    /// then.
    pub fn awaits_key(&self) -> bool {
        self.packets.is_empty() || self.is_recording() && self.recorder.awaits_key()
    }

    /// Returns counts of files and of the packets in them.
    pub fn stats(&self) -> RecorderStats {
        self.recorder.stats()
    }

    /// Finishes the recording under way. The station then returns the waiting events, and ends.
    pub fn finish(&mut self) {
        self.state = State::Waits;
        self.recorder.finish();
    }
}

impl sealed::Sealed for EventRecorder {}

impl Station for EventRecorder {
    type Event = RecorderEvent;

    fn dispatch(&mut self) -> Result<()> {
        self.recorder.dispatch()
    }

    /// Returns the next event of the files. Ends after [`EventRecorder::finish`].
    fn try_recv(&mut self) -> Result<Received<RecorderEvent>> {
        self.recorder.try_recv()
    }
}

impl Submit for EventRecorder {
    type Item = Packet;

    /// Takes a packet into the ring, and during a recording also into the file.
    ///
    /// # Errors
    /// During a recording, those of the [`Recorder`]. The packet is in the ring, but not in the file. `State` after
    /// [`EventRecorder::finish`].
    fn try_submit(&mut self, packet: Packet) -> std::result::Result<Submitted<Packet>, Rejected<Packet>> {
        if self.recorder.is_finished() {
            // It refuses the packet.
            return self.recorder.try_submit(packet);
        }
        let time_ns = packet.meta().timestamp_ns;
        // After a restart of the source, the end of the recording is unknown.
        let has_restarted = packet.can_begin() && self.latest_ns.is_some_and(|latest_ns| time_ns < latest_ns);
        let now_ns = self.time.next(time_ns, monotonic_ns());
        match self.state {
            State::Until(until_ns) if has_restarted || now_ns > until_ns => {
                self.state = State::Waits;
                self.recorder.end_file();
            }
            State::Triggered if packet.can_begin() => self.state = self.until_after(now_ns),
            _ => {}
        }
        self.latest_ns = self.latest_ns.filter(|_| !has_restarted).max(Some(time_ns));
        self.now_ns = if has_restarted { now_ns } else { self.now_ns.max(now_ns) };
        self.packets.push(&packet, &self.options);
        if self.is_recording() {
            return self.recorder.try_submit(packet);
        }
        Ok(Submitted::Taken)
    }

    /// Takes a packet at once, so `timeout` is not used.
    fn submit(
        &mut self,
        packet: Packet,
        _timeout: Duration,
    ) -> std::result::Result<Submitted<Packet>, Rejected<Packet>> {
        self.try_submit(packet)
    }
}

/// Readable while an event waits.
impl AsFd for EventRecorder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.recorder.as_fd()
    }
}
