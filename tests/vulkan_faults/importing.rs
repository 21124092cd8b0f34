//! Imports that a driver refuses.

use std::os::fd::{AsFd, AsRawFd};

use framelease::convert::{first_of, Converter, Cpu, Plan};
use framelease::dmabuf::{DmaBuf, MemoryKind};
use framelease::frame::{Frame, Pool};
use framelease::ErrorKind;

use super::fake::{Fake, Pictures, WAIT};
use crate::converting::Jobs;

#[test]
fn import_that_is_refused_fails_only_its_job() {
    let (fake, p) = (Fake::new(), Pictures::new(2));
    let mut vulkan = fake.open();
    fake.set("refused_imports", 1);
    vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
    let rejected = vulkan.done(WAIT).unwrap_err();
    assert_eq!(rejected.error.kind(), ErrorKind::Unsupported);
    let text = rejected.error.to_string();
    for part in ["vkAllocateMemory", "Fake GPU", "source 0", "VK_ERROR_INVALID_EXTERNAL_HANDLE", "cannot be imported"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    fake.set("refused_imports", 0);
    vulkan.begin(&p.plan, std::slice::from_ref(&p.source), rejected.item.unwrap()).unwrap();
    assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
    drop(vulkan);
    fake.is_empty();
}

/// The source of the pictures, through a descriptor for reading alone, as a camera exports it.
fn read_only(p: &Pictures) -> Frame {
    let layout = *p.targets.buffers().layout();
    let file = p.source.memory()[0].as_fd().as_raw_fd();
    let file = std::fs::File::open(format!("/proc/self/fd/{file}")).unwrap();
    let memory = vec![vec![DmaBuf::from_fd(file.into()).unwrap()]];
    Pool::from_memory(layout, memory).unwrap().try_acquire().unwrap().freeze_full(1, 1)
}

#[test]
fn import_of_read_only_buffer_names_the_remedy() {
    let (fake, p) = (Fake::new(), Pictures::new(2));
    let source = read_only(&p);
    // A driver that uses the buffer as it is.
    let mut vulkan = fake.open();
    let plan = Plan::clone(&p.plan).memory_of(&source).memory(MemoryKind::DmaBuf);
    vulkan.check(&plan).unwrap();
    vulkan.begin(&p.plan, std::slice::from_ref(&source), p.targets.try_acquire().unwrap()).unwrap();
    assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
    // One that maps it for writing.
    fake.set("maps_for_writing", 1);
    vulkan.reopen().unwrap();
    vulkan.begin(&p.plan, std::slice::from_ref(&source), p.targets.try_acquire().unwrap()).unwrap();
    let text = vulkan.done(WAIT).unwrap_err().error.to_string();
    assert!(text.contains("it is read-only") && text.contains("CameraBuilder::writable_buffers"), "{text}");
    drop(vulkan);
    fake.is_empty();
}

#[test]
fn auto_says_that_software_refuses_read_only_sources() {
    let (fake, p) = (Fake::new(), Pictures::new(1));
    fake.set("software", 1);
    let plan = Plan::clone(&p.plan).memory_of(&read_only(&p)).memory(MemoryKind::DmaBuf);
    let candidates = || [Ok(Box::new(fake.open()) as Box<dyn Converter>), Ok(Box::new(Cpu::new().unwrap()) as _)];
    let choice = first_of(candidates(), |_| Ok(plan.clone())).unwrap();
    assert_eq!((choice.converter.name(), choice.refused.len()), ("cpu", 1));
    let text = choice.refused[0].error.to_string();
    assert!(text.contains("Fake GPU") && text.contains("CameraBuilder::writable_buffers"), "{text}");
    // Writable sources.
    let writable = Plan::clone(&p.plan).memory_of(&p.source).memory(MemoryKind::DmaBuf);
    let choice = first_of(candidates(), |_| Ok(writable.clone())).unwrap();
    assert!(choice.converter.name().contains("Fake GPU"), "{}", choice.converter.name());
}

#[test]
fn import_for_one_buffer_only_is_dedicated() {
    let (fake, p) = (Fake::new(), Pictures::new(1));
    fake.set("dedicated", 1);
    let mut vulkan = fake.open();
    vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
    assert!(Pictures::is_drawn(&vulkan.done(WAIT).unwrap()));
    drop(vulkan);
    fake.is_empty();
}

#[test]
fn import_is_made_once_and_freed_with_its_buffer() {
    let (fake, p) = (Fake::new(), Pictures::new(2));
    let mut vulkan = fake.open();
    for _ in 0..10 {
        vulkan.begin(&p.plan, std::slice::from_ref(&p.source), p.targets.try_acquire().unwrap()).unwrap();
        vulkan.done(WAIT).unwrap();
    }
    // The source, one or two targets, the steps.
    let buffers = fake.get("buffers");
    assert!((3..=4).contains(&buffers) && fake.get("memory") == buffers, "{buffers}");
    // The buffers of other pools do not add up.
    for _ in 0..20 {
        let layout = *p.targets.buffers().layout();
        let targets = Pool::new(&framelease::dmabuf::Allocator::Memfd, layout, 1).unwrap();
        vulkan.begin(&p.plan, std::slice::from_ref(&p.source), targets.try_acquire().unwrap()).unwrap();
        vulkan.done(WAIT).unwrap();
    }
    assert!(fake.get("buffers") <= buffers + 2, "{}", fake.get("buffers"));
    drop(vulkan);
    fake.is_empty();
}
