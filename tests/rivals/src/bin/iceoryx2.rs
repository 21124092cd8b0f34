//! iceoryx2: samples in its own shared memory, and an event for each to wake who waits. Its memory is not a device's:
//! "loan" is a source that could draw into it, "copy" what a camera's frames need.

use std::time::Duration;

use iceoryx2::prelude::*;
use nix::sys::time::TimeSpec;
use nix::time::{clock_nanosleep, ClockId, ClockNanosleepFlags};
use rivals::{now_ns, say_ready, Job, Result, Samples};

type Pixels = [u8];
/// Sequence and time.
type Stamp = [u64; 2];

fn main() -> Result<()> {
    set_log_level(LogLevel::Error);
    let job = Job::from_args()?;
    let node = NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled).create::<ipc::Service>()?;
    let frames = node
        .service_builder(&job.socket.as_str().try_into()?)
        .publish_subscribe::<Pixels>()
        .user_header::<Stamp>()
        .max_subscribers(job.consumers.max(1))
        .max_nodes(32)
        .subscriber_max_buffer_size(1)
        .subscriber_max_borrowed_samples(1)
        .history_size(0)
        .open_or_create()?;
    let wakes = node
        .service_builder(&job.socket.as_str().try_into()?)
        .event()
        .max_listeners(job.consumers.max(1))
        .max_nodes(32)
        .open_or_create()?;
    if !job.produces {
        let subscriber = frames.subscriber_builder().create()?;
        let listener = wakes.listener_builder().create()?;
        let mut samples = Samples::default();
        while !job.is_over() {
            // An interrupted wait is an error here.
            let _ = listener.timed_wait(|_| (), Duration::from_millis(500));
            while let Some(sample) = subscriber.receive()? {
                let [sequence, published_ns] = *sample.user_header();
                samples.received(sequence, published_ns)?;
                if job.reads {
                    samples.add_up(sample.payload());
                }
            }
        }
        return samples.report();
    }
    let publisher = frames.publisher_builder().initial_max_slice_len(job.bytes()).create()?;
    let notifier = wakes.notifier_builder().create()?;
    let camera = vec![16; job.bytes()];
    // As the others' buffers, its memory is there before it counts.
    let mut all = Vec::new();
    while let Ok(sample) = publisher.loan_slice_uninit(job.bytes()) {
        all.push(sample.write_from_slice(&camera));
    }
    drop(all);
    let (mut sequence, mut next) = (0, Duration::from_nanos(now_ns()));
    say_ready()?;
    while !job.is_over() {
        next += job.interval();
        if clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &TimeSpec::from(next)).is_err()
        {
            continue;
        }
        if job.is_source_alone {
            continue;
        }
        let stamp = [sequence, now_ns()];
        sequence += 1;
        // Err: all are held, the frame is lost.
        let Ok(mut sample) = publisher.loan_slice_uninit(job.bytes()) else { continue };
        *sample.user_header_mut() = stamp;
        let sample = if job.copies {
            sample.write_from_slice(&camera)
        } else {
            // SAFETY: the payload is bytes, any of which are valid; the kernel has zeroed the shared memory
            // in which they lie, so they are initialized.
            unsafe { sample.assume_init() }
        };
        sample.send()?;
        notifier.notify()?;
    }
    Ok(())
}
