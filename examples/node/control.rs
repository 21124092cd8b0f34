//! Commands while it runs, one a line, by a Unix socket: `socat - UNIX:SOCKET`, `nc -U SOCKET`.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::common;

pub const HELP: &str = "attach|detach rtp HOST:PORT, multicast GROUP:PORT, record FILE; trigger; status; help";
const MOST_CLIENTS: usize = 8;
const MOST_LINE: usize = 1024;
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

struct Client {
    stream: UnixStream,
    line: Vec<u8>,
}

pub struct Control {
    path: PathBuf,
    listener: UnixListener,
    clients: Vec<Client>,
    /// No descriptors were left: when the next client is looked for.
    accepts_again: Option<Instant>,
}

impl Control {
    pub fn bind(path: &Path) -> common::Result<Self> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        // A run that was killed leaves its socket. `connect` refuses other files in the same way, so check the type.
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        if is_socket && UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        // A process that can write to this socket can make the node write files.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), listener, clients: Vec::new(), accepts_again: None })
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let accepts = self.accepts_again.map_or(true, |at| at <= Instant::now());
        accepts.then(|| self.listener.as_fd()).into_iter().chain(self.clients.iter().map(|c| c.stream.as_fd()))
    }

    /// Answers every command that came. A client that is too slow or too talkative is closed.
    pub fn dispatch(&mut self, mut answer: impl FnMut(&str) -> String) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.accepts_again = Some(Instant::now() + ACCEPT_AGAIN);
                    break;
                }
            };
            if self.clients.len() < MOST_CLIENTS && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, line: Vec::new() });
            }
        }
        self.clients.retain_mut(|client| client.serve(&mut answer));
    }
}

impl Client {
    /// `false`: it is gone.
    fn serve(&mut self, answer: &mut impl FnMut(&str) -> String) -> bool {
        let mut bytes = [0; MOST_LINE];
        let len = match self.stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(len) => len,
            Err(e) => return matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        self.line.extend_from_slice(&bytes[..len]);
        while let Some(end) = self.line.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let answer = answer(text.trim());
            if self.stream.write_all(format!("{answer}\n").as_bytes()).is_err() {
                return false;
            }
        }
        self.line.len() < MOST_LINE
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dead_socket_is_removed() {
        let path = std::env::temp_dir().join(format!("framelease-control-{}", std::process::id()));
        std::fs::write(&path, "precious").unwrap();
        assert!(Control::bind(&path).is_err(), "the path is taken");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        drop(Control::bind(&path).unwrap());
        assert!(!path.exists());
    }
}
