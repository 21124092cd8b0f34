//! Responses to requests (RFC 2326, 10).

use std::time::Instant;

use super::connection::Client;
use super::message::{plain, Request, Response, Status};
use super::mount::{Mount, MountId, TRACK};
use super::server::Server;
use super::session::{Session, Transport};
use super::transport::{choose, Wanted};
use crate::log::event;
use crate::sink::rtp::DestinationId;

const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN";

type Answer = Result<Response, Status>;

impl Server {
    /// Returns the response to an authorized request.
    pub(super) fn answer(&mut self, client: &Client, request: &Request<'_>) -> String {
        let cseq = request.header("CSeq");
        // Any request keeps its session alive: some clients use OPTIONS for that (12.37).
        let _ = request.session().map(|id| self.session_at(id));
        let answer = match request.method {
            // Has a body, so it builds its own end.
            "DESCRIBE" => match self.describe(client, request) {
                Ok(text) => return text,
                Err(status) => Err(status),
            },
            "OPTIONS" => Ok(Response::new(Status::Ok, cseq).header("Public", METHODS)),
            "SETUP" => self.set_up(client, request),
            "PLAY" => self.play(request),
            "PAUSE" => self.pause(request),
            "GET_PARAMETER" | "SET_PARAMETER" => self.parameter(request),
            "TEARDOWN" => self.tear_down(request),
            "ANNOUNCE" | "RECORD" | "REDIRECT" => {
                Ok(Response::new(Status::MethodNotAllowed, cseq).header("Allow", METHODS))
            }
            _ => Err(Status::NotImplemented),
        };
        answer.unwrap_or_else(|status| Response::new(status, cseq)).end()
    }

    fn mount_at(&mut self, request: &Request<'_>) -> Result<&mut Mount, Status> {
        let path = request.path();
        self.mounts.iter_mut().find(|m| m.is_at(&path)).ok_or(Status::NotFound)
    }

    /// Returns until when a request for a description waits for the stream's parameter sets. `None` if it does not.
    pub(super) fn waits_until(&mut self, request: &Request<'_>) -> Option<Instant> {
        let is_description = request.method == "DESCRIBE";
        let mount = self.mount_at(request).ok().filter(|_| is_description)?;
        mount.waits_until(Instant::now())
    }

    fn describe(&mut self, client: &Client, request: &Request<'_>) -> Result<String, Status> {
        let takes_sdp = |accept: &str| {
            accept
                .split(',')
                .any(|kind| matches!(kind.split(';').next().unwrap_or("").trim(), "application/sdp" | "*/*"))
        };
        let mount = self.mount_at(request)?;
        if request.header("Accept").is_some_and(|accept| !takes_sdp(accept)) {
            return Err(Status::NotAcceptable);
        }
        let text = mount.describe(client.local).ok_or(Status::InternalError)?;
        let base = format!("{}/", request.uri.trim_end_matches('/'));
        let response = Response::new(Status::Ok, request.header("CSeq")).header("Content-Base", &base);
        Ok(response.body("application/sdp", &text))
    }

    fn set_up(&mut self, client: &Client, request: &Request<'_>) -> Answer {
        let mount = self.mount_at(request)?;
        let (mount, group) = (mount.id, mount.group);
        // TLS does not cover UDP.
        let is_available = |wanted| match wanted {
            Wanted::Tcp(_) => true,
            Wanted::Udp(..) => self.settings.identity.is_none(),
            Wanted::Multicast => group.is_some(),
        };
        let wanted = choose(request.header("Transport").unwrap_or(""), is_available);
        let wanted = wanted.ok_or(Status::UnsupportedTransport)?;
        let before = match request.session() {
            // The client wants another transport for an existing session.
            Some(id) => {
                let at = self.session_at(id)?;
                if self.sessions[at].is_playing || self.sessions[at].mount != mount {
                    return Err(Status::NotValidInState);
                }
                Some(id.to_owned())
            }
            None if self.sessions.len() >= self.settings.max_sessions => return Err(Status::NotEnoughBandwidth),
            None => None,
        };
        let (transport, destination, channel, header) =
            self.open_transport(client, mount, wanted, before.as_deref())?;
        let id = before.clone().unwrap_or_else(Session::new_id);
        let timeout = self.settings.session_timeout.as_secs();
        let response = Response::new(Status::Ok, request.header("CSeq"))
            .header("Transport", &header)
            .header("Session", &format!("{id};timeout={timeout}"));
        let (connection, peer, heard) = (client.number, client.peer, Instant::now());
        self.sessions.push(Session {
            id,
            mount,
            connection,
            channel,
            peer,
            transport,
            destination,
            is_playing: false,
            has_joined: false,
            heard,
        });
        // The old session is ended after the new one is in the list: it may be the last member of a group, which must
        // not end.
        if let Some(id) = &before {
            self.end_session(id);
        }
        Ok(response)
    }

    /// Opens a transport, on which nothing is sent yet. Also returns the value of its `Transport` header.
    fn open_transport(
        &mut self,
        client: &Client,
        mount: MountId,
        wanted: Wanted,
        before: Option<&str>,
    ) -> Result<(Transport, DestinationId, u8, String), Status> {
        let channel = match wanted {
            Wanted::Tcp(asked) => {
                self.free_channel(client.number, asked, before).ok_or(Status::UnsupportedTransport)?
            }
            _ => 0,
        };
        let out = self.connections[client.connection].as_ref().map(|c| c.out.clone()).ok_or(Status::InternalError)?;
        let mount = self.mounts.iter_mut().find(|m| m.id == mount).ok_or(Status::NotFound)?;
        let (_, ssrc) = mount.stream.position();
        let failed = |e: crate::Error| {
            event!("rtsp: no transport to {}: {e}", client.peer);
            Status::Unavailable
        };
        // Packets always go to the client itself. Otherwise a client could direct them at others.
        let at = |port| {
            let mut peer = client.peer;
            peer.set_port(port);
            peer
        };
        match wanted {
            Wanted::Udp(rtp, rtcp) => {
                let (to, control) = (at(rtp), at(rtcp));
                let (id, from) = mount.stream.add_udp(to, control, client.local).map_err(failed)?;
                mount.stream.pause(id);
                let ports = format!("client_port={rtp}-{rtcp};server_port={}-{}", from.0, from.1);
                Ok((Transport::Udp, id, 0, format!("RTP/AVP;unicast;{ports};ssrc={ssrc:08X}")))
            }
            Wanted::Tcp(_) => {
                let id = mount.stream.add_tcp(client.peer, out, channel);
                mount.stream.pause(id);
                let channels = format!("interleaved={channel}-{}", channel + 1);
                Ok((Transport::Tcp, id, channel, format!("RTP/AVP/TCP;unicast;{channels};ssrc={ssrc:08X}")))
            }
            Wanted::Multicast => {
                let group = mount.group.ok_or(Status::UnsupportedTransport)?;
                let id = mount.join(group).map_err(failed)?;
                let (port, ttl) = (group.port(), mount.stream.options().ttl);
                let ports = format!("destination={};port={port}-{}", group.ip(), port.saturating_add(1));
                Ok((Transport::Multicast, id, 0, format!("RTP/AVP;multicast;{ports};ttl={ttl};ssrc={ssrc:08X}")))
            }
        }
    }

    /// Returns the requested channel, or the first that no session of the connection uses, except the session that is
    /// replaced.
    fn free_channel(&self, connection: u64, asked: Option<u8>, before: Option<&str>) -> Option<u8> {
        let is_free = |channel: u8| {
            let mut own = self.sessions.iter().filter(|s| s.connection == connection && s.transport == Transport::Tcp);
            channel < u8::MAX && own.all(|s| s.channel.abs_diff(channel) > 1 || before == Some(&*s.id))
        };
        asked.filter(|&c| is_free(c)).or_else(|| (0..254).step_by(2).find(|&c| is_free(c)))
    }

    fn session_at(&mut self, id: &str) -> Result<usize, Status> {
        let at = self.sessions.iter().position(|s| s.id == id).ok_or(Status::SessionNotFound)?;
        self.sessions[at].heard = Instant::now();
        Ok(at)
    }

    /// Returns the session that a request names, if the request is about the session's own stream.
    fn session_of(&mut self, request: &Request<'_>) -> Result<usize, Status> {
        let at = self.session_at(request.session().ok_or(Status::SessionNotFound)?)?;
        let mount = self.sessions[at].mount;
        let path = request.path();
        match self.mounts.iter().any(|m| m.id == mount && m.is_at(&path)) {
            true => Ok(at),
            false => Err(Status::NotFound),
        }
    }

    fn play(&mut self, request: &Request<'_>) -> Answer {
        let at = self.session_of(request)?;
        self.set_playing(at, true);
        let session = &self.sessions[at];
        let mount = self.mounts.iter().find(|m| m.id == session.mount).ok_or(Status::NotFound)?;
        let uri = request.uri.trim_end_matches('/');
        // A mount's own path may end with the track's name, too. The track comes after a query, as DESCRIBE writes it.
        let is_track = match uri.contains('?') {
            true => uri.strip_suffix(TRACK).is_some_and(|base| base.ends_with('/')),
            false => request.path() != plain(&mount.path),
        };
        let track = if is_track { uri.to_owned() } else { format!("{uri}/{TRACK}") };
        // The time is unknown: it will be that of the next key frame.
        let info = format!("url={track};seq={}", mount.stream.position().0);
        Ok(Response::new(Status::Ok, request.header("CSeq"))
            .header("Session", &session.id)
            .header("Range", "npt=now-")
            .header("RTP-Info", &info))
    }

    fn pause(&mut self, request: &Request<'_>) -> Answer {
        let at = self.session_of(request)?;
        self.set_playing(at, false);
        Ok(Response::new(Status::Ok, request.header("CSeq")).header("Session", &self.sessions[at].id))
    }

    fn tear_down(&mut self, request: &Request<'_>) -> Answer {
        // Some clients name no stream, but only the session.
        let at = match (request.uri, request.session()) {
            ("*", Some(id)) => self.session_at(id)?,
            _ => self.session_of(request)?,
        };
        let id = self.sessions[at].id.clone();
        self.end_session(&id);
        Ok(Response::new(Status::Ok, request.header("CSeq")))
    }

    /// Answers GET_PARAMETER and SET_PARAMETER. Clients mostly send them to keep a session alive (10.8).
    fn parameter(&mut self, request: &Request<'_>) -> Answer {
        let mut response = Response::new(Status::Ok, request.header("CSeq"));
        if let Some(id) = request.session() {
            let at = self.session_at(id)?;
            response = response.header("Session", &self.sessions[at].id);
        }
        match request.has_body {
            true => Err(Status::ParameterNotUnderstood),
            false => Ok(response),
        }
    }
}
