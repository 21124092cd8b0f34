//! The client's side of TLS, for clients without it.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
pub use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

/// The connection of a client that trusts the authority of the certificates.
pub fn tls_to(version: &'static SupportedProtocolVersion) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(include_bytes!("tls/authority.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap()
}

/// Relays plain connections through TLS to a server, so that the client of the other tests can speak to it. Returns its
/// address.
pub fn relay(server: SocketAddr, version: &'static SupportedProtocolVersion) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let Ok(far) = TcpStream::connect(server) else { return };
            std::thread::spawn(move || relayed(&near.unwrap(), &far, tls_to(version)));
        }
    });
    address
}

/// Relays a connection. Takes nothing more from the server while the client does not read.
fn relayed(mut near: &TcpStream, mut far: &TcpStream, mut tls: ClientConnection) {
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut to_client: Vec<u8> = Vec::new();
    let some = |done: std::io::Result<usize>| match done {
        Err(e) if e.kind() == IoKind::WouldBlock => Ok(None),
        done => done.map(Some),
    };
    let mut step = || -> std::io::Result<bool> {
        let mut is_busy = false;
        match some(near.read(&mut buffer))? {
            Some(0) => tls.send_close_notify(),
            Some(n) => tls.writer().write_all(&buffer[..n])?,
            None => {}
        }
        while tls.wants_write() && some(tls.write_tls(&mut far))?.is_some() {}
        if to_client.is_empty() {
            if some(tls.read_tls(&mut far))? == Some(0) {
                return Err(IoKind::UnexpectedEof.into());
            }
            tls.process_new_packets().map_err(std::io::Error::other)?;
            if let Some(n) = some(tls.reader().read(&mut buffer))? {
                if n == 0 {
                    return Err(IoKind::UnexpectedEof.into());
                }
                to_client.extend_from_slice(&buffer[..n]);
                is_busy = true;
            }
        }
        if let Some(n) = some(near.write(&to_client)).map(|n| n.filter(|_| !to_client.is_empty()))? {
            to_client.drain(..n);
            is_busy = true;
        }
        Ok(is_busy)
    };
    while let Ok(is_busy) = step() {
        if !is_busy {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let _ = near.shutdown(Shutdown::Both);
}
