//! One receiver, or one multicast group.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::header::Report;
use super::sender::Options;
use crate::error::{Error, Result};
use crate::sys::udp::{self, Datagram, MOST, MOST_BYTES};

/// Counts of one destination.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DestinationStats {
    /// RTP packets sent.
    pub packets: u64,
    /// Bytes of their payloads.
    pub octets: u64,
    /// Frames that were sent whole.
    pub frames: u64,
    /// Frames that were not: the network took no more, or a key frame was awaited behind such a one.
    pub dropped: u64,
    /// Why the last one was not.
    pub last_error: Option<Error>,
}

pub(super) struct Destination {
    pub(super) to: SocketAddr,
    rtp: UdpSocket,
    rtcp: Option<UdpSocket>,
    has_segments: bool,
    /// Nothing is sent until a key frame comes.
    pub(super) awaits_key: bool,
    /// The frame that is being sent was given up.
    pub(super) is_lost: bool,
    pub(super) stats: DestinationStats,
}

impl Destination {
    pub(super) fn open(to: SocketAddr, options: &Options) -> Result<Self> {
        let rtp = socket(to, options)?;
        // RFC 3550, 11: RTCP is on the next port. Where that does not exist, there are no reports.
        let control = to.port().checked_add(1).map(|port| SocketAddr::new(to.ip(), port));
        let rtcp = control.map(|to| socket(to, options)).transpose()?;
        Ok(Self {
            to,
            rtp,
            rtcp,
            has_segments: true,
            awaits_key: true,
            is_lost: false,
            stats: DestinationStats::default(),
        })
    }

    /// The address that packets come from.
    pub(super) fn from(&self) -> SocketAddr {
        self.rtp.local_addr().unwrap_or(self.to)
    }

    /// Sends datagrams, or gives the frame up.
    pub(super) fn send(&mut self, datagrams: &[Datagram<'_>]) {
        let mut left = datagrams;
        while !left.is_empty() && !self.is_lost {
            match self.send_some(left) {
                Ok(count) => {
                    let (done, rest) = left.split_at(count.clamp(1, left.len()));
                    self.stats.packets += done.len() as u64;
                    let bytes: usize = done.iter().flatten().map(|piece| piece.len()).sum();
                    self.stats.octets += (bytes - done.len() * super::header::RTP_BYTES) as u64;
                    left = rest;
                }
                Err(e) => self.lose(Error::os("sendmsg", e).on(self.to)),
            }
        }
    }

    fn lose(&mut self, error: Error) {
        (self.is_lost, self.awaits_key) = (true, true);
        self.stats.dropped += 1;
        self.stats.last_error = Some(error);
    }

    fn send_some(&mut self, datagrams: &[Datagram<'_>]) -> std::result::Result<usize, Errno> {
        let size = |datagram: &Datagram<'_>| datagram.iter().map(|piece| piece.len()).sum::<usize>();
        let segment = size(&datagrams[0]);
        if self.has_segments {
            // Equal ones, and one shorter behind them.
            let equal =
                datagrams.iter().take(MOST.min(MOST_BYTES / segment.max(1))).take_while(|d| size(d) == segment).count();
            let tail = datagrams
                .get(equal)
                .is_some_and(|d| size(d) < segment && equal < MOST && (equal + 1) * segment <= MOST_BYTES);
            let count = equal + usize::from(tail);
            if count > 1 {
                match udp::send_segments(self.rtp.as_fd(), &datagrams[..count], segment as u16) {
                    Ok(()) => return Ok(count),
                    // The kernel or the route has no such thing: a device without checksums says EIO.
                    Err(Errno::EIO | Errno::EINVAL | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP | Errno::EMSGSIZE) => {
                        self.has_segments = false;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        // Up to where equal ones begin: parameter sets must not cost the frame behind them a datagram at a time.
        let pair = |pair: &[Datagram<'_>]| self.has_segments && size(&pair[0]) == size(&pair[1]);
        let alone = datagrams.windows(2).position(pair).unwrap_or(datagrams.len()).max(1);
        udp::send_many(self.rtp.as_fd(), &datagrams[..alone])
    }

    pub(super) fn report(&self, timestamp: u32, unix_ns: u64) -> Report {
        // RFC 3550, 6.4.1: both counts wrap.
        let (packets, octets) = (self.stats.packets as u32, self.stats.octets as u32);
        Report { unix_ns, timestamp, packets, octets }
    }

    /// Best effort: nobody may listen.
    pub(super) fn control(&self, bytes: &[u8]) {
        if let Some(rtcp) = &self.rtcp {
            crate::sys::calls::tick();
            let _ = rtcp.send(bytes);
        }
    }
}

/// A socket that talks to one address only.
fn socket(to: SocketAddr, options: &Options) -> Result<UdpSocket> {
    let io = |op| move |e: std::io::Error| Error::io(op, &e).on(to);
    let os = |op| move |e: Errno| Error::os(op, e).on(to);
    let any = if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let any: SocketAddr = any;
    let socket = UdpSocket::bind(any).map_err(io("bind"))?;
    socket.set_nonblocking(true).map_err(io("fcntl"))?;
    if let Some(dscp) = options.dscp {
        let (level, option) =
            if to.is_ipv4() { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
        udp::set_option(socket.as_fd(), level, option, i32::from(dscp) << 2).map_err(os("setsockopt"))?;
    }
    if to.ip().is_multicast() {
        let ttl = options.ttl;
        if to.is_ipv4() {
            socket.set_multicast_ttl_v4(ttl).map_err(io("IP_MULTICAST_TTL"))?;
            socket.set_multicast_loop_v4(true).map_err(io("IP_MULTICAST_LOOP"))?;
        } else {
            let hops = i32::try_from(ttl.min(255)).unwrap_or(255);
            udp::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, hops)
                .map_err(os("IPV6_MULTICAST_HOPS"))?;
        }
        if let Some(name) = &options.interface {
            udp::set_multicast_interface(socket.as_fd(), name, to.is_ipv6())
                .map_err(|e| Error::os("IP_MULTICAST_IF", e).on(to).detail(format!("{}: {}", name, e.desc())))?;
        }
    }
    socket.connect(to).map_err(io("connect"))?;
    Ok(socket)
}
