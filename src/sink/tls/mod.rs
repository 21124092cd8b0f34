//! The server's side of TLS, by rustls. Without the feature `tls`, its types have no values.

#[cfg(feature = "tls")]
mod identity;
#[cfg(feature = "tls")]
mod session;
#[cfg(not(feature = "tls"))]
mod without;

#[cfg(feature = "tls")]
pub use identity::Identity;
#[cfg(feature = "tls")]
pub(super) use session::TlsSession;
#[cfg(not(feature = "tls"))]
pub(super) use without::{Identity, TlsSession};
