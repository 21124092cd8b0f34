//! Stations: the calls that are the same for all.
//!
//! A station gives or takes frames or packets: a camera, a converter, an encoder, a publisher, a recorder, a display.
//! Each kind has its own function that opens it; these functions do the rest.
//!
//! One descriptor for life: fl_station_fd() returns the same descriptor from open to close. Register it once,
//! level-triggered, for POLLIN. It is readable while fl_station_recv() with a timeout of 0 has something to say. Call
//! that until it returns FL_NOTHING, and poll again. No other timer, thread or callback is needed.
//!
//! One thread at a time may use a station, and not always the same one. A call while another thread is in one returns
//! FL_ERROR_BUSY. Threads that share a station lock a mutex around each call, with a timeout of 0. Before
//! fl_station_close(), end the other threads' calls: let them wait for the descriptor beside one of yours. Different
//! stations are independent, also of their frames and packets, which any thread may use and give back.

use std::any::Any;
use std::ffi::{c_char, c_int, CString};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use framelease::frame::{Frame, FrameMut, Packet};
use framelease::{Error, Received, Submitted};

use crate::ffi::{self, sized, Fill, Out};
use crate::frame::{fl_buffer, fl_frame};
use crate::packet::fl_packet;
use crate::status::fl_status::{self, FL_ENDED, FL_FULL, FL_NOTHING, FL_OK};
use crate::status::{
    busy, c_text, call, call_on, internal, invalid, reason_of, status_of, unsupported, Failure, LastError,
};

/// A station. Close it with fl_station_close().
#[allow(non_camel_case_types)]
pub struct fl_station {
    fd: RawFd,
    inner: Mutex<Inner>,
    pub(crate) error: Mutex<Option<LastError>>,
}

struct Inner {
    station: Box<dyn AnyStation>,
    /// The text of the last event, kept for C.
    text: CString,
}

/// What an event says. Each station's functions list the kinds that it gives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, non_camel_case_types)]
pub enum fl_event_kind {
    /// No event.
    FL_EVENT_NONE = 0,
    /// A frame, in `frame`.
    FL_EVENT_FRAME = 1,
    /// A coded frame, in `packet`.
    FL_EVENT_PACKET = 2,
    /// The device or the peer is gone: `status` and `text` say why. Frames that you hold stay valid. The station
    /// continues by itself if its options say so; otherwise call fl_station_reopen() after FL_EVENT_RETURNED.
    FL_EVENT_LOST = 3,
    /// The device or the peer is back.
    FL_EVENT_RETURNED = 4,
    /// The frames that follow have another layout and are in other buffers: ask fl_station_buffers() again. Subscribers
    /// and decoders give this event before their first frame too.
    FL_EVENT_FORMAT = 5,
    /// The publisher paused the stream. Frames that you hold stay valid; the next frame ends the pause.
    FL_EVENT_PAUSED = 6,
    /// A publisher, or this station, refused a connection: `status`, `reason` and `text` say why.
    FL_EVENT_REFUSED = 7,
    /// A subscriber or client came: `pid`, `uid`, `gid` for a publisher, `id` and `text` (its address) for RTSP.
    FL_EVENT_JOINED = 8,
    /// A subscriber or client left. Fields as for FL_EVENT_JOINED; for a publisher, `status` and `text` say why.
    FL_EVENT_LEFT = 9,
    /// One item failed, and the station continues: `status` and `text` say why. A converter gives its target back in
    /// `buffer`.
    FL_EVENT_FAILED = 10,
    /// A file is complete; `text` is its path, with its `bytes` and `duration_ms`.
    FL_EVENT_FILE = 11,
    /// The recorder deleted an old file; `text` is its path.
    FL_EVENT_FILE_DELETED = 12,
    /// The recorder repaired a file that an earlier run did not finish; `text` is its path.
    FL_EVENT_FILE_REPAIRED = 13,
    /// A receiver asks for a key frame: call fl_encoder_force_key(). `id` is the mount of an RTSP server.
    FL_EVENT_KEY_FRAME_WANTED = 14,
    /// A frame is on the screen since `time_ns`.
    FL_EVENT_SHOWN = 15,
    /// A device node appeared, or its permissions changed; `text` is its path.
    FL_EVENT_NODE_APPEARED = 16,
    /// A device node was removed; `text` is its path.
    FL_EVENT_NODE_REMOVED = 17,
    /// Another event, which `text` describes. A later version may give it a kind of its own.
    FL_EVENT_OTHER = 18,
}

use fl_event_kind::*;

/// An event of a station. `frame`, `packet` and `buffer` are yours: fl_event_clear() gives them back, or the function
/// of each one. Every other pointer belongs to the station.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_event {
    /// sizeof(fl_event): FL_INIT sets it.
    pub size: usize,
    /// An fl_event_kind. A later version may have further numbers: ignore those that you do not know.
    pub kind: u32,
    /// For events with a cause: an fl_status.
    pub status: c_int,
    /// For events with a cause: an fl_reason.
    pub reason: u32,
    /// The mount of an RTSP server or the destination of an RTP sender.
    pub id: u32,
    /// With FL_EVENT_FRAME, otherwise NULL.
    pub frame: *mut fl_frame,
    /// With FL_EVENT_PACKET, otherwise NULL.
    pub packet: *mut fl_packet,
    /// With FL_EVENT_FAILED of a converter, otherwise NULL.
    pub buffer: *mut fl_buffer,
    /// With FL_EVENT_SHOWN: nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The process of a subscriber, or 0.
    pub pid: i32,
    /// The user of a subscriber.
    pub uid: u32,
    /// The group of a subscriber.
    pub gid: u32,
    /// A sentence for logs, or a path. Never NULL, but "" where the kind says all. Valid until the next
    /// fl_station_recv() of this station.
    pub text: *const c_char,
    /// With FL_EVENT_FILE: the size of the file.
    pub bytes: u64,
    /// With FL_EVENT_FILE: from its first frame to the end of its last, in milliseconds.
    pub duration_ms: u64,
}

sized!(fl_event);

/// One of a station's counts.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_stat {
    /// The name of the count, such as "frames". Static text.
    pub name: *const c_char,
    /// The count since the station was opened, or a present number such as "leased".
    pub value: u64,
}

/// An event on its way to C.
pub struct Event {
    pub kind: fl_event_kind,
    pub frame: Option<Frame>,
    pub packet: Option<Packet>,
    pub buffer: Option<FrameMut>,
    pub error: Option<Error>,
    pub id: u32,
    pub reason: u32,
    pub time_ns: u64,
    pub peer: (i32, u32, u32),
    pub text: String,
    pub bytes: u64,
    pub duration_ms: u64,
}

impl Event {
    pub fn new(kind: fl_event_kind) -> Self {
        Self {
            kind,
            frame: None,
            packet: None,
            buffer: None,
            error: None,
            id: 0,
            reason: 0,
            time_ns: 0,
            peer: (0, 0, 0),
            text: String::new(),
            bytes: 0,
            duration_ms: 0,
        }
    }

    pub fn frame(frame: Frame) -> Self {
        Self { frame: Some(frame), ..Self::new(FL_EVENT_FRAME) }
    }

    pub fn packet(packet: Packet) -> Self {
        Self { packet: Some(packet), ..Self::new(FL_EVENT_PACKET) }
    }

    /// An event with its cause.
    pub fn error(kind: fl_event_kind, error: Error) -> Self {
        let (text, reason) = (error.to_string(), reason_of(error.reason()));
        Self { error: Some(error), text, reason, ..Self::new(kind) }
    }

    pub fn text(kind: fl_event_kind, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::new(kind) }
    }

    /// An event that this library does not know by kind.
    pub fn other(event: impl std::fmt::Debug) -> Self {
        Self::text(FL_EVENT_OTHER, format!("{event:?}"))
    }
}

/// What every station can do. What a kind cannot do says so.
pub trait AnyStation: Any + Send {
    /// The name of the kind, with its article, for error texts.
    fn kind(&self) -> &'static str;
    fn fd(&self) -> BorrowedFd<'_>;
    fn dispatch(&mut self) -> framelease::Result<()>;
    fn recv(&mut self, timeout: Duration) -> framelease::Result<Received<Event>>;
    fn as_any(&mut self) -> &mut dyn Any;

    fn submit_frame(&mut self, _: Frame, _: Duration) -> Result<fl_status, Failure> {
        Err(unsupported(format!("{} does not take frames", self.kind())))
    }

    fn submit_packet(&mut self, _: Packet, _: Duration) -> Result<fl_status, Failure> {
        Err(unsupported(format!("{} does not take packets", self.kind())))
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        Err(unsupported(format!("{} cannot be opened again: close it and open another", self.kind())))
    }

    fn buffers(&self) -> Result<framelease::frame::BufferSet, Failure> {
        Err(unsupported(format!("{} does not have buffers of frames", self.kind())))
    }

    fn awaits_key(&self) -> bool {
        false
    }

    fn stats(&self) -> Vec<fl_stat> {
        Vec::new()
    }
}

/// Implements what all stations of framelease have, by the contract that they share.
macro_rules! station {
    ($kind:literal, $event:path) => {
        fn kind(&self) -> &'static str {
            $kind
        }
        fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
            std::os::fd::AsFd::as_fd(self)
        }
        fn dispatch(&mut self) -> framelease::Result<()> {
            framelease::Station::dispatch(self)
        }
        fn recv(
            &mut self,
            timeout: std::time::Duration,
        ) -> framelease::Result<framelease::Received<$crate::station::Event>> {
            $crate::station::received(framelease::Station::recv(self, timeout)?, $event)
        }
        fn as_any(&mut self) -> &mut dyn std::any::Any {
            self
        }
    };
}
pub(crate) use station;

pub fn received<E>(received: Received<E>, event: impl FnOnce(E) -> Event) -> framelease::Result<Received<Event>> {
    Ok(match received {
        Received::Item(item) => Received::Item(event(item)),
        Received::Nothing => Received::Nothing,
        Received::Ended => Received::Ended,
    })
}

/// The counts of a structure, by the names of its fields.
macro_rules! stats {
    ($stats:expr => $($field:ident),*) => {{
        let stats = $stats;
        vec![$($crate::station::fl_stat {
            name: concat!(stringify!($field), "\0").as_ptr().cast(),
            value: stats.$field as u64,
        }),*]
    }};
}
pub(crate) use stats;

/// The result of a submitting call, for C.
pub fn submitted<T>(result: framelease::SubmitResult<T>) -> Result<fl_status, Failure> {
    match result {
        Ok(Submitted::Taken) => Ok(FL_OK),
        Ok(Submitted::Full(_)) => Ok(FL_FULL),
        Err(rejected) => Err(rejected.error.into()),
    }
}

/// A timeout in milliseconds. Below 0: no limit.
pub fn timeout(ms: c_int) -> Duration {
    u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis)
}

/// Milliseconds of an option, where 0 keeps the default.
pub fn millis(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms.into()))
}

impl fl_station {
    pub fn new(station: impl AnyStation) -> Self {
        let fd = station.fd().as_raw_fd();
        let inner = Inner { station: Box::new(station), text: CString::default() };
        Self { fd, inner: Mutex::new(inner), error: Mutex::new(LastError::none()) }
    }

    fn with_inner<R>(&self, run: impl FnOnce(&mut Inner) -> Result<R, Failure>) -> Result<R, Failure> {
        match self.inner.try_lock() {
            Ok(mut inner) => run(&mut inner),
            Err(TryLockError::WouldBlock) => Err(busy()),
            // A call panicked.
            Err(TryLockError::Poisoned(_)) => Err(internal()),
        }
    }

    /// Runs `run` on the station.
    pub fn with_any<R>(&self, run: impl FnOnce(&mut dyn AnyStation) -> Result<R, Failure>) -> Result<R, Failure> {
        self.with_inner(|inner| run(inner.station.as_mut()))
    }

    /// Runs `run` if the station is of type `T`, which error texts call `wanted`.
    pub fn with<T: 'static, R>(
        &self,
        wanted: &str,
        run: impl FnOnce(&mut T) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.with_any(|station| {
            let kind = station.kind();
            match station.as_any().downcast_mut() {
                Some(station) => run(station),
                None => Err(invalid(format!("the station is {kind}, and this function needs {wanted}"))),
            }
        })
    }

    fn recv(&self, timeout: Duration, to: &Fill<fl_event>) -> Result<fl_status, Failure> {
        // The size in the first version. A handle that does not fit would be lost.
        to.needs(size_of::<fl_event>(), "event")?;
        to.put(&empty_event());
        self.with_inner(|inner| {
            let event = match inner.station.recv(timeout)? {
                Received::Item(event) => event,
                Received::Nothing => return Ok(FL_NOTHING),
                Received::Ended => return Ok(FL_ENDED),
            };
            // Frames and packets have no text: no allocation but that of their handle.
            if !(event.text.is_empty() && inner.text.as_bytes().is_empty()) {
                inner.text = c_text(&event.text);
            }
            to.put(&fl_event {
                size: 0,
                kind: event.kind as u32,
                status: event.error.map_or(FL_OK, |error| status_of(error.kind())) as c_int,
                reason: event.reason,
                id: event.id,
                frame: event.frame.map_or(ptr::null_mut(), |frame| ffi::counted(fl_frame { frame })),
                packet: event.packet.map_or(ptr::null_mut(), |packet| ffi::counted(fl_packet { packet })),
                buffer: event.buffer.map_or(ptr::null_mut(), |buffer| Box::into_raw(Box::new(fl_buffer { buffer }))),
                time_ns: event.time_ns,
                pid: event.peer.0,
                uid: event.peer.1,
                gid: event.peer.2,
                text: inner.text.as_ptr(),
                bytes: event.bytes,
                duration_ms: event.duration_ms,
            });
            Ok(FL_OK)
        })
    }
}

fn empty_event() -> fl_event {
    fl_event {
        size: 0,
        kind: FL_EVENT_NONE as u32,
        status: 0,
        reason: 0,
        id: 0,
        frame: ptr::null_mut(),
        packet: ptr::null_mut(),
        buffer: ptr::null_mut(),
        time_ns: 0,
        pid: 0,
        uid: 0,
        gid: 0,
        text: crate::status::c!(""),
        bytes: 0,
        duration_ms: 0,
    }
}

/// Opens a station and gives it to the caller.
pub fn open<S: AnyStation>(
    function: &'static str,
    to: *mut *mut fl_station,
    open: impl FnOnce() -> Result<S, Failure>,
) -> fl_status {
    call(function, || {
        let out = Out::handle(to, "station")?;
        out.put_box(fl_station::new(open()?));
        Ok(FL_OK)
    })
}

/// Returns the station's descriptor, for poll, epoll or any event loop: the same one until fl_station_close(). -1 for
/// NULL. Do not read, write or close it.
#[no_mangle]
pub extern "C" fn fl_station_fd(station: Option<&fl_station>) -> c_int {
    station.map_or(-1, |station| station.fd)
}

/// Waits for the next event, for at most `timeout_ms` milliseconds: 0 does not wait, -1 waits for a day. A signal
/// handler ends the wait early.
///
/// Returns FL_OK with an event, FL_NOTHING, or FL_ENDED once, when the stream is over. After an error the station
/// continues, unless the function that opened it says otherwise: log fl_message() and call again.
///
/// Release what the last event held before you reuse `event`: this call overwrites it.
#[no_mangle]
pub extern "C" fn fl_station_recv(station: Option<&fl_station>, timeout_ms: c_int, event: *mut fl_event) -> fl_status {
    call_on("fl_station_recv", station, |station| station.recv(timeout(timeout_ms), &Fill::new(event, "event")?))
}

/// Gives back what an event holds: its frame, packet or buffer. The event is then empty. NULL is allowed.
#[no_mangle]
pub extern "C" fn fl_event_clear(event: *mut fl_event) {
    call("fl_event_clear", || {
        if event.is_null() {
            return Ok(FL_OK);
        }
        let mut held = ffi::read(event, "event")?;
        ffi::count_down(&mut held.frame);
        ffi::count_down(&mut held.packet);
        ffi::free_box(&mut held.buffer);
        Fill::new(event, "event")?.put(&empty_event());
        Ok(FL_OK)
    });
}

/// Does the work that is due, without receiving. For stations whose events you ignore: a publisher, a recorder, an RTSP
/// server. Call it when the descriptor is readable: an event that you ignore keeps the descriptor readable only until
/// this call. Every fl_station_recv() does the same work first.
#[no_mangle]
pub extern "C" fn fl_station_dispatch(station: Option<&fl_station>) -> fl_status {
    call_on("fl_station_dispatch", station, |station| {
        station.with_any(|station| Ok(station.dispatch()?))?;
        Ok(FL_OK)
    })
}

/// Gives a frame to a station that takes frames: a publisher, an encoder, a display. Waits for room for at most
/// `timeout_ms`, as fl_station_recv() waits.
///
/// Returns FL_OK, FL_FULL, or an error. In each case your reference stays yours: the station takes a reference of its
/// own if it takes the frame. Copies no pixel. A publisher is full only while a subscriber with FL_POLICY_BLOCK has no
/// room. Other slow subscribers miss the frame.
#[no_mangle]
pub extern "C" fn fl_station_submit(
    station: Option<&fl_station>,
    frame: Option<&fl_frame>,
    timeout_ms: c_int,
) -> fl_status {
    call_on("fl_station_submit", station, |station| {
        let frame = frame.ok_or_else(|| invalid("the frame is NULL"))?;
        station.with_any(|station| station.submit_frame(frame.frame.clone(), timeout(timeout_ms)))
    })
}

/// Gives a packet to a station that takes packets: a recorder, an RTP sender, a decoder. As fl_station_submit().
#[no_mangle]
pub extern "C" fn fl_station_submit_packet(
    station: Option<&fl_station>,
    packet: Option<&fl_packet>,
    timeout_ms: c_int,
) -> fl_status {
    call_on("fl_station_submit_packet", station, |station| {
        let packet = packet.ok_or_else(|| invalid("the packet is NULL"))?;
        station.with_any(|station| station.submit_packet(packet.packet.clone(), timeout(timeout_ms)))
    })
}

/// Opens a lost device again: of a camera, a converter or a decoder. The descriptor, subscribers and sinks stay.
/// FL_ERROR_NOT_FOUND until the device is back; the call can be repeated. An encoder does this by itself, and so does a
/// camera with FL_CAMERA_REOPEN; for a display, see fl_display_reopen().
#[no_mangle]
pub extern "C" fn fl_station_reopen(station: Option<&fl_station>) -> fl_status {
    call_on("fl_station_reopen", station, |station| {
        station.with_any(|station| station.reopen())?;
        Ok(FL_OK)
    })
}

/// Returns whether the station needs a key frame to begin or to continue: a recorder, an RTP sender. Then call
/// fl_encoder_force_key(). For an RTSP server, see fl_rtsp_awaits_key().
#[no_mangle]
pub extern "C" fn fl_station_awaits_key(station: Option<&fl_station>) -> bool {
    let mut awaits = false;
    call_on("fl_station_awaits_key", station, |station| {
        awaits = station.with_any(|station| Ok(station.awaits_key()))?;
        Ok(FL_OK)
    });
    awaits
}

/// Writes the station's counts to `stats`, which has room for `capacity`, and their number to `count`. If `capacity` is
/// smaller than that number, the first `capacity` counts are written. `stats` may be NULL if `capacity` is 0.
#[no_mangle]
pub extern "C" fn fl_station_stats(
    station: Option<&fl_station>,
    stats: *mut fl_stat,
    capacity: usize,
    count: *mut usize,
) -> fl_status {
    call_on("fl_station_stats", station, |station| {
        let count = Out::number(count, "count")?;
        let all = station.with_any(|station| Ok(station.stats()))?;
        ffi::fill_array(stats, capacity, &all, "stats")?;
        count.put(all.len());
        Ok(FL_OK)
    })
}

/// Closes a station and makes the pointer NULL. No other thread may be in a call of it. Frames and packets that you
/// hold stay valid until you release them. NULL, or a pointer to NULL, is allowed.
#[no_mangle]
pub extern "C" fn fl_station_close(station: *mut *mut fl_station) {
    call("fl_station_close", || {
        ffi::free_box(station);
        Ok(FL_OK)
    });
}
