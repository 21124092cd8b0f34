//! Stations in a tokio reactor.
#![cfg(feature = "tokio")]

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use framelease::capture::TestPattern;
use framelease::dmabuf::Allocator;
use framelease::format::{FrameInterval, Size};
use framelease::reactor::Ready;
use framelease::share::{Event, Publisher, Subscriber};

#[test]
fn source_publisher_and_subscriber_share_one_thread() {
    let folder = std::env::temp_dir().join(format!("framelease-reactor-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let interval = FrameInterval::from_fps(200);
    let source = TestPattern::builder(Size::new(64, 48)).interval(interval).allocator(Allocator::Memfd);
    let mut source = source.start().unwrap();
    let mut publisher = Publisher::builder(&path).bind().unwrap();
    publisher.announce(source.buffers()).unwrap();
    let subscriber = std::thread::spawn(move || Subscriber::builder(path).connect(Duration::from_secs(10)).unwrap());
    while !subscriber.is_finished() {
        publisher.wait(Duration::from_millis(1)).unwrap();
    }
    let subscriber = subscriber.join().unwrap();
    let _ = source.try_next();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let received = runtime.block_on(async move {
        let mut source = Ready::new(source).unwrap();
        let mut publisher = Ready::new(publisher).unwrap();
        let mut subscriber = Ready::new(subscriber).unwrap();
        let consumer = async move {
            let mut got = Vec::new();
            while got.len() < 20 {
                if let Event::Frame(f) = subscriber.run(|s| s.try_next()).await.unwrap() {
                    got.push(f.meta().sequence);
                }
            }
            got
        };
        let mut consumer = std::pin::pin!(consumer);
        loop {
            let mut frame = None;
            let got = {
                let mut next = std::pin::pin!(source.run(|s| s.try_next()));
                let mut served = std::pin::pin!(publisher.serve());
                let turn = std::future::poll_fn(|cx| {
                    if let Poll::Ready(got) = consumer.as_mut().poll(cx) {
                        return Poll::Ready(Some(got));
                    }
                    if let Poll::Ready(f) = next.as_mut().poll(cx) {
                        frame = Some(f.unwrap());
                        return Poll::Ready(None);
                    }
                    served.as_mut().poll(cx).map(|r| {
                        r.unwrap();
                        None
                    })
                });
                tokio::time::timeout(Duration::from_secs(10), turn).await.expect("frames come")
            };
            if let Some(got) = got {
                return got;
            }
            if let Some(frame) = frame {
                publisher.get().publish(frame, Duration::ZERO).unwrap();
            }
        }
    });
    assert!(received.windows(2).all(|w| w[0] < w[1]), "{received:?}");
    let _ = std::fs::remove_dir_all(folder);
}
