//! Clocks that jump: a machine that slept, a virtual machine that was moved, a clock that is set.

use crate::calls::{Answer, Fault, CALLS};
use crate::{descriptors, places, run, sinks, text, Victim, ALONE};

const HOUR: i64 = 3_600;
const CENTURY: i64 = 100 * 365 * 24 * HOUR;

/// Faults at the calls of these names, in turn.
fn jumps<'a>(counts: &'a [u32], names: &'a [&str], answer: Answer) -> impl Iterator<Item = Fault> + 'a {
    let calls = CALLS.iter().enumerate().filter(|(_, (name, _))| names.contains(name));
    calls.flat_map(move |(call, _)| places(counts[call]).map(move |nth| Fault { call, nth, answer }))
}

#[test]
fn clock_jumps_do_not_harm_a_publisher_or_subscriber() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (published, subscribed) = run(Victim::None, None).unwrap();
    let before = descriptors();
    let victims = [(Victim::Publisher, published.counts), (Victim::Subscriber, subscribed[0].counts)];
    let names = ["epoll_wait", "sendmsg", "send", "recvmsg", "poll", "accept4", "connect"];
    let mut tried = 0;
    for (victim, counts) in victims {
        for fault in jumps(&counts, &names, Answer::Jump(HOUR, -CENTURY)) {
            let what = format!("{victim:?}, {}", text(Some(fault)));
            let (published, subscribed) = run(victim, Some(fault)).unwrap_or_else(|e| panic!("{e}: {what}"));
            assert!(published.result.is_ok() && published.held == 0, "{what}: {:?}", published.result);
            let mut others = subscribed[1..].iter();
            assert!(victim == Victim::Publisher || others.all(|s| s.result.is_ok() && s.missed == 0), "{what}");
            assert_eq!(descriptors(), before, "{what}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn clock_jumps_do_not_harm_a_sender_or_server() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let before = descriptors();
    for answer in [Answer::Jump(0, -CENTURY), Answer::Jump(0, 5 * CENTURY), Answer::Jump(HOUR, HOUR)] {
        let fault = |name| Fault { call: CALLS.iter().position(|(n, _)| *n == name).unwrap(), nth: 5, answer };
        let stats = sinks::sent_to_two(fault("sendmmsg"));
        assert!(stats.iter().all(|s| s.frames > 0 && s.frames + s.dropped == sinks::PACKETS), "{answer:?}: {stats:?}");
        // An hour without a message from the clients ends their sessions, and nothing else.
        let fault = fault("sendmsg");
        let served = sinks::serve(&sinks::packets(), Some(fault));
        assert!(served.counts[fault.call] >= fault.nth, "the call was never made");
        assert!(served.result.is_ok() && served.left == 0, "{answer:?}: {:?}", served.result);
        assert!(served.clients.iter().all(Option::is_some) || answer == Answer::Jump(HOUR, HOUR), "{answer:?}");
        assert_eq!(descriptors(), before, "{answer:?}");
    }
}
