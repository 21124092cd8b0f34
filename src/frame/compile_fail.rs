//! Misuse that must not compile. Each case is followed by the correct version, which must compile.

/// Only one writer at a time has access to the pixels.
///
/// ```compile_fail,E0499
/// fn two(frame: &mut framelease::frame::FrameMut, wait: std::time::Duration) -> framelease::Result<()> {
///     let mut a = frame.write(wait)?;
///     let mut b = frame.write(wait)?;
///     a.copy_row(0, 0, &[1])?;
///     b.copy_row(0, 0, &[2])
/// }
/// ```
/// ```
/// fn one_by_one(frame: &mut framelease::frame::FrameMut, wait: std::time::Duration) -> framelease::Result<()> {
///     frame.write(wait)?.copy_row(0, 0, &[1])?;
///     frame.write(wait)?.copy_row(0, 0, &[2])
/// }
/// ```
struct TwoWriters;

/// A published frame is read-only.
///
/// ```compile_fail,E0599
/// fn write(frame: &mut framelease::frame::Frame, wait: std::time::Duration) -> framelease::Result<()> {
///     frame.write(wait)?.copy_row(0, 0, &[1])
/// }
/// ```
/// ```
/// fn read(frame: &framelease::frame::Frame, wait: std::time::Duration) -> framelease::Result<()> {
///     frame.read(wait)?.copy_row(0, 0, &mut [1])
/// }
/// ```
struct WritingWhatOthersRead;

/// A frame cannot be dropped while it is read.
///
/// ```compile_fail,E0505
/// fn late(frame: framelease::frame::Frame, wait: std::time::Duration) -> framelease::Result<()> {
///     let read = frame.read(wait)?;
///     drop(frame);
///     read.copy_row(0, 0, &mut [1])
/// }
/// ```
/// ```
/// fn in_time(frame: framelease::frame::Frame, wait: std::time::Duration) -> framelease::Result<()> {
///     let done = frame.read(wait)?.copy_row(0, 0, &mut [1]);
///     drop(frame);
///     done
/// }
/// ```
struct ReadingAfterTheLease;

/// Pixels cannot be read in place after the access has ended.
///
/// ```compile_fail,E0505
/// fn late(frame: &framelease::frame::Frame, wait: std::time::Duration) -> framelease::Result<Option<[u8; 16]>> {
///     let read = frame.read(wait)?;
///     let plane = read.plane(0)?;
///     drop(read);
///     Ok(plane.bytes().chunks_exact().next())
/// }
/// ```
/// ```
/// fn in_time(frame: &framelease::frame::Frame, wait: std::time::Duration) -> framelease::Result<Option<[u8; 16]>> {
///     let read = frame.read(wait)?;
///     let plane = read.plane(0)?;
///     let first = plane.bytes().chunks_exact().next();
///     drop(read);
///     Ok(first)
/// }
/// ```
struct PlaneAfterTheAccess;

/// A slice of shared bytes needs `unsafe`.
///
/// ```compile_fail,E0133
/// fn trusting(bytes: framelease::dmabuf::SharedBytes<'_>) -> &[u8] {
///     bytes.as_slice()
/// }
/// ```
/// ```
/// fn trusting(bytes: framelease::dmabuf::SharedBytes<'_>) -> &[u8] {
///     // SAFETY: this program trusts the publisher.
///     unsafe { bytes.as_slice() }
/// }
/// ```
struct SliceOfSharedBytes;

/// A published frame cannot be written or published again.
///
/// ```compile_fail,E0382
/// fn keep(frame: framelease::frame::FrameMut) -> framelease::frame::FrameMut {
///     let published = frame.freeze_full(0, 0);
///     drop(published);
///     frame
/// }
/// ```
/// ```
/// fn publish(frame: framelease::frame::FrameMut) -> framelease::frame::Frame {
///     frame.freeze_full(0, 0)
/// }
/// ```
struct WritingWhatIsPublished;

/// Bytes of a packet cannot outlive the packet.
///
/// ```compile_fail,E0505
/// fn late(packet: framelease::frame::Packet) -> usize {
///     let bytes = packet.bytes();
///     drop(packet);
///     bytes.len()
/// }
/// ```
/// ```
/// fn in_time(packet: framelease::frame::Packet) -> usize {
///     packet.bytes().len()
/// }
/// ```
struct BytesAfterTheLease;
