//! What a server proves itself with.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::session::TlsSession;
use crate::error::{Error, ErrorKind, Result};

/// What ring can sign with.
const KEYS: &str = "keys can be ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits or more";

/// A certificate chain and its private key, by which clients know a server.
///
/// TLS 1.2 and 1.3 by rustls and ring. A clone is cheap. For each client that connects, the server signs once. A key on
/// the curve P-256 needs less of the CPU for that than an RSA key.
///
/// ```no_run
/// use framelease::sink::rtsp::{Identity, Server};
///
/// let identity = Identity::from_files("/etc/camera/fullchain.pem", "/etc/camera/key.pem")?;
/// let server = Server::builder(([0, 0, 0, 0], 8322)).tls(identity).user("viewer", "secret").bind()?;
/// # Ok::<(), framelease::Error>(())
/// ```
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl Identity {
    /// Takes a certificate chain, the server's own certificate first, and its key. Both are in PEM, the key in PKCS #8,
    /// PKCS #1 or SEC1 and not encrypted: ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits or more.
    ///
    /// # Errors
    /// `InvalidArgument` if one of them cannot be read, or if they do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self> {
        let wrong = |text: String| Error::new(ErrorKind::InvalidArgument, "tls", text);
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<std::result::Result<Vec<_>, PemError>>();
        let chain = chain.map_err(|e| wrong(format!("the certificates: {e}")))?;
        if chain.is_empty() {
            return Err(wrong("the certificates have no section BEGIN CERTIFICATE".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| {
            wrong(format!("the key: {e}; it must be in PEM, without a passphrase: openssl pkey -in OLD -out NEW"))
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| match e {
                rustls::Error::InconsistentKeys(_) => wrong("the key is not that of the first certificate".into()),
                e => wrong(format!("the certificates and the key: {e}; {KEYS}")),
            })?;
        Ok(Self(Arc::new(config)))
    }

    /// Reads two files for [`from_pem`](Self::from_pem). They can be the same file.
    ///
    /// # Errors
    /// Those of `from_pem`, and `NotFound` and `PermissionDenied`. The text names the file.
    pub fn from_files(certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        let read = |path: &Path| std::fs::read(path).map_err(|e| Error::io("read", &e).on(path.display()));
        let identity = Self::from_pem(&read(certificates)?, &read(key)?);
        identity.map_err(|e| e.on(format!("{} and {}", certificates.display(), key.display())))
    }

    /// Begins a connection. `None` if the system has no random numbers.
    pub(in crate::sink) fn session(&self) -> Option<TlsSession> {
        ServerConnection::new(Arc::clone(&self.0)).ok().map(TlsSession::new)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}
