//! RTP and RTCP packets in a TCP connection, between RTSP messages (RFC 2326, 10.12).

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::sink::tcp::TcpLink;
use crate::sys::udp::{Datagram, MOST};

/// Bytes that packets leave free for messages.
const MESSAGE_ROOM: usize = 1 << 16;
/// Bytes before a packet: `$`, channel, length.
const FRAME_BYTES: usize = 4;
/// How long a frame may wait until its first byte is sent.
const MOST_AGE: Duration = Duration::from_secs(1);

/// A frame of the stream on a channel, by its RTP timestamp.
type FrameId = (u8, u32);

/// Bytes that wait: packets of one frame, or messages and reports.
struct Part {
    bytes: usize,
    frame: Option<FrameId>,
    since: Instant,
}

/// The output of a connection, which RTSP messages and packets share. Copies the bytes that the kernel does not take at
/// once, up to a limit. Drops frames that have waited too long.
#[derive(Clone)]
pub(in crate::sink) struct Outbox(Arc<Mutex<State>>);

struct State {
    link: Arc<TcpLink>,
    waiting: Vec<u8>,
    /// What the waiting bytes are, in their order.
    parts: VecDeque<Part>,
    /// The frame of the last byte of a frame that was sent. The rest of it is not dropped, so that a frame that takes
    /// long arrives.
    begun: Option<FrameId>,
    /// Frames that were dropped, until [`Outbox::take_dropped`].
    dropped: Vec<FrameId>,
    limit_bytes: usize,
    failed: Option<Errno>,
}

impl State {
    fn send(&mut self, slices: &[IoSlice<'_>]) -> std::result::Result<usize, Errno> {
        let sent = self.link.send(slices);
        self.failed = sent.err();
        sent
    }

    fn flush(&mut self) -> std::result::Result<(), Errno> {
        if let Some(e) = self.failed {
            return Err(e);
        }
        if self.waiting.is_empty() {
            self.failed = self.link.flush().err();
            self.failed.map_or(Ok(()), Err)?;
        } else {
            self.drop_old();
            let waiting = std::mem::take(&mut self.waiting);
            let sent = self.send(&[IoSlice::new(&waiting)]);
            self.waiting = waiting;
            let sent = sent?;
            self.waiting.drain(..sent);
            self.note_sent(sent);
        }
        Ok(())
    }

    /// Notes that the first of the waiting bytes were sent.
    fn note_sent(&mut self, sent: usize) {
        let mut left = sent;
        while let Some(part) = self.parts.front_mut().filter(|_| left > 0) {
            let bytes = left.min(part.bytes);
            (part.bytes, left) = (part.bytes - bytes, left - bytes);
            self.begun = part.frame.or(self.begun);
            if part.bytes == 0 {
                self.parts.pop_front();
            }
        }
    }

    /// Drops all frames that wait and were not begun, if one has waited too long.
    fn drop_old(&mut self) {
        let begun = self.begun;
        let waits = |part: &&Part| part.frame.is_some() && part.frame != begun;
        if !self.parts.iter().find(waits).is_some_and(|part| part.since.elapsed() > MOST_AGE) {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut rest = &waiting[..];
        for part in std::mem::take(&mut self.parts) {
            let (bytes, more) = rest.split_at(part.bytes.min(rest.len()));
            rest = more;
            match part.frame.filter(|_| waits(&&part)) {
                Some(frame) if self.dropped.contains(&frame) => {}
                Some(frame) => self.dropped.push(frame),
                None => {
                    self.waiting.extend_from_slice(bytes);
                    self.parts.push_back(part);
                }
            }
        }
    }

    /// Appends bytes.
    fn keep(&mut self, bytes: &[u8], frame: Option<FrameId>) {
        if bytes.is_empty() {
            return;
        }
        self.waiting.extend_from_slice(bytes);
        match self.parts.back_mut().filter(|part| part.frame == frame) {
            Some(part) => part.bytes += bytes.len(),
            None => self.parts.push_back(Part { bytes: bytes.len(), frame, since: Instant::now() }),
        }
    }

    fn has_room(&self, bytes: usize, spare: usize) -> bool {
        self.waiting.len() + bytes <= self.limit_bytes.saturating_add(spare)
    }
}

impl Outbox {
    pub(in crate::sink) fn new(link: Arc<TcpLink>, limit_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            link,
            waiting: Vec::new(),
            parts: VecDeque::new(),
            begun: None,
            dropped: Vec::new(),
            limit_bytes,
            failed: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many bytes wait.
    fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Returns `true` while bytes wait for the kernel.
    pub(in crate::sink) fn wants_write(&self) -> bool {
        let state = self.lock();
        // A handshake goes on when the client's next message comes.
        !state.waiting.is_empty() && !state.link.is_handshaking() || state.link.wants_write()
    }

    /// Returns `true` if the connection can no longer be written.
    pub(in crate::sink) fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    /// Sends waiting bytes, as far as the kernel takes them.
    pub(in crate::sink) fn flush(&self) -> Result<()> {
        self.lock().flush().map_err(|e| Error::os("sendmsg", e))
    }

    /// Sends a message, or keeps it to be sent. `Exhausted` if too many bytes wait: the peer does not read.
    pub(in crate::sink) fn message(&self, bytes: &[u8]) -> Result<()> {
        let mut state = self.lock();
        state.flush().map_err(|e| Error::os("sendmsg", e))?;
        if !state.has_room(bytes.len(), MESSAGE_ROOM) {
            return Err(Error::os("sendmsg", Errno::ENOMEM).detail(format!("{} bytes wait", state.waiting.len())));
        }
        let sent = match state.waiting.is_empty() {
            true => state.send(&[IoSlice::new(bytes)]).map_err(|e| Error::os("sendmsg", e))?,
            false => 0,
        };
        state.keep(&bytes[sent..], None);
        Ok(())
    }

    /// Returns how many frames of a channel were dropped since the last call, because they had waited too long.
    pub(super) fn take_dropped(&self, channel: u8) -> usize {
        let mut state = self.lock();
        let before = state.dropped.len();
        state.dropped.retain(|(of, _)| *of != channel);
        before - state.dropped.len()
    }

    /// Sends packets on a channel. Returns how many were sent or kept, always whole packets: after half a packet, the
    /// peer could not parse the rest. `EAGAIN` if too many bytes wait.
    pub(super) fn packets(&self, channel: u8, datagrams: &[Datagram<'_>]) -> std::result::Result<usize, Errno> {
        let mut state = self.lock();
        state.flush()?;
        let datagrams = &datagrams[..datagrams.len().min(MOST)];
        let bytes = |datagram: &Datagram<'_>| datagram.iter().map(|piece| piece.len()).sum::<usize>();
        let mut frames = [[b'$', channel, 0, 0]; MOST];
        for (frame, datagram) in frames.iter_mut().zip(datagrams) {
            frame[2..].copy_from_slice(&u16::try_from(bytes(datagram)).map_err(|_| Errno::EMSGSIZE)?.to_be_bytes());
        }
        let mut left = 0;
        if state.waiting.is_empty() {
            let mut slices = [IoSlice::new(&[]); MOST * 3];
            for (slices, (frame, datagram)) in slices.chunks_mut(3).zip(frames.iter().zip(datagrams)) {
                slices.copy_from_slice(&[&frame[..], datagram[0], datagram[1]].map(IoSlice::new));
            }
            left = state.send(&slices[..datagrams.len() * 3])?;
        }
        // Copies bytes that the kernel did not take: always the rest of a packet, and whole packets up to the limit.
        let mut count = 0;
        for (frame, datagram) in frames.iter().zip(datagrams) {
            let whole = FRAME_BYTES + bytes(datagram);
            let id = frame_id(channel, datagram[0]);
            if left > 0 {
                state.begun = id.or(state.begun);
            }
            if left < whole {
                if left == 0 && !state.has_room(whole, 0) {
                    break;
                }
                for piece in [&frame[..], datagram[0], datagram[1]] {
                    let skipped = left.min(piece.len());
                    state.keep(&piece[skipped..], id);
                    left -= skipped;
                }
            } else {
                left -= whole;
            }
            count += 1;
        }
        if count == 0 {
            Err(Errno::EAGAIN)
        } else {
            Ok(count)
        }
    }
}

/// Returns the frame of a packet, by its header. `None` for RTCP (RFC 5761, 4).
fn frame_id(channel: u8, header: &[u8]) -> Option<FrameId> {
    let kind = *header.get(1)?;
    let timestamp = u32::from_be_bytes(header.get(4..8)?.try_into().ok()?);
    (!(192..224).contains(&kind)).then_some((channel, timestamp))
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes wait", self.waiting())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn packets_stay_whole_whatever_the_peer_reads() {
        let (near, mut far) = pair();
        near.set_nonblocking(true).unwrap();
        let out = Outbox::new(Arc::new(TcpLink::new(near, None).unwrap()), 100_000);
        let body: Vec<u8> = (0..1300u32).map(|i| i as u8).collect();
        let datagrams: Vec<Datagram<'_>> = (0..40).map(|_| [&[1u8, 2, 3][..], &body[..]]).collect();
        let mut sent = 0;
        // Until the kernel and the backlog are full.
        loop {
            match out.packets(4, &datagrams) {
                Ok(count) => sent += count,
                Err(e) => break assert_eq!(e, Errno::EAGAIN),
            }
        }
        assert!(sent > 70 && out.waiting() <= 100_000 && out.waiting() > 90_000);
        assert!(out.message(&[0; 80_000]).is_err(), "no room for a message");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all
        });
        while out.waiting() > 0 {
            out.flush().unwrap();
            std::thread::yield_now();
        }
        out.message(b"RTSP").unwrap();
        drop(out);
        let all = reader.join().unwrap();
        let whole = [&[b'$', 4, 0x05, 0x17, 1, 2, 3][..], &body].concat();
        assert_eq!(all.len(), sent * whole.len() + 4);
        assert!(all.chunks(whole.len()).take(sent).all(|chunk| chunk == whole));
        assert!(all.ends_with(b"RTSP"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn outbox_wants_write_while_tls_alone_has_bytes() {
        use crate::sink::tls::Identity;
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, ServerName};
        use std::io::{Error as IoError, ErrorKind as IoKind};

        let pem = |name: &str| std::fs::read(format!("{}/tests/sink/tls/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let identity = Identity::from_pem(&pem("p256.pem"), &pem("p256-key.pem")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem("authority.pem")).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from("127.0.0.1").unwrap();

        let (near, mut far) = pair();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let link = Arc::new(TcpLink::new(near, Some(&identity)).unwrap());
        let mut client = rustls::ClientConnection::new(config, name).unwrap();
        let mut receive = |client: &mut rustls::ClientConnection| -> std::io::Result<usize> {
            while client.wants_write() && client.write_tls(&mut far).is_ok() {}
            client.read_tls(&mut far)?;
            client.process_new_packets().map_err(IoError::other)?;
            client.reader().read(&mut [0; 1 << 15])
        };
        let is_later = |e: &IoError| e.kind() == IoKind::WouldBlock;
        while client.is_handshaking() || link.is_handshaking() {
            assert!(
                receive(&mut client).is_err_and(|e| is_later(&e))
                    && link.read(&mut [0; 99]).is_err_and(|e| is_later(&e))
            );
        }

        let out = Outbox::new(Arc::clone(&link), 1000);
        let mut sent = 0;
        while !link.wants_write() {
            out.message(&[7; 999]).unwrap();
            sent += 999;
        }
        assert!(out.waiting() == 0 && out.wants_write() && sent > 10_000, "{sent} bytes were sent");
        let mut received = 0;
        while received < sent {
            if out.wants_write() {
                out.flush().unwrap();
            }
            received += receive(&mut client).or_else(|e| if is_later(&e) { Ok(0) } else { Err(e) }).unwrap();
        }
        assert!(!out.wants_write());
    }

    #[test]
    fn outbox_keeps_failing_after_the_peer_is_gone() {
        let (near, far) = pair();
        let out = Outbox::new(Arc::new(TcpLink::new(near, None).unwrap()), 1000);
        drop(far);
        let failed = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            out.packets(0, &[[&[1], &[2]]]).err()
        });
        assert!(matches!(failed, Some(Errno::EPIPE | Errno::ECONNRESET)), "{failed:?}");
        assert!(out.has_failed() && out.message(b"x").is_err());
    }
}
