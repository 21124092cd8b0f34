//! The two sockets of a destination: RTP, and RTCP on the next port (RFC 3550, 11).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::options::SenderOptions;
use crate::error::{Error, Result};
use crate::sys::udp::{self, Datagram, MOST, MOST_BYTES};

/// How many pairs of neighboring ports are tried.
const TRIES: usize = 32;

pub(super) struct Sockets {
    rtp: UdpSocket,
    rtcp: Option<UdpSocket>,
    /// The kernel and the route can send many datagrams as one (`UDP_SEGMENT`).
    has_segments: bool,
}

impl Sockets {
    /// Opens two sockets that talk to these two addresses only. Their ports are neighbors, at address `from` or any
    /// address.
    pub(super) fn open(
        to: SocketAddr,
        control: Option<SocketAddr>,
        from: Option<IpAddr>,
        options: &SenderOptions,
    ) -> Result<Self> {
        let (rtp, rtcp) = pair(to, from)?;
        let rtp = set_up(rtp, to, options)?;
        let rtcp = control.map(|control| set_up(rtcp, control, options)).transpose()?;
        Ok(Self { rtp, rtcp, has_segments: true })
    }

    pub(super) fn from(&self) -> Option<IpAddr> {
        self.rtp.local_addr().ok().map(|a| a.ip())
    }

    /// Returns the local ports: RTP, RTCP.
    pub(super) fn ports(&self) -> (u16, u16) {
        let port = |socket: &UdpSocket| socket.local_addr().map_or(0, |a| a.port());
        (port(&self.rtp), self.rtcp.as_ref().map_or(0, port))
    }

    /// Sends some of the datagrams, at least one. Returns how many.
    pub(super) fn send(&mut self, datagrams: &[Datagram<'_>]) -> std::result::Result<usize, Errno> {
        let size = |datagram: &Datagram<'_>| datagram.iter().map(|piece| piece.len()).sum::<usize>();
        let segment = size(&datagrams[0]);
        if self.has_segments {
            // Datagrams of equal size, and a shorter one after them.
            let equal =
                datagrams.iter().take(MOST.min(MOST_BYTES / segment.max(1))).take_while(|d| size(d) == segment).count();
            let tail = datagrams
                .get(equal)
                .is_some_and(|d| size(d) < segment && equal < MOST && (equal + 1) * segment <= MOST_BYTES);
            let count = equal + usize::from(tail);
            if count > 1 {
                match udp::send_segments(self.rtp.as_fd(), &datagrams[..count], segment as u16) {
                    Ok(()) => return Ok(count),
                    // The kernel or the route does not support it. A device without checksum offload reports EIO.
                    Err(Errno::EIO | Errno::EINVAL | Errno::ENOPROTOOPT | Errno::EOPNOTSUPP | Errno::EMSGSIZE) => {
                        self.has_segments = false;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        // Stops where equal datagrams begin: otherwise the frame after parameter sets would cost a call per datagram.
        let pair = |pair: &[Datagram<'_>]| self.has_segments && size(&pair[0]) == size(&pair[1]);
        let alone = datagrams.windows(2).position(pair).unwrap_or(datagrams.len()).max(1);
        udp::send_many(self.rtp.as_fd(), &datagrams[..alone])
    }

    /// Clears the error of earlier datagrams, which the next send would report instead of sending.
    pub(super) fn forget_error(&self) {
        crate::sys::syscall_count::tick();
        let _ = self.rtp.take_error();
    }

    /// Sends an RTCP packet, and ignores errors.
    pub(super) fn control(&self, bytes: &[u8]) {
        if let Some(rtcp) = &self.rtcp {
            crate::sys::syscall_count::tick();
            let _ = rtcp.send(bytes);
        }
    }

    /// Reads an RTCP packet, if there is one.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> Option<usize> {
        crate::sys::syscall_count::tick();
        self.rtcp.as_ref()?.recv(bytes).ok()
    }
}

/// Binds two sockets to an even port and the next one, or to any two ports if no such pair was found.
fn pair(to: SocketAddr, from: Option<IpAddr>) -> Result<(UdpSocket, UdpSocket)> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = from.filter(|ip| ip.is_ipv4() == to.is_ipv4()).unwrap_or(any);
    // A link-local address needs the peer's link.
    let bind = |port| {
        let mut own = to;
        own.set_ip(from);
        own.set_port(port);
        UdpSocket::bind(own).map_err(|e| Error::io("bind", &e).on(to))
    };
    for _ in 0..TRIES {
        let rtp = bind(0)?;
        let port = rtp.local_addr().map_err(|e| Error::io("getsockname", &e).on(to))?.port();
        if port % 2 == 0 {
            if let Ok(rtcp) = bind(port + 1) {
                return Ok((rtp, rtcp));
            }
        }
    }
    Ok((bind(0)?, bind(0)?))
}

fn set_up(socket: UdpSocket, to: SocketAddr, options: &SenderOptions) -> Result<UdpSocket> {
    let io = |op| move |e: std::io::Error| Error::io(op, &e).on(to);
    let os = |op| move |e: Errno| Error::os(op, e).on(to);
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
            socket.set_multicast_loop_v4(options.loopback).map_err(io("IP_MULTICAST_LOOP"))?;
        } else {
            let hops = i32::try_from(ttl.min(255)).unwrap_or(255);
            udp::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, hops)
                .map_err(os("IPV6_MULTICAST_HOPS"))?;
            socket.set_multicast_loop_v6(options.loopback).map_err(io("IPV6_MULTICAST_LOOP"))?;
        }
        if let Some(name) = &options.interface {
            udp::set_multicast_interface(socket.as_fd(), name, to.is_ipv6())
                .map_err(|e| Error::os("IP_MULTICAST_IF", e).on(to).detail(format!("{}: {}", name, e.desc())))?;
        }
    }
    socket.connect(to).map_err(io("connect"))?;
    Ok(socket)
}
