//! A server of one stream, which is sent again and again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use framelease::frame::Packet;
use framelease::sink::rtsp::{MountId, MountOptions, Server, ServerStats};
use framelease::Station;

use crate::Res;

/// 50 frames a second.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// The packet of a number in the endless stream.
pub fn packet(packets: &[Packet], number: u64) -> Packet {
    let packet = &packets[(number % packets.len() as u64) as usize];
    let mut meta = *packet.meta();
    (meta.sequence, meta.timestamp_ns) = (number, 5_000_000_000 + number * INTERVAL.as_nanos() as u64);
    Packet::new(meta, packet.bytes(), packet.parameter_sets().cloned())
}

/// Binds a server with a stream at `/live`.
pub fn serve(packets: &[Packet], login: Option<(&str, &str)>) -> Res<(Server, MountId, SocketAddr)> {
    // The session of a client that was killed lives until its timeout, so there may be more sessions than clients.
    let builder = Server::builder((Ipv4Addr::LOCALHOST, 0)).session_timeout(Duration::from_secs(20));
    let mut builder = builder.max_sessions(200).max_connections(200);
    if let Some((user, password)) = login {
        builder = builder.user(user, password);
    }
    let mut server = builder.bind().map_err(|e| e.to_string())?;
    let codec = packets.first().ok_or("a stream without packets")?.meta().codec;
    let live = server.mount("/live", codec, MountOptions::default()).map_err(|e| e.to_string())?;
    let address = server.local_addr().map_err(|e| e.to_string())?;
    Ok((server, live, address))
}

/// Serves clients until the time.
pub fn work_until(server: &mut Server, time: Instant) -> Res<()> {
    while let Some(left) = time.checked_duration_since(Instant::now()) {
        let _ = server.recv(left).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// A server in a thread.
pub struct Node {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Res<ServerStats>>,
}

impl Node {
    pub fn start(packets: Vec<Packet>, login: Option<(&str, &str)>) -> Res<Self> {
        let (mut server, live, address) = serve(&packets, login)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut next = Instant::now();
            for number in 0.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                server.submit(live, &packet(&packets, number)).map_err(|e| e.to_string())?;
                next += INTERVAL;
                work_until(&mut server, next)?;
            }
            Ok(server.stats())
        });
        Ok(Self { address, is_over, thread })
    }

    pub fn stop(self) -> Res<ServerStats> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the server panicked".to_string())?
    }
}
