//! Shares dma-bufs that another library has allocated and fills, such as libcamera. The library gets each buffer again
//! when the last lease on it ends, in this process or in another one.

mod library;

use std::time::Duration;

use framelease::dmabuf::DmaBuf;
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::{FrameFlags, FrameMeta, FrameMut, Pool};
use framelease::share::Publisher;
use framelease::{wait, Received, Station};

fn main() -> framelease::Result<()> {
    let socket = std::env::args().nth(1).unwrap_or("/run/camera/socket".into());
    // What the library says about its pictures.
    let layout = Layout::from_strides(FourCc::NV12, Size::new(640, 480), &[640], &[])?;
    let mut library = library::Camera::start(layout.memory_bytes()[0], 12)?;
    let memory = library.buffers().into_iter().map(|fd| Ok(vec![DmaBuf::from_fd(fd)?]));
    let pool = Pool::from_memory(layout, memory.collect::<framelease::Result<_>>()?)?;
    // The library keeps four buffers at least. The others are for subscribers.
    let mut publisher = Publisher::builder(socket).reserve(4).bind()?;
    publisher.announce(pool.buffers())?;
    // By slot: the lease on a buffer that the library fills.
    let mut filling: Vec<Option<FrameMut>> = (0..pool.buffers().slots()).map(|_| None).collect();
    loop {
        // A slot is free at the start, and when the last lease on its buffer has ended.
        while let Some(free) = pool.try_acquire() {
            let slot = free.slot();
            filling[slot] = Some(free);
            library.queue(slot);
        }
        // The end of a lease in another process makes the publisher readable.
        wait(&[&library, &publisher], Duration::from_secs(10))?;
        while let Received::Item(event) = publisher.try_recv()? {
            println!("{event:?}");
        }
        while let Some(request) = library.completed() {
            let Some(filled) = filling[request.buffer].take() else { continue };
            let mut meta = FrameMeta::default();
            (meta.sequence, meta.timestamp_ns, meta.flags) =
                (request.sequence, request.timestamp_ns, FrameFlags::MONOTONIC);
            meta.payload[0].bytes = request.bytes;
            drop(publisher.try_publish(filled.freeze(meta))?);
        }
    }
}
