//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use framelease::bitstream::Codec;
use framelease::format::{FourCc, Size};
use framelease::sink::recorder::{FileNames, FileRotation, RecorderOptions, Retention};
use framelease::sink::ring::RingOptions;
use framelease::sink::rtsp::ServerBuilder;

use super::camera_encoder::Ends;
use super::common::{self, value};
use super::rtsp::with_tls;

const HELP: &str = "\
One camera, one encode, many consumers: records, sends RTP, serves RTSP and shares raw frames, without a copy.

Usage: node [OPTIONS]

  --camera auto|PATH|testpattern  the camera (default: the first)
  --encoder auto|PATH             the encoder (default: the first that has the codec)
  --codec h264|hevc|vp8           the codec (default h264)
  --size WxH                      picture size (default 1280x720)
  --fourcc C[,C]                  acceptable pixel formats, best first (default: any that both devices have)
  --camera-size WxH               the camera's size, if it differs: G2D, a V4L2 device or a GPU converts
  --fps F                         frame rate (default 30)
  --bitrate BPS                   bits per second
  --gop N                         frames from one key frame to the next

  --record FILE                   record to a Matroska or MP4 file, by its name; repeatable
  --rotate SECONDS                record to FILE-00001 and so on, and begin a new file after this time
  --align                         rotated files begin at multiples of that time, by the clock
  --events FILE                   record FILE-00001 and so on at each 'trigger' of the control socket, from before it on
  --before SECONDS                the time before a trigger (default 10)
  --after SECONDS                 the time after the latest trigger (default 10)
  --clock-names                   files of --rotate and --events have the date and time in place of numbers
  --keep-mib N                    delete the oldest of these files beyond this size in all, in MiB
  --keep-hours N                  delete those of these files that are older
  --rtp HOST:PORT                 send RTP; repeatable
  --multicast GROUP:PORT          send RTP to a multicast group; repeatable
  --ttl N                         hops of multicast packets (default 1)
  --interface NAME                send multicast through this interface (default: by the routes)
  --rtsp ADDR:PORT                serve rtsp://ADDR:PORT/live
  --rtsp-multicast GROUP:PORT     the group for RTSP clients that ask for multicast
  --rtsps ADDR:PORT               serve rtsps://ADDR:PORT/live, with TLS (built with --features tls)
  --certificate FILE              the certificate of --rtsps and those that vouch for it, in PEM
  --key FILE                      the private key of the certificate, in PEM
  --web ADDR:PORT                 a page for browsers with the live picture and the table: http://ADDR:PORT/
  --user NAME:PASSWORD            a user who may watch by RTSP, RTSPS and the page; repeatable (default: everyone)
  --share SOCKET                  share raw frames with framelease subscribers at this socket
  --subscribers N                 subscribers that the camera has buffers for (default 3)
  --sdp FILE                      write the session description of the first RTP destination
  --control SOCKET                take commands at this socket, one in each line; 'help' lists them
  --metrics FILE                  write figures for Prometheus (node_exporter's textfile collector)
  --duration SECONDS              stop after this time (default: never)
  --json                          print the last table as one JSON object
  --help                          print this text
";

pub struct Options {
    pub ends: Ends,
    pub record: Vec<PathBuf>,
    /// Several files for each recording.
    pub files: Option<RecorderOptions>,
    pub events: Option<(PathBuf, RecorderOptions, RingOptions)>,
    pub rtp: Vec<SocketAddr>,
    pub ttl: u32,
    pub interface: Option<String>,
    pub rtsp: Option<SocketAddr>,
    pub rtsps: Option<ServerBuilder>,
    pub rtsp_group: Option<SocketAddr>,
    pub web: Option<SocketAddr>,
    pub users: Vec<(String, String)>,
    pub share: Option<PathBuf>,
    pub sdp: Option<PathBuf>,
    pub control: Option<PathBuf>,
    pub metrics: Option<PathBuf>,
    pub duration: Option<Duration>,
    pub json: bool,
}

impl Options {
    /// None: the help was asked for and printed.
    pub fn parse() -> common::Result<Option<Self>> {
        use lexopt::prelude::*;
        let ends = Ends {
            encoder: None,
            camera: Some("auto".into()),
            codec: Codec::H264,
            size: Size::new(1280, 720),
            camera_size: None,
            fps: 30,
            bitrate: None,
            gop: None,
            formats: Vec::<FourCc>::new(),
            subscribers: None,
        };
        let mut o = Self {
            ends,
            record: Vec::new(),
            files: None,
            events: None,
            rtp: Vec::new(),
            ttl: 1,
            interface: None,
            rtsp: None,
            rtsps: None,
            rtsp_group: None,
            web: None,
            users: Vec::new(),
            share: None,
            sdp: None,
            control: None,
            metrics: None,
            duration: None,
            json: false,
        };
        let (mut rotation, mut names, mut retention) =
            (FileRotation::default(), FileNames::default(), Retention::default());
        let (mut events, mut ring) = (None, RingOptions::default());
        let (mut rtsps, mut certificate, mut key) = (None, None, None);
        let mut p = lexopt::Parser::from_env();
        while let Some(arg) = p.next()? {
            match arg {
                Long("camera") => {
                    o.ends.camera = Some(value::<String>(&mut p, "camera")?).filter(|c| c != "testpattern");
                }
                Long("encoder") => o.ends.encoder = Some(value::<String>(&mut p, "encoder")?).filter(|d| d != "auto"),
                Long("codec") => o.ends.codec = value(&mut p, "codec")?,
                Long("size") => o.ends.size = value(&mut p, "size")?,
                Long("fourcc") => o.ends.formats = common::formats(&mut p)?,
                Long("camera-size") => o.ends.camera_size = Some(value(&mut p, "camera-size")?),
                Long("fps") => o.ends.fps = value(&mut p, "fps")?,
                Long("bitrate") => o.ends.bitrate = Some(value(&mut p, "bitrate")?),
                Long("gop") => o.ends.gop = Some(value(&mut p, "gop")?),
                Long("record") => o.record.push(p.value()?.into()),
                Long("rotate") => rotation = rotation.duration(seconds(&mut p, "rotate")?),
                Long("events") => events = Some(PathBuf::from(p.value()?)),
                Long("before") => ring = ring.before(seconds(&mut p, "before")?),
                Long("after") => ring = ring.after(seconds(&mut p, "after")?),
                Long("align") => rotation = rotation.aligned(true),
                Long("clock-names") => names = FileNames::WallClock,
                Long("keep-mib") => {
                    retention = retention.bytes(value::<u64>(&mut p, "keep-mib")?.saturating_mul(1 << 20))
                }
                Long("keep-hours") => {
                    retention =
                        retention.age(Duration::from_secs(value::<u64>(&mut p, "keep-hours")?.saturating_mul(3600)))
                }
                Long("rtp") => o.rtp.push(address(&mut p, "rtp")?),
                Long("multicast") => {
                    let group = address(&mut p, "multicast")?;
                    o.rtp.push(multicast(group).map_err(|e| format!("--multicast {e}"))?);
                }
                Long("ttl") => o.ttl = value(&mut p, "ttl")?,
                Long("interface") => o.interface = Some(value(&mut p, "interface")?),
                Long("rtsp") => o.rtsp = Some(address(&mut p, "rtsp")?),
                Long("rtsps") => rtsps = Some(address(&mut p, "rtsps")?),
                Long("certificate") => certificate = Some(PathBuf::from(p.value()?)),
                Long("key") => key = Some(PathBuf::from(p.value()?)),
                Long("rtsp-multicast") => {
                    let group = address(&mut p, "rtsp-multicast")?;
                    o.rtsp_group = Some(multicast(group).map_err(|e| format!("--rtsp-multicast {e}"))?);
                }
                Long("web") => o.web = Some(address(&mut p, "web")?),
                Long("user") => {
                    let text: String = value(&mut p, "user")?;
                    let (name, password) = text.split_once(':').ok_or("--user needs NAME:PASSWORD")?;
                    o.users.push((name.into(), password.into()));
                }
                Long("share") => o.share = Some(p.value()?.into()),
                Long("subscribers") => o.ends.subscribers = Some(value(&mut p, "subscribers")?),
                Long("sdp") => o.sdp = Some(p.value()?.into()),
                Long("control") => o.control = Some(p.value()?.into()),
                Long("metrics") => o.metrics = Some(p.value()?.into()),
                Long("duration") => o.duration = Some(seconds(&mut p, "duration")?),
                Long("json") => o.json = true,
                Short('h') | Long("help") => {
                    print!("{HELP}{}", common::DEVICES);
                    return Ok(None);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if o.ends.fps == 0 {
            return Err("--fps 0: an encoder's rate control needs a frame rate".into());
        }
        let files = RecorderOptions::default().names(names).retention(retention);
        if rotation.duration.is_some() {
            o.files = Some(files.rotation(rotation));
        } else if rotation.aligned {
            return Err("--align is for --rotate, which is not there".into());
        } else if events.is_none() && files != RecorderOptions::default() {
            return Err(
                "--clock-names and the --keep options are for --rotate and --events, which are not there".into()
            );
        }
        if events.is_none() && ring != RingOptions::default() {
            return Err("--before and --after are for --events, which is not there".into());
        }
        if events.is_some() && o.control.is_none() {
            return Err("--events waits for a 'trigger' at the control socket, and needs --control".into());
        }
        o.events = events.map(|path| (path, files, ring));
        if o.sdp.is_some() && o.rtp.is_empty() {
            return Err("--sdp describes an RTP destination, and needs --rtp or --multicast".into());
        }
        if o.share.is_none() && o.ends.subscribers.is_some() {
            return Err("--subscribers is for --share, which is not there".into());
        }
        if o.rtsp.is_none() && o.rtsp_group.is_some() {
            return Err("--rtsp-multicast is for --rtsp, which is not there".into());
        }
        o.rtsps = match (rtsps, certificate, key) {
            (Some(address), Some(certificate), Some(key)) => Some(with_tls(address, &certificate, &key)?),
            (None, None, None) => None,
            _ => return Err("--rtsps, --certificate and --key need each other".into()),
        };
        if o.rtsp.is_none() && o.rtsps.is_none() && o.web.is_none() && !o.users.is_empty() {
            return Err("--user is for --rtsp, --rtsps and --web, which are not there".into());
        }
        if o.web.is_some() && !matches!(o.ends.codec, Codec::H264 | Codec::Hevc) {
            return Err(format!("--web shows H.264 and H.265, not {}", o.ends.codec).into());
        }
        Ok(Some(o))
    }
}

fn seconds(p: &mut lexopt::Parser, option: &str) -> common::Result<Duration> {
    let seconds: f64 = value(p, option)?;
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("--{option} {seconds}: {e}").into())
}

/// Names are looked up here, before anything runs that must not wait.
fn address(p: &mut lexopt::Parser, option: &str) -> common::Result<SocketAddr> {
    let text: String = value(p, option)?;
    let failed = |e: String| format!("--{option} {text}: {e}");
    let mut found = text.to_socket_addrs().map_err(|e| failed(e.to_string()))?;
    found.next().ok_or_else(|| failed("no address".into()).into())
}

pub fn multicast(group: SocketAddr) -> Result<SocketAddr, String> {
    match group.ip().is_multicast() {
        true => Ok(group),
        false => Err(format!("{group}: no multicast group")),
    }
}
