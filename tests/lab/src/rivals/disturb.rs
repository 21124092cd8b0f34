//! One consumer of three is stopped for ten seconds, another one is killed: what do the others lose?

use std::time::Duration;

use super::build::Contender;
use super::figures::Key;
use super::process::now_ns;
use super::turn::{Running, Sample};
use super::SIZES;
use crate::Res;

const STOPPED: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(2);

/// Frames that the others lost, and how many there were. Of the others, the one that lost most.
#[derive(Clone, Debug)]
pub struct Losses {
    pub stop: (u64, u64),
    pub kill: (u64, u64),
}

pub fn run(contender: &Contender) -> Res<Losses> {
    let running = Running::start(contender, Key { size: SIZES[0], consumers: 3, reads: false })?;
    std::thread::sleep(Duration::from_secs(1));
    let mut at = vec![now_ns()];
    running.consumers[0].signal(libc::SIGSTOP);
    std::thread::sleep(STOPPED);
    at.push(now_ns());
    running.consumers[0].signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_secs(1));
    at.push(now_ns());
    running.consumers[1].signal(libc::SIGKILL);
    std::thread::sleep(AFTER);
    at.push(now_ns());
    let seen = running.finish();
    let worst = |from, to, others: &[usize]| {
        let fps = u64::from(SIZES[0].fps);
        let lost = others.iter().map(|&i| lost(&seen[i], from, to, fps)).max().unwrap_or(0);
        (lost, (to - from) * fps / 1_000_000_000)
    };
    // A killed consumer does not report what it got before.
    Ok(Losses { stop: worst(at[0], at[1], &[2]), kill: worst(at[2], at[3], &[0, 2]) })
}

/// Frames that did not come, or came so late that the time was over, between two moments.
fn lost(seen: &[Sample], from: u64, to: u64, fps: u64) -> u64 {
    let interval = 1_000_000_000 / fps;
    let expected = (to - from) / interval;
    let got: Vec<&Sample> = seen.iter().filter(|s| (from..to).contains(&s.received_ns)).collect();
    let (Some(first), Some(last)) = (got.first(), got.last()) else { return expected };
    // The ends of the time cut an interval in two each.
    let is_whole = last.sequence - first.sequence + 1 == got.len() as u64;
    let has_ends = first.received_ns - from < 2 * interval && to - last.received_ns < 2 * interval;
    match is_whole && has_ends {
        true => 0,
        false => expected.saturating_sub(got.len() as u64).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_frames() {
        let at = |sequence: u64| Sample { sequence, published_ns: 0, received_ns: sequence * 100_000_000 + 50 };
        let seen: Vec<Sample> = (0..100).map(at).collect();
        assert_eq!(lost(&seen, 1_000_000_000, 3_000_000_000, 10), 0);
        let gap: Vec<Sample> = (0..100).filter(|n| !(15..18).contains(n)).map(at).collect();
        assert_eq!(lost(&gap, 1_000_000_000, 3_000_000_000, 10), 3);
        let frozen: Vec<Sample> = (0..15).map(at).collect();
        assert_eq!(lost(&frozen, 1_000_000_000, 3_000_000_000, 10), 15);
        assert_eq!(lost(&[], 1_000_000_000, 3_000_000_000, 10), 20);
    }
}
