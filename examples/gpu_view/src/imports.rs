//! The publisher's buffers on the GPU: each is imported when its first frame comes.

use framelease::frame::{Frame, PoolId};

use crate::common::Result;
use crate::gpu::{Gpu, Picture};
use crate::planes;
use crate::vulkan::Use;

/// By the number of the slot. The GPU uses none of them between two frames.
#[derive(Default)]
pub struct Imports {
    pool: Option<PoolId>,
    /// Where the data of each memory plane begins, and the picture.
    slots: Vec<Option<([u32; 4], Picture)>>,
    /// How many there were.
    pub count: u64,
}

impl Imports {
    /// The picture in the frame's buffer.
    pub fn picture(&mut self, frame: &Frame, gpu: &Gpu) -> Result<&Picture> {
        if self.pool != Some(frame.buffers().id()) {
            // New buffers. Those before are freed.
            *self = Self { pool: Some(frame.buffers().id()), slots: Vec::new(), count: self.count };
        }
        let begins = frame.meta().payload.map(|payload| payload.offset_bytes);
        if self.slots.len() <= frame.slot() {
            self.slots.resize_with(frame.slot() + 1, || None);
        }
        let slot = &mut self.slots[frame.slot()];
        if slot.as_ref().is_some_and(|(at, _)| *at != begins) {
            *slot = None;
        }
        let picture = match slot.take() {
            Some((_, picture)) => picture,
            None => {
                let planes = planes::of_frame(frame)?;
                let images: Result<Vec<_>> = planes.iter().map(|plane| gpu.link.import(plane, Use::Read)).collect();
                self.count += 1;
                gpu.picture(frame.layout(), images?)?
            }
        };
        Ok(&slot.insert((begins, picture)).1)
    }
}
