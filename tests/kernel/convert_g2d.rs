//! Tests of the software libg2d between a camera and an encoder. A camera's buffers are exported for reading alone, and
//! the library maps its sources so.

use std::sync::Arc;

use framelease::bitstream::Codec;
use framelease::capture::FrameSource;
use framelease::codec::Encoder;
use framelease::convert::g2d::Contiguity;
use framelease::convert::{Converter, Cpu, Layer, Plan, Request};
use framelease::dmabuf::Allocator;
use framelease::format::Size;
use framelease::frame::Pool;
use framelease::stats::cpu_bytes;

use crate::coding::{coded, drained, h264, params, Judged, WAIT};
use crate::conformance::converting::Jobs;
use crate::conformance::picture::psnr;
use crate::conformance::rgb::rgb;
use crate::devices::*;
use crate::g2d::support::{Changes, Fake, ABIS};

#[test]
fn g2d_takes_the_camera_s_buffers_and_the_encoder_takes_its_own() {
    const TARGET: Size = Size::new(320, 180);
    for (abi, planar, format) in
        [(ABIS[0], Planar::Single, "NV12"), (ABIS[1], Planar::Multi, "NV12M"), (ABIS[1], Planar::Single, "YUYV")]
    {
        let (Some(device), Some(encoder)) = (vivid(planar), h264("")) else { return };
        let fake = Fake::changed(abi, &Changes { file: Some("libg2d-dpu.so"), ..Changes::default() });
        fake.set("variant", 1).set("nv12_target", 1);
        leaving_nothing(|| {
            let mut camera = camera(&device, format).open().unwrap();
            let source = *camera.layout().unwrap();
            let mut g2d = fake.builder().contiguity(Contiguity::Assume).open().unwrap();
            let target = g2d.target_layout(fourcc("NV12"), TARGET).unwrap();
            let plan = Arc::new(Plan::new(&Request::convert(Layer::default()), &[source], &target).unwrap());
            let pool = Pool::new(&Allocator::Udmabuf, target, 4).unwrap();
            let builder = Encoder::builder(params(Codec::H264, TARGET)).device(encoder);
            let mut encoder = builder.open(pool.buffers()).unwrap();
            let mut judge = Judged::new(&format!("g2d-{abi:?}-{format}"));
            for i in 0..6 {
                let frame = frame(&mut camera);
                let before = cpu_bytes();
                g2d.begin(&plan, std::slice::from_ref(&frame), pool.acquire(WAIT).unwrap()).unwrap();
                let drawn = g2d.done(WAIT).unwrap();
                let packet = coded(&mut encoder, drawn.clone());
                assert_eq!(cpu_bytes(), before, "{abi} {format}: no pixel is touched");
                assert_eq!(packet.meta().source, Some(frame.meta().sequence));
                judge.frame(&drawn);
                judge.packet(&packet);
                drop(packet);
                if i == 0 {
                    let mut cpu = Cpu::new().unwrap();
                    cpu.begin(&plan, &[frame], pool.acquire(WAIT).unwrap()).unwrap();
                    let expected = cpu.done(WAIT).unwrap();
                    let db = psnr(&rgb(&expected).unwrap(), &rgb(&drawn).unwrap(), |_| true);
                    assert!(db > 30.0, "{abi} {format}: {db:.1} dB");
                }
            }
            assert!(drained(&mut encoder).is_empty());
            fake.lawful();
        });
    }
}
