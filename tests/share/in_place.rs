//! Tests of pixels that are read in place while a hostile publisher rewrites them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use framelease::dmabuf::{DmaBuf, SharedBytes, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{Frame, Pool};
use framelease::share::Subscriber;
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};

use crate::support::{frame, publisher_at, source, Folder, Stage, SOON};

const SIZE: Size = Size::new(1000, 200);
const BYTES: usize = 200_000;

/// A publisher that writes to the frames that it has lent.
struct Hostile {
    stage: Stage,
    pool: Pool,
    /// The memory of each slot. A write needs no mapping.
    files: Vec<File>,
}

impl Hostile {
    fn new() -> Self {
        let memory = |_| {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let file = File::from(memfd_create(c"hostile", flags).unwrap());
            file.set_len(BYTES as u64).unwrap();
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
            file
        };
        let files: Vec<File> = (0..6).map(memory).collect();
        let shared = |file: &File| vec![DmaBuf::from_fd(OwnedFd::from(file.try_clone().unwrap())).unwrap()];
        let layout = Layout::packed(FourCc::GREY, SIZE).unwrap();
        let pool = Pool::from_memory(layout, files.iter().map(shared).collect()).unwrap();
        let folder = Folder::new();
        let mut publisher = publisher_at(folder.socket()).bind().unwrap();
        publisher.announce(pool.buffers()).unwrap();
        Self { stage: Stage { publisher, source: source(1), folder }, pool, files }
    }

    fn lend(&mut self) -> (Subscriber, Frame) {
        let mut subscriber = self.stage.join(self.stage.subscriber());
        let mine = self.pool.try_acquire().unwrap().freeze_full(0, 0);
        assert!(self.stage.publisher.publish(mine, SOON).unwrap().is_taken());
        let lent = frame(&mut subscriber);
        (subscriber, lent)
    }

    fn rewrite(file: &File, value: u8) {
        file.write_all_at(&[value; BYTES], 0).unwrap();
    }
}

#[test]
fn chunks_exact_keeps_what_it_loaded_when_the_publisher_rewrites() {
    let mut hostile = Hostile::new();
    let (_subscriber, lent) = hostile.lend();
    let file = &hostile.files[lent.slot()];
    Hostile::rewrite(file, 1);
    let read = lent.read(DEFAULT_WAIT).unwrap();
    let row = read.plane(0).unwrap().row(7).unwrap();
    let mut chunks = row.chunks_exact::<32>();
    let loaded = chunks.next().unwrap();
    Hostile::rewrite(file, 2);
    assert_eq!((loaded, chunks.next().unwrap()), ([1; 32], [2; 32]));
    assert_eq!(row.fold(0, |sum, byte| sum + u32::from(byte)), 2 * 1000);
}

/// Reads all bytes in each safe way. Returns how many values they had.
fn values(row: SharedBytes) -> usize {
    let mut seen = [false; 256];
    row.fold((), |(), byte| seen[usize::from(byte)] = true);
    row.chunks_exact::<16>().chain(row.chunks_exact()).flatten().for_each(|byte| seen[usize::from(byte)] = true);
    let mut copy = [0; 1000];
    assert_eq!(row.copy_to(&mut copy), copy.len());
    copy.into_iter().for_each(|byte| seen[usize::from(byte)] = true);
    assert!(!seen[0] && !seen[4..].contains(&true), "a value that was never written");
    seen.into_iter().filter(|&seen| seen).count()
}

#[test]
fn plane_is_read_to_its_end_while_the_publisher_rewrites_and_after_it_has_gone() {
    let mut hostile = Hostile::new();
    let (_subscriber, lent) = hostile.lend();
    let file = hostile.files.swap_remove(lent.slot());
    Hostile::rewrite(&file, 1);
    let is_over = AtomicBool::new(false);
    let read = lent.read(DEFAULT_WAIT).unwrap();
    let plane = read.plane(0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut values = [1, 2, 3].into_iter().cycle();
            while !is_over.load(Ordering::Relaxed) {
                Hostile::rewrite(&file, values.next().unwrap());
            }
        });
        // Until rewrites were seen within rows.
        let mut torn = 0;
        for _ in 0..1_000_000 {
            torn += plane.rows().map(values).filter(|&values| values > 1).count();
            if torn > 100 {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(torn > 100, "the publisher rewrote nothing");
        assert!(lent.is_valid(), "the publisher revoked nothing");
    });
    Hostile::rewrite(&file, 3);
    drop((hostile, file));
    assert!(!lent.is_valid());
    assert_eq!(plane.rows().map(|row| row.fold(0, u8::max)).collect::<Vec<_>>(), [3; 200]);
}
