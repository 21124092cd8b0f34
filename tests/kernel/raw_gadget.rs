//! A USB device whose side of the bus this program plays: `/dev/raw-gadget` on the controller of dummy_hcd.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Once;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::libc::{self, c_ulong, c_void};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

/// The requests of `linux/usb/raw_gadget.h`.
const INIT: c_ulong = 0x4101_5500;
const RUN: c_ulong = 0x5501;
const EVENT_FETCH: c_ulong = 0x8008_5502;
const EP0_WRITE: c_ulong = 0x4008_5503;
const EP0_READ: c_ulong = 0xc008_5504;
const EP_ENABLE: c_ulong = 0x4009_5505;
const EP_WRITE: c_ulong = 0x4008_5507;
const CONFIGURE: c_ulong = 0x5509;
const EP0_STALL: c_ulong = 0x550c;

const CONTROL_EVENT: u32 = 2;
/// `USB_RAW_IO_FLAGS_ZERO`: ends a transfer of whole packets by an empty one.
const END: u16 = 1;
const HIGH_SPEED: u8 = 3;
/// The size of a packet of the control endpoint.
pub const CONTROL_PACKET: u8 = 64;

/// A control request of the host: the eight bytes of its setup packet.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub kind: u8,
    pub request: u8,
    pub value: u16,
    pub index: u16,
    pub length: u16,
}

/// A USB device. Its drop unplugs it.
pub struct RawGadget(File);

impl RawGadget {
    /// Plugs a device of high speed into a port, 0 or 1. Each port is a bus.
    pub fn plug(port: u8) -> Result<Self, Errno> {
        let opened = OpenOptions::new().read(true).write(true).open("/dev/raw-gadget");
        let gadget = Self(opened.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?);
        // `usb_raw_init`: the names of the driver and the device of a controller, and the speed.
        let mut init = [0u8; 257];
        init[..9].copy_from_slice(b"dummy_udc");
        init[128..138].copy_from_slice(b"dummy_udc.");
        init[138] = b'0' + port;
        init[256] = HIGH_SPEED;
        gadget.call(INIT, &mut init)?;
        gadget.call(RUN, &mut [])?;
        Ok(gadget)
    }

    /// Makes an ioctl. `arg` has the size that the request and its own header name. It is empty for a request without
    /// an argument, for which the kernel requires 0.
    fn call(&self, request: c_ulong, arg: &mut [u8]) -> Result<i32, Errno> {
        let pointer = if arg.is_empty() { std::ptr::null_mut() } else { arg.as_mut_ptr().cast::<c_void>() };
        // SAFETY: the kernel reads and writes no more of `arg` than the struct of the request and the bytes that its
        // field `length` names. Every caller in this file gives that many.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), request, pointer) };
        Errno::result(done)
    }

    /// Makes an ioctl with a `usb_raw_ep_io`, and returns that struct: eight bytes before the data.
    fn transfer(&self, request: c_ulong, endpoint: u16, flags: u16, data: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut io = Vec::with_capacity(8 + data.len());
        io.extend(endpoint.to_ne_bytes());
        io.extend(flags.to_ne_bytes());
        io.extend((data.len() as u32).to_ne_bytes());
        io.extend(data);
        let count = self.call(request, &mut io)?;
        io.truncate(8 + count as usize);
        Ok(io)
    }

    /// Waits for the next control request. `None` for another event of the bus.
    pub fn next(&self) -> Result<Option<Setup>, Errno> {
        let mut event = [0u8; 16];
        event[4..8].copy_from_slice(&8u32.to_ne_bytes());
        self.call(EVENT_FETCH, &mut event)?;
        if event[..4] != CONTROL_EVENT.to_ne_bytes() {
            return Ok(None);
        }
        let word = |at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
        Ok(Some(Setup { kind: event[8], request: event[9], value: word(10), index: word(12), length: word(14) }))
    }

    /// Answers a control request that reads.
    pub fn reply(&self, setup: &Setup, data: &[u8]) -> Result<(), Errno> {
        let data = &data[..data.len().min(setup.length.into())];
        let is_whole_packets = data.len() % usize::from(CONTROL_PACKET) == 0 && data.len() < setup.length.into();
        self.transfer(EP0_WRITE, 0, if is_whole_packets { END } else { 0 }, data).map(drop)
    }

    /// Accepts a control request that writes, and returns its data.
    pub fn accept(&self, setup: &Setup) -> Result<Vec<u8>, Errno> {
        self.transfer(EP0_READ, 0, 0, &vec![0; setup.length.into()]).map(|mut io| io.split_off(8))
    }

    /// Refuses a control request.
    pub fn stall(&self) -> Result<(), Errno> {
        self.call(EP0_STALL, &mut []).map(drop)
    }

    /// Enables an endpoint by its descriptor, and returns its number for [`RawGadget::write`].
    pub fn enable(&self, descriptor: [u8; 7]) -> Result<u16, Errno> {
        let mut padded = [0u8; 9];
        padded[..7].copy_from_slice(&descriptor);
        self.call(EP_ENABLE, &mut padded).map(|number| number as u16)
    }

    /// Completes the request to take a configuration.
    pub fn configured(&self) -> Result<(), Errno> {
        self.call(CONFIGURE, &mut []).map(drop)
    }

    /// Sends a transfer, and waits until the host has read it.
    pub fn write(&self, endpoint: u16, data: &[u8]) -> Result<(), Errno> {
        self.transfer(EP_WRITE, endpoint, END, data).map(drop)
    }
}

/// Makes the present ioctl of a thread return EINTR. Without one, it does nothing: repeat it.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    static HANDLER: Once = Once::new();
    extern "C" fn nothing(_: libc::c_int) {}
    HANDLER.call_once(|| {
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing, which is safe at any time.
        unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();
    });
    // SAFETY: the thread was not joined, because its handle still exists.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR2) };
}
