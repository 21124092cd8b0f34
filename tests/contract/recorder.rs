//! The contract for `sink::recorder::Recorder` and `sink::ring::EventRecorder`. Their items are finished files, and
//! finished streams in a pipe.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use framelease::sink::recorder::{FileRotation, Recorder, RecorderEvent, RecorderOptions};
use framelease::sink::ring::{EventRecorder, RingOptions};
use framelease::Submit;
use nix::libc;
use nix::sys::stat::Mode;

use crate::packet_receiver::packet;
use crate::scene::{Kind, Scene};
use crate::support::Folder;

fn kind(event: &RecorderEvent) -> Kind {
    match event {
        RecorderEvent::File { .. } => Kind::Item,
        _ => Kind::Error,
    }
}

/// A recorder, and the time of its next packet.
struct Recording {
    recorder: Recorder,
    next: u64,
    _folder: Folder,
}

impl Recording {
    fn new(folder: Folder, rotation: FileRotation) -> Self {
        let recorder = Recorder::new(folder.file("a.mkv"), RecorderOptions::default().rotation(rotation)).unwrap();
        Self { recorder, next: 1, _folder: folder }
    }

    /// Submits a packet. Returns `false` if there was no room.
    fn submit(&mut self, timestamp_ns: u64, bytes: usize) -> bool {
        self.next += 1;
        self.recorder.try_submit(packet(self.next, timestamp_ns, bytes)).unwrap().is_taken()
    }
}

/// Submits a packet and returns a clone, for another thread.
fn last_lease(recording: &mut Recording) -> crate::scene::Task {
    let packet = packet(1, 1_000, 1_000);
    let clone = packet.clone();
    assert!(recording.recorder.try_submit(packet).unwrap().is_taken());
    Box::new(move || assert_eq!(clone.bytes().len(), 1_000))
}

mod files {
    use super::*;
    use crate::scene::Description;

    struct Files(Recording);

    impl Scene for Files {
        type Station = Recorder;

        const DESCRIPTION: Description<Self> = Description {
            // A key frame for another file finishes the previous one.
            give: |scene| {
                let timestamp_ns = scene.0.next * 1_000_000_000;
                assert!(scene.0.submit(timestamp_ns, 100));
            },
            most_waiting: 20,
            many: 100,
            extra_wakes: 0,
            most_ignored: Some(64),
            // With a regular file, `try_submit` returns the errors.
            fail: None,
            end: Some(|scene| scene.0.recorder.finish()),
            gives_before_end: true,
            // A regular file always has room.
            fill: None,
            make_room: None,
            // Another thread cannot make anything possible.
            elsewhere: None,
            // It does not use a device.
            restart: None,
            last_lease: Some(|scene| last_lease(&mut scene.0)),
            // It has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn new() -> Self {
            let mut recording = Recording::new(Folder::new(), FileRotation::default().bytes(1));
            // The first item finishes the file that begins here.
            assert!(recording.submit(1_000_000, 100));
            Self(recording)
        }

        fn station(&mut self) -> &mut Recorder {
            &mut self.0.recorder
        }

        fn kind(event: &RecorderEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Files);
}

mod pipe {
    use super::*;
    use crate::scene::Description;

    struct Pipe {
        // Before the reader, so that the recorder has a reader while it ends.
        recording: Recording,
        reader: Option<std::fs::File>,
    }

    fn read(reader: &mut std::fs::File) -> usize {
        let (mut bytes, mut all) = ([0; 65_536], 0);
        while let Ok(read @ 1..) = reader.read(&mut bytes) {
            all += read;
        }
        all
    }

    impl Pipe {
        fn fill(&mut self) {
            let mut at = self.recording.next * 1_000_000;
            while self.recording.submit(at, 4_000) {
                at += 1_000_000;
            }
        }

        fn read(&mut self) {
            assert!(read(self.reader.as_mut().unwrap()) > 0);
        }
    }

    impl Scene for Pipe {
        type Station = Recorder;

        const DESCRIPTION: Description<Self> = Description {
            // A time that goes back begins another stream, and ends the previous one.
            give: |scene| {
                let timestamp_ns = 1_000_000_000 - scene.recording.next * 1_000;
                assert!(scene.recording.submit(timestamp_ns, 100));
                scene.read();
            },
            most_waiting: 20,
            many: 100,
            extra_wakes: 0,
            most_ignored: Some(64),
            // The reader closes the pipe while packets wait for it.
            fail: Some(|scene| {
                scene.fill();
                scene.reader = None;
            }),
            end: Some(|scene| scene.recording.recorder.finish()),
            gives_before_end: true,
            fill: Some(Self::fill),
            make_room: Some(Self::read),
            elsewhere: Some(|scene| {
                scene.fill();
                let mut reader = scene.reader.take().unwrap();
                Box::new(move || {
                    assert!(read(&mut reader) > 0);
                    // The pipe stays open.
                    std::mem::forget(reader);
                })
            }),
            // It does not use a device.
            restart: None,
            last_lease: Some(|scene| last_lease(&mut scene.recording)),
            // It has no clients.
            crowd: None,
            // The reader of a pipe does not see an end while another process has the pipe open.
            drop_is_seen: None,
        };

        fn new() -> Self {
            let folder = Folder::new();
            let path = folder.file("a.mkv");
            nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
            let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
            let mut recording = Recording::new(folder, FileRotation::default());
            assert!(recording.submit(1_000_000_000, 100));
            let mut scene = Self { recording, reader: Some(reader) };
            scene.read();
            scene
        }

        fn station(&mut self) -> &mut Recorder {
            &mut self.recording.recorder
        }

        fn kind(event: &RecorderEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Pipe);
}

mod events {
    use super::*;
    use crate::scene::Description;

    /// Each trigger records one packet.
    struct Events {
        recorder: EventRecorder,
        next: u64,
        _folder: Folder,
    }

    impl Events {
        fn submit(&mut self) {
            self.next += 1;
            let packet = packet(self.next, self.next * 1_000_000_000, 100);
            assert!(self.recorder.try_submit(packet).unwrap().is_taken());
        }
    }

    impl Scene for Events {
        type Station = EventRecorder;

        const DESCRIPTION: Description<Self> = Description {
            // The packet after a trigger finishes its recording.
            give: |scene| {
                scene.recorder.trigger().unwrap();
                scene.submit();
            },
            most_waiting: 20,
            many: 100,
            extra_wakes: 0,
            most_ignored: Some(64),
            // With a regular file, `trigger` returns the errors.
            fail: None,
            end: Some(|scene| {
                scene.recorder.trigger().unwrap();
                scene.recorder.finish();
            }),
            gives_before_end: true,
            // A regular file always has room.
            fill: None,
            make_room: None,
            // Another thread cannot make anything possible.
            elsewhere: None,
            // It does not use a device.
            restart: None,
            // It copies the packets of a camera or an encoder.
            last_lease: None,
            // It has no clients.
            crowd: None,
            drop_is_seen: None,
        };

        fn new() -> Self {
            let folder = Folder::new();
            let ring = RingOptions::default().before(Duration::ZERO).after(Duration::ZERO);
            let recorder = EventRecorder::new(folder.file("e.mkv"), RecorderOptions::default(), ring).unwrap();
            let mut events = Self { recorder, next: 0, _folder: folder };
            events.submit();
            events
        }

        fn station(&mut self) -> &mut EventRecorder {
            &mut self.recorder
        }

        fn kind(event: &RecorderEvent) -> Kind {
            kind(event)
        }
    }

    crate::contract!(Events);
}
