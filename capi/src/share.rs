//! Sharing frames with other processes: publisher and subscriber.
//!
//! A publisher takes frames by fl_station_submit() and sends their buffers, as descriptors, to every subscriber of its
//! socket: no pixel is copied. A subscriber gives them as FL_EVENT_FRAME. Its frame is a lease: the publisher's camera
//! does not use the buffer again until it is released, its deadline passes, or the subscriber's process ends.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use framelease::frame::{BufferSet, Frame};
use framelease::share::{
    PeerInfo, Policy, Publisher, PublisherEvent, Rate, Reconnect, Subscriber, SubscriberBuilder, SubscriberEvent,
};

use crate::ffi::{self, sized, Bool, Fill, Out};
use crate::frame::fl_buffers;
use crate::station::fl_event_kind::{
    FL_EVENT_FORMAT, FL_EVENT_JOINED, FL_EVENT_LEFT, FL_EVENT_LOST, FL_EVENT_PAUSED, FL_EVENT_REFUSED,
    FL_EVENT_RETURNED,
};
use crate::station::{fl_stat, fl_station, millis, open, station, stats, submitted, timeout, AnyStation, Event};
use crate::status::fl_status::{self, FL_ENDED, FL_NOTHING, FL_OK};
use crate::status::{call_on, invalid, numbers, reason_of, state, within, Failure};

/// What happens to frames that come while the subscriber holds as many as it may.
#[repr(C)]
#[allow(non_camel_case_types)]
pub enum fl_policy {
    /// The newest frame waits and replaces the one that waited.
    FL_POLICY_LATEST = 0,
    /// Up to `depth` frames wait in order; further ones are dropped.
    FL_POLICY_FIFO = 1,
    /// The publisher and all its subscribers wait. Only if the publisher allows it.
    FL_POLICY_BLOCK = 2,
}

numbers!(fl_policy: FL_POLICY_LATEST, FL_POLICY_FIFO, FL_POLICY_BLOCK);

/// What a publisher shall be. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_publisher_options {
    /// sizeof(fl_publisher_options): FL_INIT sets it.
    pub size: usize,
    /// The path of the socket. Required.
    pub path: *const c_char,
    /// Buffers that subscribers never get: those of the driver, those that this process fills or keeps, and one for the
    /// newest frame. fl_negotiate() says how many. For the targets of a converter, 3 is usual: one that is drawn, one
    /// that waits to be published, and the newest. Default: 5.
    pub reserve: u32,
    /// The permissions of the socket file. Default: 0660.
    pub mode: u32,
    /// The most subscribers at a time. Default and limit: 64.
    pub max_subscribers: u32,
    /// The most subscribers of one user at a time. Default: 64.
    pub max_per_user: u32,
    /// The most frames that one subscriber may hold. Default: 64.
    pub max_hold: u32,
    /// The longest time that FL_POLICY_BLOCK may stop the stream, in milliseconds. Default: refuse that policy.
    pub allow_block_ms: u32,
    /// Revoke a frame that a subscriber has held for this time, in milliseconds. Default: no limit.
    pub lease_revoke_ms: u32,
    /// Then end its stream, this time after the frame was sent, in milliseconds. At least `lease_revoke_ms`, which is
    /// needed too. Default: twice that.
    pub lease_end_ms: u32,
    /// The time that a connection has for its first message, in milliseconds. Default: 1000.
    pub handshake_ms: u32,
    /// How long the buffers of a subscriber that is gone, or that has `fences`, wait for the fences of its devices, in
    /// milliseconds at most. Default: no wait.
    pub fence_ms: u32,
    /// The path of a second socket, for GStreamer's unixfdsrc, whose frames are the newest ones. Default: none.
    pub unixfd_path: *const c_char,
    /// The frames that each unixfdsrc may hold. Default: 2.
    pub unixfd_hold: u32,
    /// Use the socket `listener_fd` instead of binding `path`, which is then the name of the socket in messages.
    pub has_listener: Bool,
    /// A Unix socket of type SOCK_SEQPACKET that listens, such as a service manager passes it (LISTEN_FDS of systemd).
    /// The publisher duplicates it: yours stays yours. Its file stays after fl_station_close().
    pub listener_fd: c_int,
}

sized!(fl_publisher_options);

/// What a subscriber shall be. A field that is 0 or NULL keeps the default.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_subscriber_options {
    /// sizeof(fl_subscriber_options): FL_INIT sets it.
    pub size: usize,
    /// The path of the publisher's socket. Required.
    pub path: *const c_char,
    /// The frames that this process may hold at the same time, 1 to 64. Default: 1.
    pub hold: u32,
    /// An fl_policy. Default: the newest frame waits.
    pub policy: u32,
    /// With FL_POLICY_FIFO: the frames that may wait, 1 to 32. Default: 1.
    pub depth: u32,
    /// Take only each n-th frame.
    pub every_nth: u32,
    /// The most frames in 1000 seconds. Not together with `every_nth`.
    pub milli_fps: u32,
    /// Connect again by itself after the publisher is gone. Otherwise FL_ENDED follows FL_EVENT_LOST.
    pub reconnect: Bool,
    /// Accept only a publisher of the user `publisher_uid`.
    pub check_publisher: Bool,
    pub publisher_uid: u32,
    /// Frames may be released while a device of this process still reads them, if the device's fence is attached to
    /// each descriptor of the frame (DMA_BUF_IOCTL_IMPORT_SYNC_FILE). The publisher then waits for these fences.
    /// Connecting fails with FL_ERROR_UNSUPPORTED if the publisher has no `fence_ms`.
    pub fences: Bool,
}

sized!(fl_subscriber_options);

/// The process at the other end.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct fl_peer {
    /// sizeof(fl_peer): FL_INIT sets it.
    pub size: usize,
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
    /// The frames that it may hold or that may wait for it.
    pub quota: u32,
    /// The frames that it holds now. 0 for a publisher.
    pub held: u32,
    /// Frames that were sent to it. 0 for a publisher.
    pub sent: u64,
    /// Frames that it wanted and did not get. 0 for a publisher.
    pub dropped: u64,
    /// How long it has held its oldest frame, in nanoseconds.
    pub oldest_lease_ns: u64,
}

sized!(fl_peer);

fn of_peer(kind: crate::station::fl_event_kind, peer: PeerInfo) -> Event {
    Event { peer: (peer.pid, peer.uid, peer.gid), ..Event::new(kind) }
}

fn publisher_event(event: PublisherEvent) -> Event {
    match event {
        PublisherEvent::Joined(peer) => {
            let text = format!("process {} of user {} joined", peer.pid, peer.uid);
            Event { text, ..of_peer(FL_EVENT_JOINED, peer) }
        }
        PublisherEvent::Left { peer, error } => {
            Event { peer: of_peer(FL_EVENT_LEFT, peer).peer, ..Event::error(FL_EVENT_LEFT, error) }
        }
        PublisherEvent::Refused { peer, reason, detail } => {
            Event { reason: reason_of(Some(reason)), text: detail, ..of_peer(FL_EVENT_REFUSED, peer) }
        }
        other => Event::other(other),
    }
}

impl AnyStation for Publisher {
    station!("a publisher", publisher_event);

    fn submit_frame(&mut self, frame: Frame, timeout: Duration) -> Result<fl_status, Failure> {
        submitted(self.publish(frame, timeout))
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(Publisher::stats(self) => published, dropped, admitted, refused, revoked, violations)
    }
}

fn subscriber_event(event: SubscriberEvent) -> Event {
    match event {
        SubscriberEvent::Frame(frame) => Event::frame(frame),
        SubscriberEvent::Format(buffers) => Event::text(FL_EVENT_FORMAT, buffers.layout().to_string()),
        SubscriberEvent::Paused => Event::new(FL_EVENT_PAUSED),
        SubscriberEvent::Lost(error) => Event::error(FL_EVENT_LOST, error),
        SubscriberEvent::Refused(error) => Event::error(FL_EVENT_REFUSED, error),
        SubscriberEvent::Returned => Event::new(FL_EVENT_RETURNED),
        other => Event::other(other),
    }
}

impl AnyStation for Subscriber {
    station!("a subscriber", subscriber_event);

    fn buffers(&self) -> Result<BufferSet, Failure> {
        let buffers = Subscriber::buffers(self);
        Ok(buffers.ok_or_else(|| state("the publisher has no source yet: wait for FL_EVENT_FORMAT"))?.clone())
    }

    fn stats(&self) -> Vec<fl_stat> {
        stats!(Subscriber::stats(self) => received, skipped, dropped, lost, revoked, reconnects)
    }
}

/// Binds the socket. Replaces the socket file of a publisher that has died; FL_ERROR_BUSY if one is alive. Then call
/// fl_publisher_announce().
#[no_mangle]
pub extern "C" fn fl_publisher_open(options: *const fl_publisher_options, station: *mut *mut fl_station) -> fl_status {
    open("fl_publisher_open", station, || {
        let options = ffi::read(options, "options")?;
        let mut builder = Publisher::builder(ffi::path(options.path, "path")?);
        if options.has_listener.get() {
            builder = builder.listener(ffi::descriptor(options.listener_fd, "listener_fd")?);
        }
        if options.reserve > 0 {
            builder = builder.reserve(options.reserve as usize);
        }
        if options.mode > 0 {
            builder = builder.mode(options.mode);
        }
        if options.max_subscribers > 0 {
            builder = builder.max_subscribers(within("max_subscribers", options.max_subscribers, 1..=64)? as usize);
        }
        if options.max_per_user > 0 {
            builder = builder.max_per_user(options.max_per_user as usize);
        }
        if options.max_hold > 0 {
            builder = builder.max_hold(small(options.max_hold, "max_hold")?);
        }
        if let Some(limit) = millis(options.allow_block_ms) {
            builder = builder.allow_block(limit);
        }
        if let Some(revoke) = millis(options.lease_revoke_ms) {
            let end = match options.lease_end_ms {
                0 => revoke * 2,
                end => Duration::from_millis(within("lease_end_ms", end, options.lease_revoke_ms..=u32::MAX)?.into()),
            };
            builder = builder.lease_deadline(revoke, end);
        } else if options.lease_end_ms > 0 {
            return Err(invalid("lease_end_ms needs lease_revoke_ms"));
        }
        if let Some(timeout) = millis(options.handshake_ms) {
            builder = builder.handshake_timeout(timeout);
        }
        if let Some(timeout) = millis(options.fence_ms) {
            builder = builder.fence_timeout(timeout);
        }
        if let Some(path) = ffi::optional_path(options.unixfd_path) {
            #[cfg(feature = "unixfd")]
            {
                let hold = if options.unixfd_hold > 0 { small(options.unixfd_hold, "unixfd_hold")? } else { 2 };
                builder = builder.unixfd(path, framelease::share::UnixfdTerms::hold(hold));
            }
            #[cfg(not(feature = "unixfd"))]
            return Err(crate::status::unsupported(format!("{path:?}: built without the feature unixfd")));
        }
        Ok(builder.bind()?)
    })
}

fn small(number: u32, what: &str) -> Result<u16, Failure> {
    u16::try_from(number).map_err(|_| invalid(format!("{what} is {number}: at most {}", u16::MAX)))
}

/// Announces the buffers of the frames that follow. Call it before the first frame, and again when the source has other
/// buffers (FL_EVENT_FORMAT, fl_camera_reconfigure(), a reopened camera). Subscribers get the descriptors once.
#[no_mangle]
pub extern "C" fn fl_publisher_announce(publisher: Option<&fl_station>, buffers: Option<&fl_buffers>) -> fl_status {
    call_on("fl_publisher_announce", publisher, |station| {
        let buffers = &buffers.ok_or_else(|| invalid("buffers is NULL"))?.buffers;
        station.with("a publisher", |publisher: &mut Publisher| Ok(publisher.announce(buffers)?))?;
        Ok(FL_OK)
    })
}

/// Pauses the stream: every subscriber gets the frames that wait for it, then FL_EVENT_PAUSED. The next frame
/// continues. FL_NOTHING if `timeout_ms` passed before all were told; later calls tell the others.
#[no_mangle]
pub extern "C" fn fl_publisher_pause(publisher: Option<&fl_station>, timeout_ms: c_int) -> fl_status {
    call_on("fl_publisher_pause", publisher, |station| {
        station.with("a publisher", |publisher: &mut Publisher| {
            Ok(if publisher.pause(timeout(timeout_ms))? { FL_OK } else { FL_NOTHING })
        })
    })
}

/// Fills what is known of the subscriber `index`, from 0. FL_ENDED beyond the last one.
#[no_mangle]
pub extern "C" fn fl_publisher_get_subscriber(
    publisher: Option<&fl_station>,
    index: usize,
    peer: *mut fl_peer,
) -> fl_status {
    call_on("fl_publisher_get_subscriber", publisher, |station| {
        let to = Fill::new(peer, "peer")?;
        station.with("a publisher", |publisher: &mut Publisher| {
            let Some(stats) = publisher.subscribers().nth(index) else { return Ok(FL_ENDED) };
            to.put(&fl_peer {
                size: 0,
                pid: stats.peer.pid,
                uid: stats.peer.uid,
                gid: stats.peer.gid,
                quota: stats.quota,
                held: stats.held as u32,
                sent: stats.sent,
                dropped: stats.dropped,
                oldest_lease_ns: stats.oldest_lease.map_or(0, |age| age.as_nanos().min(u64::MAX.into()) as u64),
            });
            Ok(FL_OK)
        })
    })
}

fn subscriber(options: &fl_subscriber_options) -> Result<SubscriberBuilder, Failure> {
    let mut builder = Subscriber::builder(ffi::path(options.path, "path")?);
    if options.hold > 0 {
        builder = builder.hold(small(options.hold, "hold")?);
    }
    builder = builder.policy(match options.policy {
        FL_POLICY_LATEST => Policy::Latest,
        FL_POLICY_FIFO => Policy::Fifo(small(options.depth.max(1), "depth")?),
        FL_POLICY_BLOCK => Policy::Block,
        other => return Err(invalid(format!("policy {other}: see fl_policy"))),
    });
    builder = match (options.every_nth, options.milli_fps) {
        (0, 0) => builder,
        (nth, 0) => builder.rate(Rate::EveryNth(nth)),
        (0, fps) => builder.rate(Rate::MilliFps(fps)),
        _ => return Err(invalid("every_nth and milli_fps are both set")),
    };
    if options.reconnect.get() {
        builder = builder.reconnect(Reconnect::Always);
    }
    if options.fences.get() {
        builder = builder.fences();
    }
    if options.check_publisher.get() {
        builder = builder.publisher_user(options.publisher_uid);
    }
    Ok(builder)
}

/// Connects to a publisher. Waits for at most `timeout_ms` until one listens and has admitted this subscriber.
///
/// FL_ERROR_NOT_FOUND if no publisher listened in that time, FL_ERROR_TIMEOUT if one listened and did not answer,
/// FL_ERROR_REFUSED if it refused: then fl_error has the reason, and the message has the numbers.
#[no_mangle]
pub extern "C" fn fl_subscriber_open(
    options: *const fl_subscriber_options,
    timeout_ms: c_int,
    station: *mut *mut fl_station,
) -> fl_status {
    open("fl_subscriber_open", station, || {
        Ok(subscriber(&ffi::read(options, "options")?)?.connect(timeout(timeout_ms))?)
    })
}

/// Fills what is known of the publisher. FL_NOTHING while it is gone.
#[no_mangle]
pub extern "C" fn fl_subscriber_get_publisher(subscriber: Option<&fl_station>, peer: *mut fl_peer) -> fl_status {
    call_on("fl_subscriber_get_publisher", subscriber, |station| {
        let to = Fill::new(peer, "peer")?;
        station.with("a subscriber", |subscriber: &mut Subscriber| {
            let Some(peer) = subscriber.publisher() else { return Ok(FL_NOTHING) };
            to.put(&fl_peer {
                size: 0,
                pid: peer.pid,
                uid: peer.uid,
                gid: peer.gid,
                quota: subscriber.quota() as u32,
                held: 0,
                sent: 0,
                dropped: 0,
                oldest_lease_ns: 0,
            });
            Ok(FL_OK)
        })
    })
}

/// Gives the time in nanoseconds that `percent` of 100 frames did not exceed between publish and receive. 0 without
/// frames.
#[no_mangle]
pub extern "C" fn fl_subscriber_latency(
    subscriber: Option<&fl_station>,
    percent: u32,
    latency_ns: *mut u64,
) -> fl_status {
    call_on("fl_subscriber_latency", subscriber, |station| {
        let out = Out::number(latency_ns, "latency_ns")?;
        if percent > 100 {
            return Err(invalid(format!("percent is {percent}")));
        }
        station.with("a subscriber", |subscriber: &mut Subscriber| {
            out.put(subscriber.latency().quantile_ns(f64::from(percent) / 100.0));
            Ok(FL_OK)
        })
    })
}
