//! Refuses ioctls on request, in one thread: the `ioctl` of this program replaces that of the C library.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_ulong, c_void};

/// The ioctl to refuse: its type, its number, which call of them, and the error.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// `b'V'` for V4L2, `b'd'` for DRM.
    pub kind: u8,
    pub number: u8,
    pub nth: u32,
    pub errno: Errno,
}

/// A driver whose answers the devices of this program give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// NXP's mx6s_capture (i.MX8MM, 8MQ, 7D, 6UL): G_FMT has the size only, S_PARM and G_PARM lack the capability, and
    /// buffers are the driver's own.
    Mx6s,
    /// NXP's imx8-isi-cap of Linux 5.4: NV12 has two memory planes, as NV12M has in other drivers.
    OldIsi,
    /// NXP's vsi_v4l2_dec: a change of the colors alone has a bit of its own in the event.
    VsiDecoder,
    /// A driver that states a stride shorter than the rows.
    ShortStride,
    /// An analog grabber: a frame lacks its last rows, without a flag, and names the field that comes first.
    Grabber,
    /// A capture driver whose format has this `v4l2_field`.
    Field(u32),
    /// The decoder of i.MX8QM and 8QXP: its pictures are tiles, and it lists nothing else.
    AmphionDecoder,
    /// NXP's mxc-jpeg: its bitstream is JPEG. After the event with a picture's size, it lists the one format that the
    /// picture has, and S_FMT gives that format and size whatever a program asks for.
    MxcJpeg,
    /// A driver with the second format instead of the first. If the first is GREY, [`feeding`] gives the bitstream.
    Renamed([u8; 4], [u8; 4]),
    /// A device whose work fails after it was submitted: its fences signal with an error.
    FailedFence,
    /// A kernel with the API of streams, which reports one route of each subdevice. It is not active.
    NoRoute,
    /// A sensor with a frame interval on its subdevice, which it rounds to whole milliseconds.
    Rated,
    /// mxc-isi: VIDIOC_STREAMON reports a graph that does not fit as EINVAL, where the kernel reports EPIPE.
    MxcIsi,
}

impl Habit {
    /// The format of the driver in the kernel, and the one that it has here.
    fn renaming(self) -> Option<([u8; 4], [u8; 4])> {
        match self {
            Self::Renamed(own, other) => Some((own, other)),
            Self::MxcJpeg => Some((*b"FWHT", *b"JPEG")),
            _ => None,
        }
    }
}

thread_local! {
    static HABIT: Cell<Option<Habit>> = const { Cell::new(None) };
    static REFUSED: Cell<Option<([u8; 2], Errno)>> = const { Cell::new(None) };
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    static INTERVAL: Cell<[u32; 2]> = const { Cell::new([33, 1000]) };
    static FED: RefCell<VecDeque<Vec<u8>>> = const { RefCell::new(VecDeque::new()) };
    /// [`Habit::MxcJpeg`] has reported the size of a picture.
    static PARSED: Cell<bool> = const { Cell::new(false) };
    static COUNTS: RefCell<Option<(u8, [u32; 256])>> = const { RefCell::new(None) };
}

/// Runs a function while one ioctl is refused. After ENODEV, all later ioctls are refused too, as in the kernel.
pub fn with<T>(fault: Fault, test: impl FnOnce() -> T) -> T {
    FAULT.set(Some(fault));
    let done = test();
    FAULT.set(None);
    done
}

/// Runs a function while the devices answer like another driver.
pub fn answering_as<T>(habit: Habit, test: impl FnOnce() -> T) -> T {
    HABIT.set(Some(habit));
    PARSED.set(false);
    let done = test();
    HABIT.set(None);
    done
}

/// Runs a function while a camera of one byte per pixel is a webcam that gives these pictures, the last one again and
/// again.
pub fn feeding<T>(fourcc: [u8; 4], pictures: Vec<Vec<u8>>, test: impl FnOnce() -> T) -> T {
    FED.set(pictures.into());
    answering_as(Habit::Renamed(*GREY, fourcc), test)
}

/// Writes the next picture to the buffer that DQBUF has returned.
///
/// # Safety
/// `arg` is the `v4l2_buffer` of a DQBUF of `fd` that has succeeded.
unsafe fn feed(fd: c_int, arg: *mut u32) {
    const QUERYBUF: c_ulong = 0xc058_5609;
    const BYTES_USED: usize = 2;
    let picture = FED.with_borrow_mut(|fed| if fed.len() > 1 { fed.pop_front() } else { fed.front().cloned() });
    let picture = picture.expect("a picture");
    let mut query = [0u32; 22];
    // SAFETY: both are a `v4l2_buffer` of 22 words: index and type first, m.offset at word 16, length at word 18. The
    // mapping is as long as the kernel says, and the kernel has given the buffer to this program.
    unsafe {
        ptr::copy_nonoverlapping(arg, query.as_mut_ptr(), 2);
        assert_eq!(libc::syscall(libc::SYS_ioctl, fd, QUERYBUF, query.as_mut_ptr()), 0);
        let (length, protection) = (query[18] as usize, libc::PROT_READ | libc::PROT_WRITE);
        assert!(picture.len() <= length);
        let memory = libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, query[16].into());
        assert_ne!(memory, libc::MAP_FAILED);
        ptr::copy_nonoverlapping(picture.as_ptr(), memory.cast(), picture.len());
        libc::munmap(memory, length);
        arg.add(BYTES_USED).write_unaligned(picture.len() as u32);
    }
}

/// Changes the argument of an ioctl for the kernel.
///
/// # Safety
/// `arg` is the argument of a V4L2 ioctl.
unsafe fn prepare(habit: Habit, number: u8, arg: *mut u32) {
    const SET: [u8; 2] = [5, 64];
    if habit == Habit::OldIsi && SET.contains(&number) {
        // SAFETY: `v4l2_format` is longer than five words, and the caller guarantees that this is one.
        unsafe { exchange(arg.add(4), NV12, NV12M) };
    }
    if habit == Habit::AmphionDecoder && SET.contains(&number) {
        // SAFETY: as above.
        unsafe { exchange(arg.add(4), TILES, NV12) };
    }
    if let (Some((own, other)), Some(word)) = (habit.renaming(), format_word(number)) {
        // SAFETY: as above. `v4l2_frmsizeenum` and `v4l2_frmivalenum` have the format in their second word.
        unsafe { exchange(arg.add(word), u32::from_le_bytes(other), u32::from_le_bytes(own)) };
    }
}

/// Returns the word of an ioctl's argument that has a format.
fn format_word(number: u8) -> Option<usize> {
    match number {
        2 => Some(11),
        4 | 5 | 64 => Some(4),
        74 | 75 => Some(1),
        _ => None,
    }
}

const GREY: &[u8; 4] = b"GREY";
/// `V4L2_PIX_FMT_NV12_8L128`
const TILES: u32 = u32::from_le_bytes(*b"AT12");
/// No format of V4L2.
const UNKNOWN: u32 = u32::from_le_bytes(*b"????");

/// `V4L2_EVENT_SRC_CH_RESOLUTION`
const RESOLUTION: u32 = 1;
/// NXP's `V4L2_EVENT_SRC_CH_COLORSPACE`.
const COLORS: u32 = 2;
const NV12: u32 = u32::from_le_bytes(*b"NV12");
const NV12M: u32 = u32::from_le_bytes(*b"NM12");

/// # Safety
/// The word is readable and writable.
unsafe fn exchange(word: *mut u32, from: u32, to: u32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if word.read_unaligned() == from {
            word.write_unaligned(to);
        }
    }
}

/// Changes the kernel's answer to an ioctl.
///
/// # Safety
/// `arg` is the argument of a V4L2 ioctl that has succeeded.
unsafe fn change(habit: Habit, number: u8, arg: *mut u32) {
    const G_FMT: u8 = 4;
    const PARM: [u8; 2] = [21, 22];
    // The words of `v4l2_format` with `v4l2_pix_format` (from word 2 on 64-bit targets), and of `v4l2_streamparm`.
    const PIXEL_FORMAT: usize = 4;
    const BYTES_PER_LINE: usize = 6;
    const CAPABILITY: usize = 1;
    let zeroed: &[usize] = match (habit, number) {
        (Habit::Mx6s, G_FMT) => &[PIXEL_FORMAT, BYTES_PER_LINE],
        (Habit::Mx6s, number) if PARM.contains(&number) => &[CAPABILITY],
        _ => &[],
    };
    let format_at = match number {
        2 => Some(11),
        4 | 5 | 64 => Some(PIXEL_FORMAT),
        _ => None,
    };
    const DQEVENT: u8 = 89;
    const FENCE_INFO: u8 = 4;
    if habit == Habit::FailedFence {
        if number == FENCE_INFO {
            // SAFETY: `sync_file_info` is longer than nine words. The ninth is its status.
            unsafe { arg.add(8).write_unaligned((-(libc::EIO)) as u32) };
        }
        return;
    }
    if habit == Habit::Grabber {
        const DQBUF: u8 = 17;
        const BYTES_USED: usize = 2;
        const BUFFER_FIELD: usize = 4;
        const FIELD: usize = 5;
        const INTERLACED_TB: u32 = 8;
        // SAFETY: `v4l2_buffer` and `v4l2_format` are longer than six words.
        unsafe {
            match number {
                DQBUF => {
                    let bytes = arg.add(BYTES_USED);
                    bytes.write_unaligned(bytes.read_unaligned() - 1280);
                    arg.add(BUFFER_FIELD).write_unaligned(INTERLACED_TB);
                }
                4 | 5 | 64 => arg.add(FIELD).write_unaligned(INTERLACED_TB),
                _ => {}
            }
        }
    }
    if let (Habit::Field(field), 4 | 5 | 64) = (habit, number) {
        // SAFETY: `v4l2_format` is longer than six words. The sixth is its field.
        unsafe { arg.add(5).write_unaligned(field) };
    }
    if let (Habit::ShortStride, 4 | 5 | 64) = (habit, number) {
        // SAFETY: `v4l2_format` is longer than seven words.
        unsafe { arg.add(BYTES_PER_LINE).write_unaligned(600) };
    }
    if (habit, number) == (Habit::VsiDecoder, DQEVENT) {
        // SAFETY: `v4l2_event` is longer than three words. The third has the changes of a source.
        unsafe { exchange(arg.add(2), RESOLUTION, COLORS) };
    }
    if (habit, number) == (Habit::MxcJpeg, DQEVENT) {
        const SOURCE_CHANGE: u32 = 5;
        // SAFETY: `v4l2_event` begins with its type.
        PARSED.set(unsafe { arg.read_unaligned() } == SOURCE_CHANGE);
    }
    if let (Habit::OldIsi, Some(word)) = (habit, format_at) {
        // SAFETY: `v4l2_fmtdesc` and `v4l2_format` are longer than twelve words.
        unsafe { exchange(arg.add(word), NV12M, NV12) };
    }
    if let (Habit::AmphionDecoder, Some(word)) = (habit, format_at) {
        const CAPTURE: u32 = 1;
        let kind = if number == 2 { 1 } else { 0 };
        // SAFETY: as above. The first or the second word has the kind of the queue.
        unsafe {
            if arg.add(kind).read_unaligned() == CAPTURE {
                exchange(arg.add(word), NV12, TILES);
                if number == 2 && arg.add(word).read_unaligned() != TILES {
                    arg.add(word).write_unaligned(UNKNOWN);
                }
            }
        }
    }
    if let (Some((own, other)), Some(word)) = (habit.renaming(), format_word(number)) {
        const FLAGS: usize = 2;
        let own_code = u32::from_le_bytes(own);
        // SAFETY: as above.
        unsafe {
            let is_fed = own == *GREY && arg.add(word).read_unaligned() == own_code;
            exchange(arg.add(word), own_code, u32::from_le_bytes(other));
            match word {
                PIXEL_FORMAT if is_fed => arg.add(BYTES_PER_LINE).write_unaligned(0),
                11 if is_fed => arg.add(FLAGS).write_unaligned(1),
                _ => {}
            }
        }
    }
    for &word in zeroed {
        // SAFETY: both structs are longer than seven words, and the caller guarantees that this is one of them.
        unsafe { arg.add(word).write_unaligned(0) };
    }
}

/// Answers ioctls on the capture queue as [`Habit::MxcJpeg`]: their result, or `None` for those of the kernel.
///
/// # Safety
/// `arg` is the argument of a V4L2 ioctl of `fd`.
unsafe fn limit_to_parsed(fd: c_int, number: u8, arg: *mut u32) -> Option<c_int> {
    const ENUM_FMT: u8 = 2;
    const S_FMT: u8 = 5;
    const G_FMT: c_ulong = 0xc0d0_5604;
    const CAPTURE: u32 = 1;
    if !PARSED.get() || ![ENUM_FMT, S_FMT].contains(&number) {
        return None;
    }
    let mut format = [0u32; 52];
    format[0] = CAPTURE;
    // SAFETY: `v4l2_fmtdesc` begins with its index and its queue, and has the format at word 11. `v4l2_format` begins
    // with its queue, and has the size and the format at words 2 to 4. `format` is as long as a `v4l2_format`.
    unsafe {
        let queue = arg.add(usize::from(number == ENUM_FMT)).read_unaligned();
        if queue != CAPTURE || libc::syscall(libc::SYS_ioctl, fd, G_FMT, format.as_mut_ptr()) != 0 {
            return None;
        }
        if number == S_FMT {
            ptr::copy_nonoverlapping(&format[2], arg.add(2), 3);
            return None;
        }
        if arg.read_unaligned() == 0 {
            arg.add(11).write_unaligned(format[4]);
            return Some(0);
        }
    }
    Errno::EINVAL.set();
    Some(-1)
}

const SUBDEV_G_ROUTING: u32 = 0xc040_5626;
const SUBDEV_G_FRAME_INTERVAL: u32 = 0xc030_5615;
const SUBDEV_S_FRAME_INTERVAL: u32 = 0xc030_5616;

/// Answers with an inactive route from pad 0 to pad 1.
///
/// # Safety
/// `arg` is a `v4l2_subdev_routing` with room for a route.
unsafe fn report_route(arg: *mut u32) {
    // Words of the struct: `routes` is an address at word 2, `num_routes` is word 4. A route has ten words: pad and
    // stream, twice, and flags.
    // SAFETY: guaranteed by the caller.
    unsafe {
        let routes = arg.add(2).cast::<*mut [u32; 10]>().read_unaligned();
        routes.write_unaligned([0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        arg.add(4).write_unaligned(1);
    }
}

/// Answers for the frame interval of a sensor.
///
/// # Safety
/// `arg` is a `v4l2_subdev_frame_interval`.
unsafe fn rate(request: u32, arg: *mut u32) {
    // Words of the struct: the interval is at words 1 and 2.
    // SAFETY: guaranteed by the caller.
    let interval = unsafe { &mut *arg.add(1).cast::<[u32; 2]>() };
    if request == SUBDEV_S_FRAME_INTERVAL {
        let [numerator, denominator] = *interval;
        INTERVAL.set([numerator * 1000 / denominator.max(1), 1000]);
    }
    *interval = INTERVAL.get();
}

/// Runs a function while V4L2 ioctls of these two numbers are refused, all of them.
pub fn refusing<T>(numbers: [u8; 2], errno: Errno, test: impl FnOnce() -> T) -> T {
    REFUSED.set(Some((numbers, errno)));
    let done = test();
    REFUSED.set(None);
    done
}

/// Runs a function, and returns how often it made each ioctl, by number.
#[cfg_attr(not(feature = "drm"), allow(dead_code))]
pub fn counted<T>(kind: u8, test: impl FnOnce() -> T) -> (T, [u32; 256]) {
    COUNTS.set(Some((kind, [0; 256])));
    let done = test();
    let counts = COUNTS.take().map_or([0; 256], |(_, counts)| counts);
    (done, counts)
}

fn fails(request: c_ulong) -> bool {
    let (kind, number) = ((request >> 8) as u8, request as u8);
    let _ = COUNTS.try_with(|counts| match &mut *counts.borrow_mut() {
        Some((counted, counts)) if *counted == kind => counts[usize::from(number)] += 1,
        _ => {}
    });
    if let Ok(Some((numbers, errno))) = REFUSED.try_with(Cell::get) {
        if kind == b'V' && numbers.contains(&number) {
            errno.set();
            return true;
        }
    }
    let Ok(Some(fault)) = FAULT.try_with(Cell::get) else { return false };
    let gone = fault.errno == Errno::ENODEV && fault.nth == 0;
    if kind != fault.kind || (number != fault.number && !gone) {
        return false;
    }
    let left = fault.nth.saturating_sub(1);
    let next = if left > 0 || fault.errno == Errno::ENODEV { Some(Fault { nth: left, ..fault }) } else { None };
    FAULT.set(next);
    if left == 0 {
        fault.errno.set();
    }
    left == 0
}

// SAFETY: contract: the C library's function of this name, as the system call that it is. The variadic argument comes
// in a register on the 64-bit targets that tests run on. The kernel ignores it if the ioctl does not have one.
#[no_mangle]
unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    if fails(request) {
        return -1;
    }
    if HABIT.try_with(Cell::get) == Ok(Some(Habit::NoRoute)) && request as u32 == SUBDEV_G_ROUTING {
        // SAFETY: the argument is a `v4l2_subdev_routing`, and the caller has room for more than one route.
        unsafe { report_route(arg.cast()) };
        return 0;
    }
    let is_rate = [SUBDEV_G_FRAME_INTERVAL, SUBDEV_S_FRAME_INTERVAL].contains(&(request as u32));
    if HABIT.try_with(Cell::get) == Ok(Some(Habit::Rated)) && is_rate {
        // SAFETY: the argument is a `v4l2_subdev_frame_interval`.
        unsafe { rate(request as u32, arg.cast()) };
        return 0;
    }
    let of = |habit: &Habit| if *habit == Habit::FailedFence { b'>' } else { b'V' };
    let habit = HABIT.try_with(Cell::get).ok().flatten().filter(|habit| (request >> 8) as u8 == of(habit));
    if let Some(habit) = habit {
        // SAFETY: it is a V4L2 ioctl.
        unsafe { prepare(habit, request as u8, arg.cast()) };
    }
    if habit == Some(Habit::MxcJpeg) {
        // SAFETY: it is a V4L2 ioctl.
        if let Some(answer) = unsafe { limit_to_parsed(fd, request as u8, arg.cast()) } {
            return answer;
        }
    }
    // SAFETY: the caller guarantees the arguments, which are passed to the kernel.
    let done = unsafe { libc::syscall(libc::SYS_ioctl, fd, request, arg) as c_int };
    const STREAMON: u8 = 18;
    if habit == Some(Habit::MxcIsi) && request as u8 == STREAMON && done < 0 && Errno::last() == Errno::EPIPE {
        Errno::EINVAL.set();
    }
    if let (0, Some(habit)) = (done, habit) {
        const DQBUF: u8 = 17;
        // SAFETY: the ioctl has just succeeded with this argument.
        unsafe {
            change(habit, request as u8, arg.cast());
            if matches!(habit, Habit::Renamed(own, _) if own == *GREY) && request as u8 == DQBUF {
                feed(fd, arg.cast());
            }
        }
    }
    done
}
