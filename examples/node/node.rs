//! The loop: one thread waits for everything but disks.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use framelease::codec::EncoderEvent;
use framelease::negotiate::{EncoderChain, Negotiated};
use framelease::share::Publisher;
use framelease::stats::{cpu_bytes, process_cpu_time};
use framelease::{Error, ErrorKind, Received, Station, Submit};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::common;
use super::control::{Control, HELP};
use super::meter::{Meter, Stage};
use super::options::{multicast, Options};
use super::report::{Row, Status};
use super::rtsp::Rtsp;
use super::sinks::Sinks;
use super::source::{self, Source};
use super::web::{Viewer, Web};

/// A camera or an encoder that is silent for so long is stuck.
const SILENCE: Duration = Duration::from_secs(5);

/// Key frames are large. A consumer that comes and goes does not get one each time.
const KEY_AGAIN: Duration = Duration::from_millis(500);

pub struct Node {
    source: Source,
    encoder: EncoderChain,
    publisher: Option<Publisher>,
    sinks: Sinks,
    control: Option<Control>,
    web: Option<Web>,
    meter: Meter,
    start: Instant,
    touched: (u64, u64),
    frames: u64,
    lost: u64,
    /// Frames that peers with policy `block` had no room for, and that the encoder had none for.
    unshared: u64,
    skipped: u64,
    /// When the camera and the encoder were last heard of.
    alive: (Instant, Instant),
    key_asked_at: Option<Instant>,
}

/// The end of a run.
pub struct Finished {
    pub status: Status,
    pub result: common::Result<()>,
}

impl Node {
    pub fn open(o: &Options) -> common::Result<Self> {
        let Negotiated { source, encoder, budget, .. } = o.ends.open()?;
        // After the devices, so that no file is created where none is found.
        let sinks = Sinks::open(o)?;
        let publisher = match &o.share {
            Some(path) => {
                let mut publisher = Publisher::builder(path).reserve(budget.reserve()).bind()?;
                publisher.announce(source.buffers()?)?;
                Some(publisher)
            }
            None => None,
        };
        let control = o.control.as_deref().map(Control::bind).transpose()?;
        let web = o.web.map(|address| Web::bind(address, &o.users)).transpose()?;
        let (now, touched) = (Instant::now(), cpu_bytes());
        Ok(Self {
            source,
            encoder,
            publisher,
            sinks,
            control,
            web,
            meter: Meter::default(),
            start: now,
            touched: (touched.read, touched.written),
            frames: 0,
            lost: 0,
            unshared: 0,
            skipped: 0,
            alive: (now, now),
            key_asked_at: None,
        })
    }

    pub fn described(&self) -> String {
        let camera = source::described(&self.source);
        let (layout, encoder) = (self.encoder.encoder().layout(), self.encoder.encoder().device().info());
        let scaler = self.encoder.converter().map_or_else(String::new, |name| format!(" by {name}"));
        let rtsp: String = self.sinks.rtsp.iter().filter_map(Rtsp::url).map(|url| format!(", {url}")).collect();
        let web = self.web.as_ref().and_then(Web::local_addr);
        let web = web.map_or_else(String::new, |at| format!(", http://{at}/"));
        format!("{camera}: {layout}{scaler} to {encoder}{rtsp}{web}")
    }

    /// Waits at most so long for something to do, and does it.
    pub fn turn(&mut self, timeout: Duration) -> common::Result<()> {
        let is_asked = self.wait(timeout, true)?;
        self.sinks.dispatch(&mut self.meter)?;
        if let Some(publisher) = &mut self.publisher {
            self.meter.charge(Stage::Share, || common::serve(publisher))?;
        }
        self.packets()?;
        self.frames()?;
        self.ask_for_key();
        self.commands();
        self.serve_web(is_asked);
        if let Some(mut recording) = self.sinks.ended_recording() {
            // The others go on.
            if let Err(e) = recording.finish() {
                eprintln!("recording: {e}");
            }
        }
        let silent = match self.alive {
            (camera, _) if camera.elapsed() > SILENCE => "the camera",
            (_, encoder) if encoder.elapsed() > SILENCE && self.encoder.encoder().stats().in_flight > 0 => {
                "the encoder"
            }
            _ => return Ok(()),
        };
        Err(format!("nothing came from {silent} for {SILENCE:?}").into())
    }

    /// Returns `true` if a browser asks for something.
    fn wait(&mut self, timeout: Duration, for_frames: bool) -> common::Result<bool> {
        let mut fds = Vec::with_capacity(8);
        fds.push(PollFd::new(self.encoder.as_fd(), PollFlags::POLLIN));
        // The camera, peers and commands are not served while the encoder is drained: ready, they would end each wait
        // at once.
        let rest = std::iter::once(self.source.as_fd()).chain(self.publisher.iter().map(|p| p.as_fd()));
        let rest = rest.filter(|_| for_frames).chain(self.sinks.fds());
        let rest = rest.chain(self.control.iter().filter(|_| for_frames).flat_map(Control::fds));
        fds.extend(rest.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let of_others = fds.len();
        fds.extend(self.web.iter().flat_map(Web::fds).map(|(fd, flags)| PollFd::new(fd, flags)));
        let polled = poll(&mut fds, PollTimeout::try_from(timeout.as_micros().div_ceil(1000))?);
        self.meter.begin();
        match polled {
            Err(Errno::EINTR) => Ok(false),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(fds[of_others..].iter().any(|fd| fd.any() == Some(true))),
        }
    }

    fn frames(&mut self) -> common::Result<()> {
        while let Some(frame) = self.meter.charge(Stage::Camera, || source::try_frame(&mut self.source))? {
            self.alive.0 = Instant::now();
            self.frames += 1;
            self.lost += u64::from(frame.meta().lost);
            let (time, flags) = (frame.meta().timestamp_ns, frame.meta().flags);
            self.meter.leaves(Stage::Camera, time, flags);
            if let Some(publisher) = &mut self.publisher {
                let offer = self.meter.charge(Stage::Share, || publisher.try_publish(frame.clone()))?;
                self.meter.leaves(Stage::Share, time, flags);
                self.unshared += u64::from(!offer.is_taken());
            }
            // What does not fit, the peers have; the encoder is not waited for.
            let submitted =
                self.meter.charge(Stage::Encoder, || self.encoder.try_submit(frame).map_err(Error::from))?;
            self.skipped += u64::from(!submitted.is_taken());
        }
        Ok(())
    }

    /// Hands on what the encoder has; `false` at the end of a drain.
    fn packets(&mut self) -> common::Result<bool> {
        loop {
            let packet = match self.meter.charge(Stage::Encoder, || self.encoder.try_recv())? {
                Received::Item(EncoderEvent::Packet(packet)) => packet,
                Received::Item(EncoderEvent::Lost(e)) => return Err(e.into()),
                Received::Item(_) | Received::Nothing => return Ok(true),
                Received::Ended => return Ok(false),
            };
            self.alive.1 = Instant::now();
            self.meter.leaves(Stage::Encoder, packet.meta().timestamp_ns, packet.meta().flags);
            self.sinks.push(&packet, &mut self.meter)?;
            if let Some(web) = self.web.as_mut().filter(|web| web.is_watched()) {
                self.meter.charge(Stage::Web, || web.push(&packet));
            }
        }
    }

    fn ask_for_key(&mut self) {
        let is_soon = self.key_asked_at.is_some_and(|at| at.elapsed() < KEY_AGAIN);
        let web = self.web.as_ref().is_some_and(Web::awaits_key);
        if !is_soon && (web || self.sinks.awaits_key()) {
            let _ = self.encoder.force_key();
            self.key_asked_at = Some(Instant::now());
        }
    }

    fn commands(&mut self) {
        let Some(mut control) = self.control.take() else { return };
        control.dispatch(|line| match self.command(line) {
            Ok(answer) => answer,
            Err(e) => format!("error: {e}"),
        });
        self.control = Some(control);
    }

    fn serve_web(&mut self, is_asked: bool) {
        let Some(mut web) = self.web.take() else { return };
        // Without browsers, there is nothing to do until one comes.
        if is_asked || web.has_clients() {
            self.meter.begin();
            let viewers: Vec<Viewer> = web.viewers().collect();
            web.dispatch(|| self.status_for(&viewers).json());
            self.meter.end(Stage::Web);
        }
        self.web = Some(web);
    }

    fn command(&mut self, line: &str) -> Result<String, String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (kind, what) = rest.trim().split_once(' ').unwrap_or((rest, ""));
        let what = what.trim();
        // No names: looking one up would keep everybody waiting.
        let address = || what.parse().map_err(|_| format!("'{what}' is not an address and port"));
        let ok = |()| "ok".to_owned();
        match (verb, kind) {
            ("status", _) => Ok(self.status().json()),
            ("help", _) => Ok(HELP.into()),
            ("trigger", _) => self.sinks.trigger().map(ok),
            ("attach", "rtp") => self.sinks.attach_rtp(address()?).map(ok),
            ("attach", "multicast") => self.sinks.attach_rtp(multicast(address()?)?).map(ok),
            ("detach", "rtp" | "multicast") => self.sinks.detach_rtp(address()?).map(ok),
            ("attach", "record") if !what.is_empty() => self.sinks.attach_recording(Path::new(what)).map(ok),
            ("detach", "record") => self.sinks.detach_recording(Path::new(what)).map(ok),
            _ => Err(format!("unknown command; the commands are: {HELP}")),
        }
    }

    pub fn status(&self) -> Status {
        let viewers: Vec<Viewer> = self.web.iter().flat_map(Web::viewers).collect();
        self.status_for(&viewers)
    }

    fn status_for(&self, viewers: &[Viewer]) -> Status {
        let mut rows = Vec::new();
        let stats = self.encoder.encoder().stats();
        let meter = &self.meter;
        let touched = cpu_bytes();
        let bytes = (touched.read - self.touched.0) + (touched.written - self.touched.1);
        let camera = Row::new("camera", "", self.frames, self.lost).touched(bytes);
        rows.push(camera.cpu(meter.of(Stage::Camera)).latency(meter.age(Stage::Camera)));
        if let Some(publisher) = &self.publisher {
            let row = Row::new("share", "", publisher.stats().published, self.unshared);
            rows.push(row.cpu(meter.of(Stage::Share)).latency(meter.age(Stage::Share)));
            for peer in publisher.subscribers() {
                rows.push(Row::new("peer", &format!("pid {}", peer.peer.pid), peer.sent, peer.dropped));
            }
        }
        let mut skipped = self.skipped;
        if let Some(name) = self.encoder.converter() {
            rows.push(Row::new("convert", name, stats.frames, std::mem::take(&mut skipped)));
        }
        let row = Row::new("encoder", "", stats.packets, skipped + stats.refused + stats.errors);
        rows.push(row.bytes(stats.bytes).cpu(meter.of(Stage::Encoder)).latency(meter.age(Stage::Encoder)));
        for recording in &self.sinks.recordings {
            let path = recording.path.display().to_string();
            let row = Row::new("record", &path, recording.packets(), recording.dropped());
            rows.push(row.bytes(recording.bytes()).cpu(recording.cpu()));
        }
        if !self.sinks.destinations.is_empty() {
            let row = Row::new("rtp", "", stats.packets, 0);
            rows.push(row.cpu(meter.of(Stage::Rtp)).latency(meter.age(Stage::Rtp)));
        }
        for (to, id) in &self.sinks.destinations {
            let sent = self.sinks.rtp.stats(*id).unwrap_or_default();
            rows.push(Row::new("to", &to.to_string(), sent.frames, sent.dropped).bytes(sent.octets));
        }
        if !self.sinks.rtsp.is_empty() {
            let row = Row::new("rtsp", "", stats.packets, 0);
            rows.push(row.cpu(meter.of(Stage::Rtsp)).latency(meter.age(Stage::Rtsp)));
        }
        for client in self.sinks.rtsp.iter().flat_map(|rtsp| rtsp.server.clients()) {
            let to = format!("{} by {}", client.peer, client.transport);
            rows.push(Row::new("client", &to, client.sent.frames, client.sent.dropped).bytes(client.sent.octets));
        }
        if !viewers.is_empty() {
            rows.push(Row::new("web", "", stats.packets, 0).cpu(meter.of(Stage::Web)));
        }
        for viewer in viewers {
            let row = Row::new("browser", &viewer.peer.to_string(), viewer.frames, viewer.dropped);
            rows.push(row.bytes(viewer.bytes));
        }
        Status {
            seconds: self.start.elapsed().as_secs_f64(),
            cpu: process_cpu_time(),
            copied_bytes: self.sinks.copied_bytes(),
            rows,
        }
    }

    /// Everything that was taken is encoded and sent; files get their ends.
    pub fn finish(mut self) -> Finished {
        let mut result = self.drain();
        for recording in &mut self.sinks.recordings {
            if let Err(e) = recording.finish() {
                result = result.and(Err(e.into()));
            }
        }
        let status = self.status();
        if let Some(publisher) = &mut self.publisher {
            let _ = publisher.pause(Duration::from_secs(1));
        }
        Finished { status, result }
    }

    fn drain(&mut self) -> common::Result<()> {
        let deadline = Instant::now() + SILENCE;
        match self.encoder.drain() {
            // It had no frame.
            Err(e) if e.kind() == ErrorKind::State => return self.sinks.flush(&mut self.meter),
            done => done?,
        }
        while self.packets()? {
            if Instant::now() >= deadline {
                return Err("the encoder's drain does not end".into());
            }
            self.wait(Duration::from_millis(20), false)?;
            self.sinks.dispatch(&mut self.meter)?;
        }
        self.sinks.flush(&mut self.meter)
    }
}
