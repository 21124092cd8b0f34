//! framelease itself: one publisher, subscribers with the default policy (`Latest`, one frame at a time).

use std::os::fd::AsFd;
use std::time::Duration;

use framelease::dmabuf::{Allocator, DEFAULT_WAIT};
use framelease::format::{FourCc, Layout, Size};
use framelease::frame::Pool;
use framelease::share::{Publisher, Subscriber, SubscriberEvent};
use framelease::{Received, Station};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rivals::{now_ns, say_ready, Job, Result, Samples};

const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let job = Job::from_args()?;
    match (job.produces, job.is_source_alone) {
        (true, false) => produce(&job),
        (true, true) => tick(&job),
        (false, _) => consume(&job),
    }
}

fn timer(job: &Job) -> Result<TimerFd> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
    timer.set(Expiration::Interval(job.interval().into()), TimerSetTimeFlags::empty())?;
    Ok(timer)
}

fn wait(fds: &mut [PollFd]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn produce(job: &Job) -> Result<()> {
    let layout = Layout::packed(FourCc::NV12, Size::new(job.width, job.height))?;
    let pool = Pool::new(&Allocator::Memfd, layout, 2 * job.consumers + 4)?;
    let row = vec![16; job.bytes()];
    let mut filled = Vec::new();
    while let Some(mut frame) = pool.try_acquire() {
        frame.write(DEFAULT_WAIT)?.copy_payload(0, &row)?;
        filled.push(frame);
    }
    drop((filled, row));
    let mut publisher = Publisher::builder(&job.socket).reserve(2).bind()?;
    publisher.announce(pool.buffers())?;
    let timer = timer(job)?;
    let mut sequence = 0;
    say_ready()?;
    while !job.is_over() {
        let mut fds = [publisher.as_fd(), timer.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        wait(&mut fds)?;
        let [serve, is_time] = [0, 1].map(|i: usize| fds[i].any().unwrap_or(false));
        if serve {
            publisher.dispatch()?;
        }
        if is_time {
            timer.wait()?;
            sequence += 1;
            // None: all are held, the frame is lost.
            if let Some(frame) = pool.try_acquire() {
                let _ = publisher.try_publish(frame.freeze_full(sequence - 1, now_ns()))?;
            }
        }
    }
    Ok(())
}

fn consume(job: &Job) -> Result<()> {
    let mut subscriber = Subscriber::builder(&job.socket).connect(TIMEOUT)?;
    let mut samples = Samples::default();
    while !job.is_over() {
        match subscriber.recv(Duration::from_millis(500))? {
            Received::Item(SubscriberEvent::Frame(frame)) => {
                samples.received(frame.meta().sequence, frame.meta().timestamp_ns)?;
                if job.reads {
                    let pixels = frame.read(DEFAULT_WAIT)?;
                    for plane in 0..frame.layout().planes().len() {
                        pixels.plane(plane)?.rows().for_each(|row| samples.add_up_shared(row));
                    }
                }
            }
            Received::Ended => break,
            _ => {}
        }
    }
    samples.report()
}

/// The source alone.
fn tick(job: &Job) -> Result<()> {
    let timer = timer(job)?;
    say_ready()?;
    while !job.is_over() {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        wait(&mut fds)?;
        if fds[0].any().unwrap_or(false) {
            timer.wait()?;
        }
    }
    Ok(())
}
