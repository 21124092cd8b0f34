//! Converts one job at a time, for tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::convert::{Converter, ConverterEvent, Plan};
use framelease::frame::{Frame, FrameMut};
use framelease::{Received, Rejected, Submitted};

/// A finished frame, or the error of the job with its target.
pub type Done = Result<Frame, Rejected<Option<FrameMut>>>;

/// Begins jobs and waits for them.
#[allow(dead_code)] // Not every test program needs all of it.
pub trait Jobs: Converter {
    /// Begins a job that must find room.
    fn begin(&mut self, plan: &Arc<Plan>, sources: &[Frame], target: FrameMut) -> Result<(), Rejected<FrameMut>> {
        match self.try_submit(plan, sources, target)? {
            Submitted::Taken => Ok(()),
            Submitted::Full(_) => panic!("the converter is full"),
        }
    }

    /// Returns the end of the oldest job, if it is done. Skips reports of the device.
    fn try_done(&mut self) -> Option<Done> {
        loop {
            return match self.try_recv().unwrap() {
                Received::Item(ConverterEvent::Frame(frame)) => Some(Ok(frame)),
                Received::Item(ConverterEvent::Failed { error, target }) => Some(Err(Rejected { error, item: target })),
                Received::Item(_) => continue,
                Received::Nothing => None,
                Received::Ended => panic!("a converter has no end"),
            };
        }
    }

    /// Returns the end of the oldest job, which must be done in time.
    fn done(&mut self, timeout: Duration) -> Done {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let received = self.recv(left).map_err(|error| Rejected { error, item: None })?;
            return match received {
                Received::Item(ConverterEvent::Frame(frame)) => Ok(frame),
                Received::Item(ConverterEvent::Failed { error, target }) => Err(Rejected { error, item: target }),
                Received::Nothing if left.is_zero() => panic!("not done within {timeout:?}"),
                Received::Item(_) | Received::Nothing => continue,
                Received::Ended => panic!("a converter has no end"),
            };
        }
    }
}

impl<C: Converter + ?Sized> Jobs for C {}
