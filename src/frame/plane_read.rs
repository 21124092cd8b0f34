//! A color plane that is read in place.

use crate::dmabuf::SharedBytes;

/// The pixels of one color plane, for reading in place. See [`FrameRead::plane`](super::FrameRead::plane).
///
/// Row `y` begins `y` times [`PlaneRead::stride_bytes`] after the first byte and has [`PlaneRead::row_bytes`] bytes of
/// pixels. Padding may follow them.
#[derive(Clone, Copy, Debug)]
pub struct PlaneRead<'a> {
    /// Ends with the last row's pixels.
    pub(super) bytes: SharedBytes<'a>,
    pub(super) stride_bytes: usize,
    pub(super) row_bytes: usize,
    pub(super) row_count: u32,
}

impl<'a> PlaneRead<'a> {
    /// Returns all bytes from the first pixel of the plane to the last, with the padding between rows.
    ///
    /// Its address, with the stride, is what OpenCV's `Mat`, NumPy's `ndarray` and inference runtimes take.
    pub fn bytes(&self) -> SharedBytes<'a> {
        self.bytes
    }

    /// Returns the distance from one row to the next, in bytes.
    pub fn stride_bytes(&self) -> usize {
        self.stride_bytes
    }

    /// Returns the number of bytes of the pixels in a row, without padding.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Returns the number of rows.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Returns the pixels of one row, without padding, or `None` if the plane does not have this row.
    pub fn row(&self, row: u32) -> Option<SharedBytes<'a>> {
        let first = (row as usize).checked_mul(self.stride_bytes)?;
        self.bytes.get(first..first.checked_add(self.row_bytes)?)
    }

    /// Returns an iterator over the pixels of each row, without padding, from the top row down.
    pub fn rows(&self) -> impl Iterator<Item = SharedBytes<'a>> + 'a {
        let plane = *self;
        (0..plane.row_count).map_while(move |row| plane.row(row))
    }
}

#[cfg(test)]
mod tests {
    use crate::dmabuf::{Allocator, DEFAULT_WAIT};
    use crate::error::ErrorKind;
    use crate::format::{FourCc, Layout, Size};
    use crate::frame::{Frame, Payload, Pool};
    use crate::stats::syscalls;

    /// A frame whose bytes are all different, and padding of zeros.
    fn frame() -> Frame {
        let layout = Layout::aligned(FourCc::NV12, Size::new(6, 4), 16).unwrap();
        let mut frame = Pool::new(&Allocator::Memfd, layout, 1).unwrap().try_acquire().unwrap();
        let mut write = frame.write(DEFAULT_WAIT).unwrap();
        for (plane, row) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)] {
            let bytes: Vec<u8> = (0..6).map(|x| 100 * plane as u8 + 10 * row as u8 + x + 1).collect();
            write.copy_row(plane, row, &bytes).unwrap();
        }
        drop(write);
        frame.freeze_full(0, 0)
    }

    #[test]
    fn plane_lends_the_rows_that_copy_row_copies() {
        let frame = frame();
        let read = frame.read(DEFAULT_WAIT).unwrap();
        let before = syscalls();
        for plane in 0..2 {
            let lent = read.plane(plane).unwrap();
            let rows = frame.layout().rows(plane);
            assert_eq!((lent.row_count(), lent.stride_bytes(), lent.row_bytes()), (rows, 16, 6));
            assert_eq!(lent.bytes().len_bytes(), 16 * (rows as usize - 1) + 6);
            assert_eq!(lent.rows().count(), rows as usize);
            for (y, row) in (0..rows).zip(lent.rows()) {
                let (mut copied, mut own) = ([0; 6], [0; 6]);
                read.copy_row(plane, y, &mut copied).unwrap();
                assert_eq!((row.copy_to(&mut own), own), (6, copied));
                assert_eq!(row.as_ptr(), lent.bytes().get(16 * y as usize..16 * rows as usize - 10).unwrap().as_ptr());
            }
            assert!(lent.row(rows).is_none() && lent.row(u32::MAX).is_none());
        }
        assert_eq!(syscalls(), before);
    }

    #[test]
    fn plane_refuses_what_the_payload_or_the_buffer_does_not_have() {
        let refused = |plane, bytes, offset_bytes| {
            let mut meta = *frame().meta();
            meta.payload[0] = Payload { bytes, offset_bytes };
            let frame = frame().with_meta(meta);
            let read = frame.read(DEFAULT_WAIT).unwrap();
            let error = read.plane(plane).err()?;
            Some((error.kind(), error.to_string()))
        };
        assert_eq!(refused(1, 86, 0), None);
        assert_eq!(refused(2, 86, 0).unwrap().0, ErrorKind::InvalidArgument);
        assert_eq!(refused(0, 85, 0), None);
        let (kind, text) = refused(1, 85, 0).unwrap();
        assert_eq!(kind, ErrorKind::Mismatch);
        assert!(text.contains("plane 1 ends at byte 86, the frame has 85 bytes"), "{text}");
        // A publisher chooses the offset. The memfd has one page.
        assert_eq!(refused(1, 86, 4096 - 86), None);
        for offset in [4096 - 85, u32::MAX] {
            assert_eq!(refused(1, 86, offset).unwrap().0, ErrorKind::InvalidArgument, "{offset}");
        }
    }
}
