//! Sinks: recordings, RTP and RTSP.
//!
//! Each takes the packets of one encoder by fl_station_submit_packet(), or of an RTSP server's mount by
//! fl_rtsp_submit(). A sink needs a key frame to begin: ask fl_station_awaits_key() after each packet.

use std::ffi::{c_char, CString};
use std::net::SocketAddr;
use std::time::Duration;

use framelease::frame::Packet;
use framelease::sink::recorder::{
    Container, FileNames, FileRotation, Recorder, RecorderEvent, RecorderOptions, Retention,
};
use framelease::sink::ring::{EventRecorder, RingOptions};
use framelease::sink::rtp::{DestinationId, Sender, SenderEvent, SenderOptions, Spread};
use framelease::sink::rtsp::{MountId, MountOptions, Server, ServerEvent, Transport};
use framelease::sink::{Fsync, WriterOptions};
use framelease::Submit;

use crate::ffi::{self, sized, Bool, Fill, Out};
use crate::format::{self, fl_colorimetry, fl_interval};
use crate::packet::fl_packet;
use crate::station::fl_event_kind::{
    FL_EVENT_FAILED, FL_EVENT_FILE, FL_EVENT_FILE_DELETED, FL_EVENT_FILE_REPAIRED, FL_EVENT_JOINED,
    FL_EVENT_KEY_FRAME_WANTED, FL_EVENT_LEFT,
};
use crate::station::{fl_stat, fl_station, millis, open, station, stats, submitted, AnyStation, Event};
use crate::status::fl_status::{self, FL_ENDED, FL_OK};
use crate::status::{c_text, call_on, invalid, numbers, unsupported, within, Failure};

/// The container of a recording.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_container {
    /// MP4 for paths that end in .mp4 or .m4v, otherwise Matroska.
    FL_CONTAINER_BY_NAME = 0,
    /// Every codec. A crash loses no packet that was written.
    FL_CONTAINER_MATROSKA = 1,
    /// Fragmented MP4, for H.264 and H.265. A crash loses the last second at most.
    FL_CONTAINER_MP4 = 2,
}

numbers!(fl_container: FL_CONTAINER_BY_NAME, FL_CONTAINER_MATROSKA, FL_CONTAINER_MP4);

/// What a recording shall be. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_recorder_options {
    /// sizeof(fl_recorder_options): FL_INIT sets it.
    pub size: usize,
    /// Where to record: /data/camera.mkv gives the files /data/camera-00001.mkv, /data/camera-00002.mkv and so on,
    /// after the highest number that exists. No file is overwritten. A pipe or a device gets one live stream. Required.
    pub path: *const c_char,
    /// An fl_container.
    pub container: u32,
    /// The size of a file, in bytes, after which another begins.
    pub rotate_bytes: u64,
    /// The duration of a file, in milliseconds, after which another begins.
    pub rotate_ms: u32,
    /// Rotate at multiples of `rotate_ms` since 1970 (UTC), so that a file of 10 minutes begins at 12:10.
    pub is_aligned: Bool,
    /// Name files by the time of their first frame, NAME-20261130T042047Z.EXT. Otherwise by number, NAME-00001.EXT.
    pub by_wall_clock: Bool,
    /// Do not repair a file that an earlier run did not finish.
    pub keep_broken: Bool,
    /// Synchronize the data to the disk at the end of each cluster or fragment (fdatasync).
    pub sync_clusters: Bool,
    /// The most bytes of all files. The oldest are deleted.
    pub keep_bytes: u64,
    /// The most age of a file, in seconds. Older ones are deleted.
    pub keep_seconds: u64,
    /// The usual time between frames, which players show. Default: none is stored.
    pub interval: fl_interval,
    /// Default: none is stored.
    pub colorimetry: fl_colorimetry,
    /// The longest time that a write may block on a pipe, in milliseconds. Default: 5000. A write to a disk blocks as
    /// long as the disk does: give the recorder a thread, and an fl_fanout receiver, if your loop must not stop.
    pub write_ms: u32,
}

sized!(fl_recorder_options);

fn recorder(given: &fl_recorder_options) -> Result<RecorderOptions, Failure> {
    let mut writer =
        WriterOptions::default().fsync(if given.sync_clusters.get() { Fsync::Clusters } else { Fsync::Never });
    if let Some(interval) = given.interval.get("the interval")? {
        writer = writer.interval(interval);
    }
    if let Some(colorimetry) = given.colorimetry.get() {
        writer = writer.colorimetry(colorimetry);
    }
    if let Some(limit) = millis(given.write_ms) {
        writer = writer.write_timeout(limit);
    }
    let mut rotation = FileRotation::default().aligned(given.is_aligned.get());
    if given.rotate_bytes > 0 {
        rotation = rotation.bytes(given.rotate_bytes);
    }
    if let Some(duration) = millis(given.rotate_ms) {
        rotation = rotation.duration(duration);
    }
    let mut retention = Retention::default();
    if given.keep_bytes > 0 {
        retention = retention.bytes(given.keep_bytes);
    }
    if given.keep_seconds > 0 {
        retention = retention.age(Duration::from_secs(given.keep_seconds));
    }
    let names = if given.by_wall_clock.get() { FileNames::WallClock } else { FileNames::Numbered };
    let options = RecorderOptions::default().writer(writer).rotation(rotation).retention(retention).names(names);
    let options = options.repair(!given.keep_broken.get());
    Ok(match given.container {
        FL_CONTAINER_BY_NAME => options,
        FL_CONTAINER_MATROSKA => options.container(Container::Matroska),
        FL_CONTAINER_MP4 => options.container(Container::Mp4),
        other => return Err(invalid(format!("container {other}: see fl_container"))),
    })
}

fn recorder_event(event: RecorderEvent) -> Event {
    let named = |kind, path: &std::path::Path| Event::text(kind, path.to_string_lossy());
    match event {
        RecorderEvent::File { path, summary } => {
            let duration_ms = summary.duration.as_millis().try_into().unwrap_or(u64::MAX);
            Event { bytes: summary.bytes, duration_ms, ..named(FL_EVENT_FILE, &path) }
        }
        RecorderEvent::Deleted { path } => named(FL_EVENT_FILE_DELETED, &path),
        RecorderEvent::Repaired { path, .. } => named(FL_EVENT_FILE_REPAIRED, &path),
        RecorderEvent::Error(error) => Event::error(FL_EVENT_FAILED, error),
        other => Event::other(other),
    }
}

impl AnyStation for Recorder {
    station!("a recorder", recorder_event);

    fn submit_packet(&mut self, packet: Packet, timeout: Duration) -> Result<fl_status, Failure> {
        submitted(Submit::submit(self, packet, timeout))
    }

    fn awaits_key(&self) -> bool {
        Recorder::awaits_key(self)
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(Recorder::stats(self) => packets, files, skipped)
    }
}

/// Opens a recording. A file is created with its first key frame. Events: FL_EVENT_FILE, FL_EVENT_FILE_DELETED,
/// FL_EVENT_FILE_REPAIRED, and FL_EVENT_FAILED, after which the recorder tries again with the next key frame.
///
/// fl_station_close() finishes the file; fl_recorder_finish() does so and reports it.
#[no_mangle]
pub extern "C" fn fl_recorder_open(options: *const fl_recorder_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_recorder_open", station, || {
        let given = ffi::read(options, "options")?;
        Ok(Recorder::new(ffi::path(given.path, "path")?, recorder(&given)?)?)
    })
}

/// Finishes the file of a recorder or event recorder. FL_EVENT_FILE or FL_EVENT_FAILED follows. The next key frame
/// begins another file.
#[no_mangle]
pub extern "C" fn fl_recorder_finish(recorder: Option<&fl_station>) -> fl_status {
    call_on("fl_recorder_finish", recorder, |station| {
        station.with_any(|station| {
            let (kind, any) = (station.kind(), station.as_any());
            if let Some(recorder) = any.downcast_mut::<Recorder>() {
                recorder.finish();
            } else if let Some(recorder) = any.downcast_mut::<EventRecorder>() {
                recorder.finish();
            } else {
                return Err(invalid(format!("the station is {kind}, and this function needs a recorder")));
            }
            Ok(FL_OK)
        })
    })
}

/// What an event recorder keeps in memory. A field that is 0 keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_ring_options {
    /// sizeof(fl_ring_options): FL_INIT sets it.
    pub size: usize,
    /// The time before a trigger that is recorded, in milliseconds. Default: 10000.
    pub before_ms: u32,
    /// The time after a trigger that is recorded, in milliseconds. Default: 10000.
    pub after_ms: u32,
    /// The most bytes in memory. Default: 64 MiB.
    pub bytes: u64,
}

sized!(fl_ring_options);

impl AnyStation for EventRecorder {
    station!("an event recorder", recorder_event);

    fn submit_packet(&mut self, packet: Packet, timeout: Duration) -> Result<fl_status, Failure> {
        submitted(Submit::submit(self, packet, timeout))
    }

    fn awaits_key(&self) -> bool {
        EventRecorder::awaits_key(self)
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(EventRecorder::stats(self) => packets, files, skipped)
    }
}

/// Opens a recorder that keeps the last seconds in memory and records them when fl_event_recorder_trigger() is called.
/// `ring_options` may be NULL.
#[no_mangle]
pub extern "C" fn fl_event_recorder_open(
    options: *const fl_recorder_options,
    ring_options: *const fl_ring_options,
    station: *mut *mut fl_station,
) -> fl_status {
    open("fl_event_recorder_open", station, || {
        let given = ffi::read(options, "options")?;
        let wanted = ffi::read_or_zero(ring_options, "ring_options")?;
        let mut ring = RingOptions::default();
        if let Some(before) = millis(wanted.before_ms) {
            ring = ring.before(before);
        }
        if let Some(after) = millis(wanted.after_ms) {
            ring = ring.after(after);
        }
        if wanted.bytes > 0 {
            let bytes = usize::try_from(wanted.bytes);
            ring = ring.bytes(bytes.map_err(|_| invalid(format!("bytes is {}", wanted.bytes)))?);
        }
        Ok(EventRecorder::new(ffi::path(given.path, "path")?, recorder(&given)?, ring)?)
    })
}

/// Records the time before now and the time after now. A further trigger during a recording prolongs it.
#[no_mangle]
pub extern "C" fn fl_event_recorder_trigger(recorder: Option<&fl_station>) -> fl_status {
    call_on("fl_event_recorder_trigger", recorder, |station| {
        station.with("an event recorder", |recorder: &mut EventRecorder| Ok(recorder.trigger()?))?;
        Ok(FL_OK)
    })
}

/// How RTP packets are sent. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_rtp_options {
    /// sizeof(fl_rtp_options): FL_INIT sets it.
    pub size: usize,
    /// The largest IP packet, 128 to 9000 bytes. Default: 1400.
    pub mtu: u32,
    /// The part of the frame interval over which the packets of a frame are spread, 1 to 100 %. Default: 50.
    pub spread_percent: u32,
    /// Spread them over a fixed time instead, in milliseconds.
    pub spread_ms: u32,
    /// The least time between parameter sets, in milliseconds. Default: before each key frame.
    pub parameters_ms: u32,
    /// The hop limit of multicast packets, 1 to 255. Default: 1.
    pub ttl: u32,
    /// Receivers on this host do not get multicast packets.
    pub no_loopback: Bool,
    /// Set the code point `dscp`.
    pub set_dscp: Bool,
    /// The differentiated services code point, 0 to 63. 34 is usual for video.
    pub dscp: u8,
    /// The interface for multicast. Default: the routes choose it.
    pub interface_name: *const c_char,
}

sized!(fl_rtp_options);

fn rtp(options: *const fl_rtp_options) -> Result<SenderOptions, Failure> {
    let given = ffi::read_or_zero(options, "options")?;
    let mut options = SenderOptions::default().loopback(!given.no_loopback.get());
    if given.mtu > 0 {
        options = options.mtu(within("mtu", given.mtu, 128..=9000)? as usize);
    }
    if given.spread_percent > 0 {
        let percent = within("spread_percent", given.spread_percent, 1..=100)?;
        options = options.spread(Spread::Percent(percent as u8));
    }
    if let Some(time) = millis(given.spread_ms) {
        options = options.spread(time);
    }
    if let Some(time) = millis(given.parameters_ms) {
        options = options.parameters_every(time);
    }
    if given.ttl > 0 {
        options = options.ttl(within("ttl", given.ttl, 1..=255)?);
    }
    if given.set_dscp.get() {
        options = options.dscp(within("dscp", given.dscp.into(), 0..=63)? as u8);
    }
    if let Some(name) = ffi::optional_text(given.interface_name, "interface_name")? {
        options = options.interface(name);
    }
    Ok(options)
}

fn address(text: *const c_char, what: &str) -> Result<SocketAddr, Failure> {
    let text = ffi::text(text, what)?;
    text.parse().map_err(|_| invalid(format!("{what} {text:?}: an address and a port, such as 192.0.2.1:5004")))
}

/// Numbers for C of ids that have no number of their own.
struct Ids<T>(Vec<Option<T>>);

impl<T: Copy + PartialEq> Ids<T> {
    fn add(&mut self, id: T) -> u32 {
        self.0.push(Some(id));
        self.0.len() as u32
    }

    fn get(&self, number: u32, what: &str) -> Result<T, Failure> {
        let id = self.0.get((number as usize).wrapping_sub(1)).copied().flatten();
        id.ok_or_else(|| invalid(format!("{what} {number}: the station has no such {what}")))
    }

    fn take(&mut self, number: u32, what: &str) -> Result<T, Failure> {
        let id = self.get(number, what)?;
        self.0[number as usize - 1] = None;
        Ok(id)
    }

    fn number(&self, id: T) -> u32 {
        self.0.iter().position(|&known| known == Some(id)).map_or(0, |at| at as u32 + 1)
    }
}

/// An RTP sender with the numbers of its destinations.
struct RtpSender {
    sender: Sender,
    ids: Ids<DestinationId>,
    sdp: CString,
}

impl AnyStation for RtpSender {
    fn kind(&self) -> &'static str {
        "an RTP sender"
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.sender)
    }

    fn dispatch(&mut self) -> framelease::Result<()> {
        framelease::Station::dispatch(&mut self.sender)
    }

    fn recv(&mut self, timeout: Duration) -> framelease::Result<framelease::Received<Event>> {
        let received = framelease::Station::recv(&mut self.sender, timeout)?;
        crate::station::received(received, |event| match event {
            SenderEvent::KeyFrameWanted => Event::new(FL_EVENT_KEY_FRAME_WANTED),
            SenderEvent::Failed(id, error) => Event { id: self.ids.number(id), ..Event::error(FL_EVENT_FAILED, error) },
            other => Event::other(other),
        })
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn submit_packet(&mut self, packet: Packet, timeout: Duration) -> Result<fl_status, Failure> {
        submitted(Submit::submit(&mut self.sender, packet, timeout))
    }

    fn awaits_key(&self) -> bool {
        self.sender.awaits_key()
    }
}

/// Opens a sender of RTP for a codec (an fl_codec). It sends to the destinations that fl_rtp_add() adds. `options` may
/// be NULL. Events: FL_EVENT_KEY_FRAME_WANTED, and FL_EVENT_FAILED with the destination in `id`.
#[no_mangle]
pub extern "C" fn fl_rtp_open(codec: u32, options: *const fl_rtp_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_rtp_open", station, || {
        let sender = Sender::new(format::codec(codec)?, rtp(options)?)?;
        Ok(RtpSender { sender, ids: Ids(Vec::new()), sdp: CString::default() })
    })
}

fn with_sender(
    function: &'static str,
    station: Option<&fl_station>,
    run: impl FnOnce(&mut RtpSender) -> Result<fl_status, Failure>,
) -> fl_status {
    call_on(function, station, |station| station.with("an RTP sender", run))
}

/// Adds a destination such as "192.0.2.1:5004" or "[2001:db8::1]:5004", a host or a multicast group, and gives its
/// number.
#[no_mangle]
pub extern "C" fn fl_rtp_add(sender: Option<&fl_station>, to: *const c_char, destination: *mut u32) -> fl_status {
    with_sender("fl_rtp_add", sender, |sender| {
        let out = Out::number(destination, "destination")?;
        let id = sender.sender.add(address(to, "the address")?)?;
        out.put(sender.ids.add(id));
        Ok(FL_OK)
    })
}

/// Removes a destination.
#[no_mangle]
pub extern "C" fn fl_rtp_remove(sender: Option<&fl_station>, destination: u32) -> fl_status {
    with_sender("fl_rtp_remove", sender, |sender| {
        sender.sender.remove(sender.ids.take(destination, "destination")?);
        Ok(FL_OK)
    })
}

/// Stops sending to a destination, until fl_rtp_resume().
#[no_mangle]
pub extern "C" fn fl_rtp_pause(sender: Option<&fl_station>, destination: u32) -> fl_status {
    with_sender("fl_rtp_pause", sender, |sender| {
        sender.sender.pause(sender.ids.get(destination, "destination")?);
        Ok(FL_OK)
    })
}

/// Continues sending to a destination, with the next key frame.
#[no_mangle]
pub extern "C" fn fl_rtp_resume(sender: Option<&fl_station>, destination: u32) -> fl_status {
    with_sender("fl_rtp_resume", sender, |sender| {
        sender.sender.resume(sender.ids.get(destination, "destination")?);
        Ok(FL_OK)
    })
}

/// Gives the session description (SDP) of a destination, which a player can open as a file. Before the first key frame
/// it lacks the parameter sets, which some players need. Valid until the next call of this function for the sender.
#[no_mangle]
pub extern "C" fn fl_rtp_get_sdp(sender: Option<&fl_station>, destination: u32, sdp: *mut *const c_char) -> fl_status {
    with_sender("fl_rtp_get_sdp", sender, |sender| {
        let out = Out::pointer(sdp, "sdp")?;
        let id = sender.ids.get(destination, "destination")?;
        let text = sender.sender.sdp(id).ok_or_else(|| unsupported("the codec does not have a session description"))?;
        sender.sdp = c_text(&text);
        out.put(sender.sdp.as_ptr());
        Ok(FL_OK)
    })
}

/// What was sent to a destination or a client.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_rtp_stats {
    /// sizeof(fl_rtp_stats): FL_INIT sets it.
    pub size: usize,
    pub packets: u64,
    /// Bytes of payload.
    pub octets: u64,
    pub frames: u64,
    /// Frames that were not sent, or not wholly.
    pub dropped: u64,
}

sized!(fl_rtp_stats);

/// Fills the counts of a destination.
#[no_mangle]
pub extern "C" fn fl_rtp_get_stats(
    sender: Option<&fl_station>,
    destination: u32,
    stats: *mut fl_rtp_stats,
) -> fl_status {
    with_sender("fl_rtp_get_stats", sender, |sender| {
        let to = Fill::new(stats, "stats")?;
        let id = sender.ids.get(destination, "destination")?;
        let Some(stats) = sender.sender.stats(id) else { return Ok(FL_ENDED) };
        to.put(&fl_rtp_stats {
            size: 0,
            packets: stats.packets,
            octets: stats.octets,
            frames: stats.frames,
            dropped: stats.dropped,
        });
        Ok(FL_OK)
    })
}

/// A user who may watch.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_user {
    /// sizeof(fl_user): FL_INIT sets it.
    pub size: usize,
    pub name: *const c_char,
    pub password: *const c_char,
}

sized!(fl_user);

/// What an RTSP server shall be. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_rtsp_options {
    /// sizeof(fl_rtsp_options): FL_INIT sets it.
    pub size: usize,
    /// Where it listens, such as "0.0.0.0:8554" or "[::]:8554". Port 0: the kernel chooses one. Required.
    pub address: *const c_char,
    /// Users who may watch. Each begins with its size (FL_INIT). Default: everybody may.
    pub users: *const fl_user,
    /// The number of `users`.
    pub user_count: usize,
    /// Accept passwords in readable form as well (Basic). Default: Digest alone.
    pub allow_basic: Bool,
    /// The most connections at a time. Default: 64.
    pub max_connections: u32,
    /// The most sessions at a time. Default: 64.
    pub max_sessions: u32,
    /// How long a silent session lives, in milliseconds, at least 1000. Default: 60000.
    pub session_ms: u32,
    /// How long a request may take, in milliseconds. Default: 10000.
    pub request_ms: u32,
    /// Bytes that may wait for a slow client. Default: 1 MiB.
    pub backlog_bytes: u32,
    /// Serve RTSPS with this certificate chain (a PEM file). Needs the feature tls.
    pub certificate: *const c_char,
    /// The key of `certificate` (a PEM file).
    pub key: *const c_char,
}

sized!(fl_rtsp_options);

/// An RTSP server with the numbers of its mounts.
struct RtspServer {
    server: Server,
    ids: Ids<MountId>,
    /// The texts of the last client that C asked for.
    client: (CString, CString),
}

impl AnyStation for RtspServer {
    fn kind(&self) -> &'static str {
        "an RTSP server"
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.server)
    }

    fn dispatch(&mut self) -> framelease::Result<()> {
        framelease::Station::dispatch(&mut self.server)
    }

    fn recv(&mut self, timeout: Duration) -> framelease::Result<framelease::Received<Event>> {
        let received = framelease::Station::recv(&mut self.server, timeout)?;
        crate::station::received(received, |event| {
            let of = |kind, mount, text: String| Event { id: self.ids.number(mount), ..Event::text(kind, text) };
            match event {
                ServerEvent::KeyFrameWanted(mount) => of(FL_EVENT_KEY_FRAME_WANTED, mount, String::new()),
                ServerEvent::Joined(mount, peer) => of(FL_EVENT_JOINED, mount, peer.to_string()),
                ServerEvent::Left(mount, peer) => of(FL_EVENT_LEFT, mount, peer.to_string()),
                other => Event::other(other),
            }
        })
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn stats(&self) -> Vec<fl_stat> {
        let stats = self.server.stats();
        stats!(stats => connections, requests, refused, unauthorized, malformed, expired, failed_handshakes)
    }
}

/// Opens an RTSP server. fl_rtsp_mount() adds its streams. Events: FL_EVENT_JOINED and FL_EVENT_LEFT with the client's
/// address in `text`, FL_EVENT_KEY_FRAME_WANTED; the mount is in `id`.
#[no_mangle]
pub extern "C" fn fl_rtsp_open(options: *const fl_rtsp_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_rtsp_open", station, || {
        let given = ffi::read(options, "options")?;
        let mut builder = Server::builder(address(given.address, "the address")?);
        for user in ffi::elements(given.users, given.user_count, "user")? {
            let (name, password) = (ffi::text(user.name, "a user's name")?, ffi::text(user.password, "a password")?);
            builder = builder.user(name, password);
        }
        if given.allow_basic.get() {
            builder = builder.allow_basic();
        }
        if given.max_connections > 0 {
            builder = builder.max_connections(given.max_connections as usize);
        }
        if given.max_sessions > 0 {
            builder = builder.max_sessions(given.max_sessions as usize);
        }
        if let Some(timeout) = millis(given.session_ms) {
            within("session_ms", given.session_ms, 1000..=u32::MAX)?;
            builder = builder.session_timeout(timeout);
        }
        if let Some(timeout) = millis(given.request_ms) {
            builder = builder.request_timeout(timeout);
        }
        if given.backlog_bytes > 0 {
            builder = builder.backlog_bytes(given.backlog_bytes as usize);
        }
        if let (Some(certificate), Some(key)) = (ffi::optional_path(given.certificate), ffi::optional_path(given.key)) {
            #[cfg(feature = "tls")]
            {
                builder = builder.tls(framelease::sink::rtsp::Identity::from_files(certificate, key)?);
            }
            #[cfg(not(feature = "tls"))]
            {
                let text = format!("{certificate:?}, {key:?}: this library was built without the feature tls");
                return Err(unsupported(text));
            }
        } else if !given.certificate.is_null() || !given.key.is_null() {
            return Err(invalid("certificate and key need each other"));
        }
        Ok(RtspServer { server: builder.bind()?, ids: Ids(Vec::new()), client: Default::default() })
    })
}

fn with_server(
    function: &'static str,
    station: Option<&fl_station>,
    run: impl FnOnce(&mut RtspServer) -> Result<fl_status, Failure>,
) -> fl_status {
    call_on(function, station, |station| station.with("an RTSP server", run))
}

/// How a client gets its packets.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_transport {
    /// UDP, to ports of the client.
    FL_TRANSPORT_UDP = 0,
    /// Within the client's connection, also through HTTP.
    FL_TRANSPORT_TCP = 1,
    /// UDP, to the multicast group of the mount.
    FL_TRANSPORT_MULTICAST = 2,
}

numbers!(fl_transport: FL_TRANSPORT_UDP, FL_TRANSPORT_TCP, FL_TRANSPORT_MULTICAST);

/// A session of a client of an RTSP server.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_rtsp_client {
    /// sizeof(fl_rtsp_client): FL_INIT sets it.
    pub size: usize,
    /// The client's address, such as "192.0.2.1:40312". Valid until the next fl_rtsp_get_client() of the server.
    pub address: *const c_char,
    /// The path of the stream, such as "/live". Valid as long as `address`.
    pub path: *const c_char,
    /// An fl_transport. A later version may have further numbers.
    pub transport: u32,
    /// The client has asked to play, and not to pause.
    pub is_playing: Bool,
    /// What was sent to it, as in fl_rtp_stats. For multicast: to its whole group.
    pub packets: u64,
    pub octets: u64,
    pub frames: u64,
    pub dropped: u64,
}

sized!(fl_rtsp_client);

/// Fills what is known of the session `index`, from 0. FL_ENDED beyond the last one.
#[no_mangle]
pub extern "C" fn fl_rtsp_get_client(
    server: Option<&fl_station>,
    index: usize,
    info: *mut fl_rtsp_client,
) -> fl_status {
    with_server("fl_rtsp_get_client", server, |server| {
        let to = Fill::new(info, "info")?;
        let Some(client) = server.server.clients().nth(index) else { return Ok(FL_ENDED) };
        server.client = (c_text(&client.peer.to_string()), c_text(&client.path));
        to.put(&fl_rtsp_client {
            size: 0,
            address: server.client.0.as_ptr(),
            path: server.client.1.as_ptr(),
            transport: match client.transport {
                Transport::Udp => FL_TRANSPORT_UDP,
                Transport::Tcp => FL_TRANSPORT_TCP,
                Transport::Multicast => FL_TRANSPORT_MULTICAST,
                _ => u32::MAX,
            },
            is_playing: client.is_playing.into(),
            packets: client.sent.packets,
            octets: client.sent.octets,
            frames: client.sent.frames,
            dropped: client.sent.dropped,
        });
        Ok(FL_OK)
    })
}

/// Adds a stream at a path such as "/live", for a codec (an fl_codec), and gives its number. `group` is the multicast
/// group for clients that ask for multicast, such as "239.1.1.1:5004", or NULL. `options` may be NULL.
#[no_mangle]
pub extern "C" fn fl_rtsp_mount(
    server: Option<&fl_station>,
    path: *const c_char,
    codec: u32,
    group: *const c_char,
    options: *const fl_rtp_options,
    mount: *mut u32,
) -> fl_status {
    with_server("fl_rtsp_mount", server, |server| {
        let out = Out::number(mount, "mount")?;
        let mut wanted = MountOptions::default().rtp(rtp(options)?);
        if !group.is_null() {
            wanted = wanted.group(address(group, "the group")?);
        }
        let id = server.server.mount(ffi::text(path, "path")?, format::codec(codec)?, wanted)?;
        out.put(server.ids.add(id));
        Ok(FL_OK)
    })
}

/// Ends a stream and its sessions.
#[no_mangle]
pub extern "C" fn fl_rtsp_unmount(server: Option<&fl_station>, mount: u32) -> fl_status {
    with_server("fl_rtsp_unmount", server, |server| {
        server.server.unmount(server.ids.take(mount, "mount")?);
        Ok(FL_OK)
    })
}

/// Gives a packet to the clients of a stream. Never full: frames of a client that is too slow are dropped.
#[no_mangle]
pub extern "C" fn fl_rtsp_submit(server: Option<&fl_station>, mount: u32, packet: Option<&fl_packet>) -> fl_status {
    with_server("fl_rtsp_submit", server, |server| {
        let packet = packet.ok_or_else(|| invalid("the packet is NULL"))?;
        server.server.submit(server.ids.get(mount, "mount")?, &packet.packet)?;
        Ok(FL_OK)
    })
}

/// Returns whether a client of a stream waits for a key frame: call fl_encoder_force_key().
#[no_mangle]
pub extern "C" fn fl_rtsp_awaits_key(server: Option<&fl_station>, mount: u32) -> bool {
    let mut awaits = false;
    with_server("fl_rtsp_awaits_key", server, |server| {
        awaits = server.server.awaits_key(server.ids.get(mount, "mount")?);
        Ok(FL_OK)
    });
    awaits
}

/// Gives the port on which the server listens.
#[no_mangle]
pub extern "C" fn fl_rtsp_get_port(server: Option<&fl_station>, port: *mut u32) -> fl_status {
    with_server("fl_rtsp_get_port", server, |server| {
        let out = Out::number(port, "port")?;
        out.put(server.server.local_addr()?.port().into());
        Ok(FL_OK)
    })
}
