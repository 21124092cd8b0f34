//! `ioctl` as this program's own function: a V4L2 driver that answers what the input says.

use std::cell::RefCell;
use std::os::fd::{IntoRawFd, OwnedFd};

use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::libc::{self, c_int, c_ulong};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{memfd_create, MFdFlags};

thread_local! {
    static DRIVER: RefCell<Option<Driver>> = const { RefCell::new(None) };
}

struct Driver {
    kind: u8,
    answers: Vec<u8>,
    at: usize,
    fd: c_int,
    /// The format of each direction, as `S_FMT` left it.
    format: [[u8; 208]; 2],
}

/// While it lives, the device answers.
pub struct Answering;

impl Drop for Answering {
    fn drop(&mut self) {
        DRIVER.with_borrow_mut(|driver| *driver = None);
    }
}

/// A descriptor that always has events, and its driver.
pub fn device(kind: u8, answers: &[u8]) -> (OwnedFd, Answering) {
    let fd: OwnedFd = EventFd::from_value_and_flags(1, EfdFlags::EFD_NONBLOCK).expect("a descriptor").into();
    let driver = Driver {
        kind,
        answers: answers.to_vec(),
        at: 0,
        fd: std::os::fd::AsRawFd::as_raw_fd(&fd),
        format: [[0; 208]; 2],
    };
    DRIVER.with_borrow_mut(|now| *now = Some(driver));
    (fd, Answering)
}

/// Stands before the C library's.
///
/// # Safety
/// As `ioctl`: `arg` points to what the request says.
#[no_mangle]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut u8) -> c_int {
    let answer = DRIVER.try_with(|driver| {
        let mut driver = driver.try_borrow_mut().ok()?;
        let driver = driver.as_mut().filter(|d| d.fd == fd && request >> 8 & 0xff == u64::from(b'V'))?;
        let size = (request >> 16 & 0x3fff) as usize;
        // SAFETY: the request's number says how large its argument is, which the caller lends for the call.
        let arg = unsafe { std::slice::from_raw_parts_mut(arg, size) };
        Some(driver.answer(request, arg))
    });
    match answer {
        Ok(Some(Ok(()))) => 0,
        Ok(Some(Err(errno))) => {
            nix::errno::Errno::from_raw(errno).set();
            -1
        }
        // SAFETY: the caller answers for it.
        _ => unsafe { libc::syscall(libc::SYS_ioctl, fd, request, arg) as c_int },
    }
}

fn get(arg: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(arg[at..at + 4].try_into().expect("four bytes"))
}

fn put(arg: &mut [u8], at: usize, value: u32) {
    arg[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

fn is_multi_planar(kind: u32) -> bool {
    matches!(kind, 9 | 10)
}

fn is_output(kind: u32) -> bool {
    matches!(kind, 2 | 10)
}

const ERRNOS: [c_int; 8] =
    [libc::EINVAL, libc::ENOTTY, libc::EAGAIN, libc::EBUSY, libc::EIO, libc::EPIPE, libc::ENOMEM, libc::ENODEV];

impl Driver {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.answers.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn answer(&mut self, request: c_ulong, arg: &mut [u8]) -> Result<(), c_int> {
        let Some(how) = self.byte() else { return Err(libc::ENODEV) };
        if how & 0xe0 == 0xe0 {
            return Err(ERRNOS[usize::from(how % 8)]);
        }
        let number = request & 0xff;
        // What the caller asked about, before anything changes.
        let is_multi_planar = matches!(number, 15 | 17) && is_multi_planar(get(arg, 4));
        self.friendly(number, arg)?;
        // Only what the kernel writes, and no pointer of the caller's.
        let writes = request >> 31 & 1 == 1;
        for _ in 0..if writes { how & 7 } else { 0 } {
            let (Some(at), Some(value)) = (self.byte(), self.byte()) else { break };
            let at = usize::from(at) * 4 % arg.len().max(4);
            let value = match value & 0xc0 {
                0 => u32::from(value),
                0x40 => u32::MAX - u32::from(value & 0x3f),
                0x80 => 1 << (value & 31),
                _ => u32::from(value & 0x3f) * 1021,
            };
            self.change(number, arg, at, value, is_multi_planar);
        }
        Ok(())
    }

    fn change(&mut self, number: c_ulong, arg: &mut [u8], at: usize, value: u32, is_multi_planar: bool) {
        if at + 4 > arg.len() {
            return;
        }
        match number {
            // QBUF, DQBUF: the planes lie elsewhere.
            15 | 17 if is_multi_planar && (64..72).contains(&at) => {
                let address = usize::from_ne_bytes(arg[64..72].try_into().expect("eight bytes"));
                let offset = value as usize % 64 / 4 * 4;
                if address != 0 {
                    // SAFETY: as the kernel does, within the first plane.
                    unsafe { ((address + offset) as *mut u32).write_unaligned(value) };
                }
            }
            // The descriptor, and what controls point to.
            16 if at >= 16 => {}
            71 | 72 => {}
            _ => put(arg, at, value),
        }
    }

    /// What a driver without faults would say.
    fn friendly(&mut self, number: c_ulong, arg: &mut [u8]) -> Result<(), c_int> {
        match number {
            // QUERYCAP
            0 => {
                let device = match self.kind % 3 {
                    2 => 0x4000 | 0x0400_0000,
                    _ if self.kind & 0x40 == 0 => 1 | 0x0400_0000,
                    _ => 0x1000 | 0x0400_0000,
                };
                put(arg, 84, device | 0x8000_0000);
                put(arg, 88, device);
            }
            // ENUM_FMT: fourcc at 44
            2 => match (get(arg, 0), is_output(get(arg, 4))) {
                (0, false) if self.kind % 3 == 2 && self.kind & 0x80 != 0 => {
                    put(arg, 44, u32::from_le_bytes(*b"H264"));
                    put(arg, 8, 1);
                }
                (0, _) => put(arg, 44, u32::from_le_bytes(*b"NV12")),
                (1, _) => put(arg, 44, u32::from_le_bytes(*b"YUYV")),
                _ => return Err(libc::EINVAL),
            },
            // G_FMT, S_FMT, TRY_FMT
            4 | 5 | 64 => self.format(number, arg),
            // REQBUFS: capabilities
            8 => put(arg, 12, 0x1f),
            // CREATE_BUFS: index, capabilities
            92 => put(arg, 4, 0),
            16 => {
                let fd = memfd_create(c"made-up", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
                let fd = fd.map_err(|e| e as c_int)?;
                nix::unistd::ftruncate(&fd, 8192).map_err(|e| e as c_int)?;
                fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).map_err(|e| e as c_int)?;
                put(arg, 16, fd.into_raw_fd() as u32);
            }
            // DQBUF: which buffer, how much
            17 => {
                let index = u32::from(self.byte().unwrap_or(0) & 7);
                put(arg, 0, index);
                put(arg, 8, 4608);
                if is_multi_planar(get(arg, 4)) {
                    let address = usize::from_ne_bytes(arg[64..72].try_into().expect("eight bytes"));
                    if address != 0 {
                        // SAFETY: as the kernel does: the first plane's `bytesused` and `length`.
                        unsafe { (address as *mut [u32; 2]).write_unaligned([4608, 8192]) };
                    }
                    put(arg, 72, 1);
                }
            }
            // Enumerations with one entry
            26 | 37 | 74 | 75 if get(arg, 0) > 0 && number != 37 => return Err(libc::EINVAL),
            74 => {
                put(arg, 8, 1);
                put(arg, 12, 64);
                put(arg, 16, 48);
            }
            // QUERY_EXT_CTRL: the next id
            103 => {
                let id = get(arg, 0);
                let next = id & 0x0fff_ffff;
                if id & 0x8000_0000 != 0 {
                    if next >= 0x98_0904 {
                        return Err(libc::EINVAL);
                    }
                    put(arg, 0, if next < 0x98_0900 { 0x98_0900 } else { next + 1 });
                }
                put(arg, 4, 1);
            }
            _ => {}
        }
        Ok(())
    }

    fn format(&mut self, number: c_ulong, arg: &mut [u8]) {
        let kind = get(arg, 0);
        let kept = &mut self.format[usize::from(is_output(kind))];
        if number == 4 && get(kept, 0) == kind {
            arg.copy_from_slice(&kept[..arg.len()]);
            return;
        }
        let (width, height) = (get(arg, 8).clamp(16, 4096), get(arg, 12).clamp(16, 4096));
        put(arg, 8, width);
        put(arg, 12, height);
        if get(arg, 16) == 0 {
            put(arg, 16, u32::from_le_bytes(*b"NV12"));
        }
        let (stride, size) = if get(arg, 16) == u32::from_le_bytes(*b"YUYV") {
            (width * 2, width * 2 * height)
        } else if get(arg, 16) == u32::from_le_bytes(*b"H264") {
            (0, 8192)
        } else {
            (width, width * height * 3 / 2)
        };
        if is_multi_planar(kind) {
            // struct v4l2_pix_format_mplane, packed: plane_fmt at 20, num_planes at 180, all from 8.
            put(arg, 28, size);
            put(arg, 32, stride);
            arg[188] = 1;
        } else {
            put(arg, 24, stride);
            put(arg, 28, size);
        }
        if number == 5 {
            kept[..arg.len()].copy_from_slice(arg);
        }
    }
}
