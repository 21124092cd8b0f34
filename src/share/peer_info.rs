//! Who is at the other end of a connection.

use crate::sys::peer::Credentials;

/// The process at the other end of a connection, as the kernel recorded it: a subscriber when it connected, a publisher
/// when it began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The process id in this process's pid namespace; 0 if the process has none there.
    pub pid: i32,
    /// The effective user id of the process.
    pub uid: u32,
    /// The effective group id of the process.
    pub gid: u32,
}

impl From<Credentials> for PeerInfo {
    fn from(Credentials { pid, uid, gid }: Credentials) -> Self {
        Self { pid, uid, gid }
    }
}
