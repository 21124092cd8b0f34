//! Stations in a tokio reactor.
#![cfg(feature = "tokio")]

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use framelease::capture::{FrameSource, TestPattern};
use framelease::dmabuf::Allocator;
use framelease::format::{FrameInterval, Size};
use framelease::reactor::Ready;
use framelease::share::{Publisher, Subscriber};
use framelease::Station;

#[test]
fn source_publisher_and_subscriber_share_one_thread() {
    let folder = std::env::temp_dir().join(format!("framelease-reactor-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let interval = FrameInterval::from_fps(200);
    let source = TestPattern::builder(Size::new(64, 48)).interval(interval).allocator(Allocator::Memfd);
    let mut source = source.start().unwrap();
    let mut publisher = Publisher::builder(&path).bind().unwrap();
    publisher.announce(source.buffers().unwrap()).unwrap();
    let subscriber = std::thread::spawn(move || Subscriber::builder(path).connect(Duration::from_secs(10)).unwrap());
    while !subscriber.is_finished() {
        drop(publisher.recv(Duration::from_millis(1)).unwrap());
    }
    let subscriber = subscriber.join().unwrap();
    let _ = source.try_recv();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let received = runtime.block_on(async move {
        let mut source = Ready::new(source).unwrap();
        let mut publisher = Ready::new(publisher).unwrap();
        let mut subscriber = Ready::new(subscriber).unwrap();
        let consumer = async move {
            let mut got = Vec::new();
            while got.len() < 20 {
                if let Some(f) = subscriber.recv().await.unwrap().frame() {
                    got.push(f.meta().sequence);
                }
            }
            got
        };
        let mut consumer = std::pin::pin!(consumer);
        loop {
            let mut frame = None;
            let got = {
                let mut next = std::pin::pin!(source.recv());
                let mut served = std::pin::pin!(publisher.recv());
                let turn = std::future::poll_fn(|cx| {
                    if let Poll::Ready(got) = consumer.as_mut().poll(cx) {
                        return Poll::Ready(Some(got));
                    }
                    if let Poll::Ready(f) = next.as_mut().poll(cx) {
                        frame = f.unwrap().frame();
                        return Poll::Ready(None);
                    }
                    served.as_mut().poll(cx).map(|r| {
                        drop(r.unwrap());
                        None
                    })
                });
                tokio::time::timeout(Duration::from_secs(10), turn).await.expect("frames come")
            };
            if let Some(got) = got {
                return got;
            }
            if let Some(frame) = frame {
                assert!(publisher.get().publish(frame, Duration::ZERO).unwrap().is_taken());
            }
        }
    });
    assert!(received.windows(2).all(|w| w[0] < w[1]), "{received:?}");
    let _ = std::fs::remove_dir_all(folder);
}
