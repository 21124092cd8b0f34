//! The servers that clients of RTSP and RTSPS connect to.

use std::net::SocketAddr;

use framelease::sink::rtp::SenderOptions;
use framelease::sink::rtsp::{MountId, MountOptions, Server, ServerBuilder};

use super::common;
use super::options::{Options, Secure};

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
        if let Some(secure) = &o.rtsps {
            servers.push(Self::bind("rtsps", with_tls(secure)?, o, mount)?);
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

#[cfg(feature = "tls")]
fn with_tls(secure: &Secure) -> common::Result<ServerBuilder> {
    let identity = framelease::sink::rtsp::Identity::from_files(&secure.certificate, &secure.key)?;
    Ok(Server::builder(secure.address).tls(identity))
}

#[cfg(not(feature = "tls"))]
fn with_tls(secure: &Secure) -> common::Result<ServerBuilder> {
    let Secure { address, certificate, key } = secure;
    let (certificate, key) = (certificate.display(), key.display());
    let why = "this node was built without TLS: use cargo build --release --features tls --example node";
    Err(format!("--rtsps {address} with {certificate} and {key}: {why}").into())
}
