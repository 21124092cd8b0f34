//! Twenty clients that come and go, beside a recording and a receiver that stays.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use framelease::bitstream::Codec;
use framelease::format::FrameInterval;
use framelease::sink::recorder::{Recorder, RecorderEvent, RecorderOptions};
use framelease::sink::rtp::{Sender, SenderOptions};
use framelease::sink::WriterOptions;
use framelease::{Received, Station, Submit};

use super::node::{self, INTERVAL};
use super::programs::{Client, Visit};
use super::{chosen, kill, spawn, stop, stream, Folder, LOGIN};
use crate::decode;
use crate::Res;

/// Clients at a time.
const CLIENTS: u64 = 20;

/// Prints what came and went. Returns how many frames the recording and the receiver lost.
pub fn storm(filters: &[String], seconds: u64) -> Res<usize> {
    let clients = chosen(filters);
    if clients.is_empty() {
        return Err("no client is here".into());
    }
    let folder = Folder::new()?;
    let (packets, file) = stream(Codec::H264, &folder)?;
    let source = decode::of_file(&file)?;
    let (mut server, live, address) = node::serve(&packets, Some(LOGIN))?;
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    receiver.set_read_timeout(Some(Duration::from_millis(300))).map_err(|e| e.to_string())?;
    let mut sender = Sender::new(Codec::H264, SenderOptions::default()).map_err(|e| e.to_string())?;
    let to = receiver.local_addr().map_err(|e| e.to_string())?;
    sender.add(to).map_err(|e| e.to_string())?;
    let options = WriterOptions::default().interval(FrameInterval::from_fps(50));
    let mut recorder = Recorder::new(folder.0.join("storm.mkv"), RecorderOptions::default().writer(options))
        .map_err(|e| e.to_string())?;
    let (is_over, visits, early) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (got, sent) = thread::scope(|scope| {
        let got = scope.spawn(|| receive(&receiver, &is_over));
        for slot in 0..CLIENTS {
            let (clients, is_over, visits, early, folder) = (&clients, &is_over, &visits, &early, &folder);
            scope.spawn(move || {
                let mut state = slot + 1;
                while !is_over.load(Ordering::Relaxed) {
                    let folder = folder.with(&slot.to_string()).unwrap_or_default();
                    let client = clients[random(&mut state) as usize % clients.len()];
                    let transport = if random(&mut state) % 2 == 0 { "tcp" } else { "udp" };
                    let frames = 1_000_000;
                    let login = Some(LOGIN);
                    let visit = Visit { server: address, login, transport, codec: Codec::H264, frames, folder };
                    let has_stayed = come_and_go(client, &visit, &mut state, is_over);
                    visits.fetch_add(1, Ordering::Relaxed);
                    early.fetch_add(u64::from(!has_stayed), Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        let mut sent = 0u64;
        let mut feed = || -> Res<()> {
            while begun.elapsed() < Duration::from_secs(seconds) {
                let packet = node::packet(&packets, sent);
                let _ = recorder.try_submit(packet.clone()).map_err(|rejected| rejected.error.to_string())?;
                let _ = sender.try_submit(packet.clone()).map_err(|rejected| rejected.error.to_string())?;
                server.submit(live, &packet).map_err(|e| e.to_string())?;
                sent += 1;
                let next = begun + INTERVAL * sent as u32;
                while let Some(left) = next.checked_duration_since(Instant::now()) {
                    let _ = server.recv(left.min(Duration::from_millis(2))).map_err(|e| e.to_string())?;
                    let _ = sender.try_recv().map_err(|e| e.to_string())?;
                }
            }
            Ok(())
        };
        let fed = feed();
        is_over.store(true, Ordering::Relaxed);
        fed?;
        got.join().map(|got| (got, sent)).map_err(|_| "the receiver panicked".to_string())
    })?;
    recorder.finish();
    let mut recorded = Vec::new();
    loop {
        match recorder.recv(Duration::from_secs(10)).map_err(|e| e.to_string())? {
            Received::Item(RecorderEvent::File { path, .. }) => recorded.extend(decode::of_file(&path)?),
            Received::Item(RecorderEvent::Error(e)) => return Err(e.to_string()),
            Received::Item(_) => {}
            Received::Nothing | Received::Ended => break,
        }
    }
    let recorded = recorded.iter().zip(source.iter().cycle()).filter(|(sum, expected)| sum == expected).count() as u64;
    let stats = server.stats();
    println!(
        "{} visits of {} kinds of clients in {seconds} s, {} ended by the clients, {} connections, {} requests",
        visits.load(Ordering::Relaxed),
        clients.len(),
        early.load(Ordering::Relaxed),
        stats.connections,
        stats.requests,
    );
    println!("{sent} frames, {recorded} recorded as they were, {} received, {} gaps", got.frames, got.gaps);
    Ok((2 * sent - recorded - got.frames) as usize)
}

/// xorshift64
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 16
}

/// One visit, which ends by a signal of either kind. Returns `false` if the client has ended before.
fn come_and_go(client: &Client, visit: &Visit, state: &mut u64, is_over: &AtomicBool) -> bool {
    let stay = Duration::from_millis(1000 + random(state) % 9000);
    let Ok(mut child) = spawn(&(client.command)(visit), stay, Stdio::null()) else { return false };
    let end = Instant::now() + stay;
    while Instant::now() < end && !is_over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return false;
        }
    }
    if random(state) % 2 == 0 {
        stop(&mut child);
    } else {
        kill(&mut child);
    }
    true
}

#[derive(Default)]
struct Got {
    frames: u64,
    gaps: u64,
}

/// Counts frames by the marker of their last packet.
fn receive(socket: &UdpSocket, is_over: &AtomicBool) -> Got {
    let (mut got, mut last, mut buffer) = (Got::default(), None::<u16>, [0; 2000]);
    loop {
        match socket.recv(&mut buffer) {
            Ok(n) if n >= 12 => {
                let sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
                got.gaps += u64::from(last.is_some_and(|last| sequence != last.wrapping_add(1)));
                got.frames += u64::from(buffer[1] & 0x80 != 0);
                last = Some(sequence);
            }
            Ok(_) => {}
            Err(_) if is_over.load(Ordering::Relaxed) => return got,
            Err(_) => {}
        }
    }
}
