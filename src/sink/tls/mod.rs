//! The server's side of TLS, by rustls.

mod identity;
mod session;

pub use identity::Identity;
pub(super) use session::TlsSession;
