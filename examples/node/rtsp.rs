//! The servers that clients of RTSP and RTSPS connect to.

use std::net::SocketAddr;
use std::path::Path;

use framelease::sink::rtp::SenderOptions;
use framelease::sink::rtsp::{MountId, MountOptions, Server, ServerBuilder};

use super::common;
use super::options::Options;

pub struct Rtsp {
    pub server: Server,
    pub live: MountId,
    scheme: &'static str,
}

impl Rtsp {
    /// The servers that the options ask for.
    pub fn open(o: &Options, rtp: &SenderOptions) -> common::Result<Vec<Self>> {
        let mut servers = Vec::new();
        let mount = MountOptions::default().rtp(rtp.clone());
        if let Some(address) = o.rtsp {
            let mount = o.rtsp_group.map_or_else(|| mount.clone(), |group| mount.clone().group(group));
            servers.push(Self::bind("rtsp", Server::builder(address), o, mount)?);
        }
        if let Some(builder) = &o.rtsps {
            servers.push(Self::bind("rtsps", builder.clone(), o, mount)?);
        }
        Ok(servers)
    }

    fn bind(scheme: &'static str, builder: ServerBuilder, o: &Options, mount: MountOptions) -> common::Result<Self> {
        let builder = o.users.iter().fold(builder, |b, (name, password)| b.user(name, password));
        let mut server = builder.bind()?;
        let live = server.mount("/live", o.ends.codec, mount)?;
        Ok(Self { server, live, scheme })
    }

    pub fn url(&self) -> Option<String> {
        let at: SocketAddr = self.server.local_addr().ok()?;
        Some(format!("{}://{at}/live", self.scheme))
    }
}

/// A server with TLS, whose files are read now.
#[cfg(feature = "tls")]
pub fn with_tls(address: SocketAddr, certificate: &Path, key: &Path) -> common::Result<ServerBuilder> {
    let identity = framelease::sink::rtsp::Identity::from_files(certificate, key)?;
    Ok(Server::builder(address).tls(identity))
}

#[cfg(not(feature = "tls"))]
pub fn with_tls(address: SocketAddr, _: &Path, _: &Path) -> common::Result<ServerBuilder> {
    let build = "cargo build --release --features tls --example node";
    Err(format!("--rtsps {address}: this node was built without TLS: {build}").into())
}
