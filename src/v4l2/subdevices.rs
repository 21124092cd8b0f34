//! The subdevices that feed a node: sensors, receivers, scalers.

use super::device::Device;
use super::media;

impl Device {
    /// Returns the subdevices along the path to a node that a media graph feeds, from the sensor on. Each is a device
    /// with controls. An HDMI or analog receiver also has an EDID, timings, a standard and events. A camera does not
    /// hear the events of its subdevices: subscribe to them here. The list is empty for other nodes. Ioctls:
    /// `MEDIA_IOC_G_TOPOLOGY`, `VIDIOC_SUBDEV_G_ROUTING`.
    ///
    /// ```no_run
    /// use framelease::v4l2::Device;
    ///
    /// let camera = Device::find(|info| info.is_capture())?;
    /// if let Some(receiver) = camera.subdevices().first() {
    ///     if let Some(timings) = receiver.detect_timings()? {
    ///         receiver.set_timings(&timings)?;
    ///     }
    /// }
    /// # Ok::<(), framelease::Error>(())
    /// ```
    #[doc(alias = "MEDIA_IOC_G_TOPOLOGY")]
    pub fn subdevices(&self) -> Vec<Self> {
        match self.info().is_routed_by_graph() {
            true => media::subdevices(self),
            false => Vec::new(),
        }
    }
}
