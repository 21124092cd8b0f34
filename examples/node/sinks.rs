//! Where packets go, and which of them come and go while it runs.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use framelease::frame::{Overflow, Packet, PacketFanout, QueueCapacity};
use framelease::sink::rtp::{self, DestinationId, Sender};
use framelease::{Error, Received, Station, Submit};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::common;
use super::meter::{Meter, Stage};
use super::options::Options;
use super::record::{Kind, Recording};
use super::rtsp::Rtsp;

pub struct Sinks {
    fanout: PacketFanout,
    pub recordings: Vec<Recording>,
    fps: u32,
    kind: Kind,
    pub rtp: Sender,
    pub destinations: Vec<(SocketAddr, DestinationId)>,
    pub rtsp: Vec<Rtsp>,
    sdp: Option<PathBuf>,
}

impl Sinks {
    pub fn open(o: &Options) -> common::Result<Self> {
        let codec = o.ends.codec;
        let mut options = rtp::SenderOptions::default().ttl(o.ttl);
        if let Some(name) = &o.interface {
            options = options.interface(name);
        }
        let rtsp = Rtsp::open(o, &options)?;
        let mut sinks = Self {
            fanout: PacketFanout::new(),
            recordings: Vec::new(),
            fps: o.ends.fps,
            kind: o.files.map_or(Kind::One, Kind::Many),
            rtp: Sender::new(codec, options)?,
            destinations: Vec::new(),
            rtsp,
            sdp: o.sdp.clone(),
        };
        for to in &o.rtp {
            sinks.attach_rtp(*to)?;
        }
        for path in &o.record {
            sinks.attach_recording(path)?;
        }
        if let Some((path, files, ring)) = &o.events {
            sinks.start_recording(path, Kind::Events(*files, *ring))?;
        }
        Ok(sinks)
    }

    pub fn attach_rtp(&mut self, to: SocketAddr) -> Result<(), String> {
        if self.destinations.iter().any(|(own, _)| *own == to) {
            return Err(format!("{to} is attached already"));
        }
        let id = self.rtp.add(to).map_err(|e| e.to_string())?;
        self.destinations.push((to, id));
        Ok(())
    }

    pub fn detach_rtp(&mut self, to: SocketAddr) -> Result<(), String> {
        let at = self.destinations.iter().position(|(own, _)| *own == to);
        let (_, id) = self.destinations.remove(at.ok_or_else(|| format!("{to} is not attached"))?);
        self.rtp.remove(id);
        Ok(())
    }

    pub fn attach_recording(&mut self, path: &Path) -> Result<(), String> {
        self.start_recording(path, self.kind)
    }

    fn start_recording(&mut self, path: &Path, kind: Kind) -> Result<(), String> {
        if self.recordings.iter().any(|r| r.path == path) {
            return Err(format!("{} is attached already", path.display()));
        }
        // A disk may stall for some seconds.
        let backlog = QueueCapacity::new(300, 64 << 20, Overflow::DropNew);
        let tap = self.fanout.attach(backlog).map_err(|e| e.to_string())?;
        self.recordings.push(Recording::start(path, tap, self.fps, kind)?);
        Ok(())
    }

    /// Stops a recording. Its disk may need time, and no other sink waits for it: see [`Sinks::ended_recording`].
    pub fn detach_recording(&mut self, path: &Path) -> Result<(), String> {
        let recording = self.recordings.iter().find(|r| r.path == path);
        recording.ok_or_else(|| format!("{} is not attached", path.display())).map(Recording::stop)
    }

    /// Records an event.
    pub fn trigger(&self) -> Result<(), String> {
        let mut of_events = self.recordings.iter().filter(|recording| recording.is_of_events).peekable();
        of_events.peek().ok_or("events are not recorded: start the node with --events FILE")?;
        of_events.for_each(Recording::trigger);
        Ok(())
    }

    /// Takes out a recording that has ended, by itself or because it was stopped.
    pub fn ended_recording(&mut self) -> Option<Recording> {
        let at = self.recordings.iter().position(Recording::has_ended)?;
        Some(self.recordings.remove(at))
    }

    pub fn push(&mut self, packet: &Packet, meter: &mut Meter) -> common::Result<()> {
        self.fanout.push(packet);
        let (time, flags) = (packet.meta().timestamp_ns, packet.meta().flags);
        if !self.destinations.is_empty() {
            let _ = meter.charge(Stage::Rtp, || self.rtp.try_submit(packet.clone()).map_err(Error::from))?;
            meter.leaves(Stage::Rtp, time, flags);
        }
        for rtsp in &mut self.rtsp {
            meter.charge(Stage::Rtsp, || rtsp.server.submit(rtsp.live, packet))?;
            meter.leaves(Stage::Rtsp, time, flags);
        }
        if packet.is_key() {
            self.describe()?;
        }
        Ok(())
    }

    /// Once the parameter sets are known.
    fn describe(&mut self) -> common::Result<()> {
        let Some(path) = self.sdp.take() else { return Ok(()) };
        let sdp = self.destinations.first().and_then(|(_, id)| self.rtp.sdp(*id)).unwrap_or_default();
        std::fs::write(&path, sdp).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    /// What to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.rtp.as_fd()).chain(self.rtsp.iter().map(|rtsp| rtsp.server.as_fd()))
    }

    /// Does what is due. Events are not used: `awaits_key` and the report have what they say.
    pub fn dispatch(&mut self, meter: &mut Meter) -> common::Result<()> {
        while let Received::Item(_) = meter.charge(Stage::Rtp, || self.rtp.try_recv())? {}
        for rtsp in &mut self.rtsp {
            while let Received::Item(_) = meter.charge(Stage::Rtsp, || rtsp.server.try_recv())? {}
        }
        Ok(())
    }

    /// Sends the rest of the last frame, whose packets are spread over some time.
    pub fn flush(&mut self, meter: &mut Meter) -> common::Result<()> {
        loop {
            let mut fds: Vec<_> = self.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            if poll(&mut fds, PollTimeout::from(50u16))? == 0 {
                return Ok(());
            }
            self.dispatch(meter)?;
        }
    }

    /// A consumer waits for a key frame.
    pub fn awaits_key(&self) -> bool {
        let rtsp = self.rtsp.iter().any(|rtsp| rtsp.server.awaits_key(rtsp.live));
        rtsp || self.fanout.awaits_key() || self.rtp.awaits_key() || self.recordings.iter().any(Recording::awaits_key)
    }

    /// Bytes of packets that were copied for recordings that are behind.
    pub fn copied_bytes(&self) -> u64 {
        self.fanout.copied_bytes()
    }
}
