//! Tests plans on the graphs of real boards, which `tests/graphs` has.

use std::path::Path;

use super::super::model::Model;
use super::super::steps::apply;
use super::*;

const HD: Size = Size::new(1280, 720);

fn board(name: &str) -> Model {
    Model::parse(&text(name))
}

fn text(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    std::fs::read_to_string(folder.join(name).with_extension("txt")).unwrap()
}

fn fourccs(names: &[&str]) -> Vec<FourCc> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Sets a pipeline up, starts it as the kernel does, and checks that a second plan has nothing to do. Returns the
/// commands and what the node gives.
fn set_up(model: Model, node: &str, wish: &Wish<'_>) -> (Vec<String>, String) {
    let numbers = model.node_of(node);
    let before = model.snapshot();
    let plan = plan(&model.graph, numbers, wish, &model).unwrap();
    assert_eq!(model.snapshot(), before, "a plan changes nothing");
    let gives = format!("{} {}", plan.fourcc, plan.size);
    let all: Vec<Step<'_>> = plan.steps.iter().chain(&plan.own).cloned().collect();
    let commands = all.iter().map(|step| step.command(&model.graph)).collect();
    apply(&model.graph, &all, &model).unwrap();
    let sensor = plan.sensor.name.clone();
    assert_eq!(model.start(numbers), Ok(vec![sensor]));
    let model = model.reread();
    let again = super::plan(&model.graph, numbers, wish, &model).unwrap();
    assert!(again.steps.is_empty() && again.own.is_none(), "{again:?}");
    (commands, gives)
}

#[test]
fn isi_of_imx8mp_scales_what_the_sensor_does_not_have() {
    let nv12 = fourccs(&["NV12"]);
    let wish = |size| Wish { formats: &nv12, size: Some(size), ..Wish::default() };
    let (commands, gives) = set_up(board("nxp-imx8mp-isi"), "mxc_isi.0.capture", &wish(HD));
    assert_eq!(gives, "NV12 1280x720");
    let lines = [
        "media-ctl -d /dev/media0 -V '\"ov5640 1-003c\":0 [fmt:UYVY8_1X16/1280x720 field:none]'",
        "media-ctl -d /dev/media0 -V '\"csis-32e40000.csi\":0 [fmt:UYVY8_1X16/1280x720 field:none]'",
        "media-ctl -d /dev/media0 -V '\"csis-32e40000.csi\":1 [fmt:UYVY8_1X16/1280x720 field:none]'",
        "media-ctl -d /dev/media0 -V '\"crossbar\":0 [fmt:UYVY8_1X16/1280x720 field:none]'",
        "media-ctl -d /dev/media0 -V '\"crossbar\":3 [fmt:UYVY8_1X16/1280x720 field:none]'",
        "media-ctl -d /dev/media0 -V '\"mxc_isi.0\":0 [fmt:UYVY8_1X16/1280x720 field:none]'",
        "media-ctl -d /dev/media0 -V '\"mxc_isi.0\":0 [compose:(0,0)/1280x720]'",
        "media-ctl -d /dev/media0 -V '\"mxc_isi.0\":1 [crop:(0,0)/1280x720]'",
        "media-ctl -d /dev/media0 -V '\"mxc_isi.0\":1 [fmt:YUV8_1X24/1280x720 field:none]'",
        "v4l2-ctl -d /dev/video8 -v width=1280,height=720,pixelformat=NV12",
    ];
    assert_eq!(commands, lines);
    // The same shape: scaled. Another shape: scaled to cover it, then cropped.
    for (size, compose) in [(Size::new(800, 600), "(0,0)/800x600"), (Size::new(960, 400), "(0,0)/960x720")] {
        let (commands, gives) = set_up(board("nxp-imx8mp-isi"), "mxc_isi.0.capture", &wish(size));
        assert_eq!(gives, format!("NV12 {size}"));
        assert!(commands.iter().any(|line| line.contains(&format!("compose:{compose}"))), "{commands:#?}");
    }
}

#[test]
fn crossbar_of_imx8mp_is_routed_only_where_the_kernel_can() {
    let name = "nxp-imx8mp-isi";
    let raw = fourccs(&["SRGGB10"]);
    let wish = Wish { formats: &raw, size: Some(Size::new(1640, 1232)), ..Wish::default() };
    assert_eq!(set_up(board(name), "mxc_isi.1.capture", &wish).1, "RG10 1640x1232");
    // The second sensor has no ISP.
    let nv12 = fourccs(&["NV12"]);
    let model = board(name);
    let e = plan(&model.graph, model.node_of("mxc_isi.1.capture"), &Wish { formats: &nv12, ..wish }, &model);
    assert_eq!(e.unwrap_err(), "no format of 'imx219 2-0010' goes through every pad to the node");
    // Without routes, the first pipe has the first sensor.
    let other = Wish { sensor: Some("imx219 2-0010"), ..wish };
    let e = plan(&model.graph, model.node_of("mxc_isi.0.capture"), &other, &model).unwrap_err();
    assert_eq!(e, "asked the sensor 'imx219 2-0010'; the node can have 'ov5640 1-003c'");
    let routed = text(name).replace("crossbar 'crossbar'\n", "crossbar 'crossbar'\n  routes 0->3 1->4\n");
    let (commands, gives) = set_up(Model::parse(&routed), "mxc_isi.0.capture", &other);
    assert_eq!(gives, "RG10 1640x1232");
    assert_eq!(commands[0], "media-ctl -d /dev/media0 -R '\"crossbar\" [1/0->4/0 [1], 1/0->3/0 [1]]'");
    let (commands, _) = set_up(Model::parse(&routed), "mxc_isi.1.capture", &wish);
    assert!(!commands[0].contains(" -R "), "{commands:#?}");
}

#[test]
fn bridge_of_imx8mm_gets_its_sensor_linked() {
    let wish = Wish { size: Some(Size::new(1920, 1080)), ..Wish::default() };
    let (commands, gives) = set_up(board("nxp-imx8mm-csi"), "csi capture", &wish);
    assert_eq!(gives, "UYVY 1920x1080");
    let link = "media-ctl -d /dev/media0 -l '\"ov5640 1-003c\":0 -> \"csis-32e30000.mipi-csi\":0 [1]'";
    assert_eq!(commands[0], link);
    // No block scales.
    let odd = Wish { size: Some(Size::new(1000, 700)), ..Wish::default() };
    assert_eq!(set_up(board("nxp-imx8mm-csi"), "csi capture", &odd).1, "UYVY 1024x768");
}

#[test]
fn receiver_of_raspberry_pi_leaves_the_isp_s_front_end() {
    let formats = fourccs(&["SRGGB10P", "SRGGB8"]);
    let wish = Wish { formats: &formats, size: Some(Size::new(1920, 1080)), ..Wish::default() };
    let (commands, gives) = set_up(board("raspberrypi-5-cfe"), "rp1-cfe-csi2_ch0", &wish);
    assert_eq!(gives, "pRAA 1920x1080");
    assert_eq!(commands[0], "media-ctl -d /dev/media0 -l '\"csi2\":4 -> \"pisp-fe\":0 [0]'");
    assert_eq!(commands[1], "media-ctl -d /dev/media0 -l '\"csi2\":4 -> \"rp1-cfe-csi2_ch0\":0 [1]'");
    let (commands, gives) = set_up(board("raspberrypi-5-cfe"), "rp1-cfe-fe_image0", &Wish::default());
    assert_eq!((gives.as_str(), commands.len()), ("pRAA 1640x1232", 2), "{commands:#?}");

    let (commands, gives) = set_up(board("raspberrypi-4-unicam"), "unicam-image", &Wish::default());
    assert_eq!((gives.as_str(), commands.len()), ("pGAA 1296x972", 1), "{commands:#?}");
}

#[test]
fn isp_of_rk3399_keeps_both_of_its_paths_valid() {
    let nv12 = fourccs(&["NV12"]);
    let wish = Wish { formats: &nv12, size: Some(HD), ..Wish::default() };
    let (commands, gives) = set_up(board("rockchip-rk3399-isp1"), "rkisp1_mainpath", &wish);
    assert_eq!(gives, "NV12 1280x720");
    let selfpath = "'\"rkisp1_resizer_selfpath\":0 [fmt:YUYV8_2X8/1344x760 field:none]'";
    assert!(commands.iter().any(|line| line.ends_with(selfpath)), "{commands:#?}");
    // A shape that the sensor does not have is cropped, not stretched.
    let square = Wish { size: Some(Size::new(600, 600)), ..wish };
    let (commands, _) = set_up(board("rockchip-rk3399-isp1"), "rkisp1_mainpath", &square);
    assert!(commands.iter().any(|line| line.ends_with("mainpath\":0 [crop:(292,0)/760x760]'")), "{commands:#?}");
}

#[test]
fn receiver_of_rk3588_is_followed_through_pads_without_formats() {
    let wish = Wish { size: Some(Size::new(1944, 1097)), ..Wish::default() };
    let (commands, gives) = set_up(board("rockchip-rk3588-cif"), "stream_cif_mipi_id0", &wish);
    assert_eq!((gives.as_str(), commands.len()), ("NV12 1944x1097", 4), "{commands:#?}");
}

#[test]
fn sensor_that_streams_elsewhere_keeps_its_format() {
    let nv12 = fourccs(&["NV12"]);
    let wish = |size| Wish { formats: &nv12, size: Some(size), ..Wish::default() };
    // The first path is set up and streams.
    let model = board("rockchip-rk3399-isp1");
    let node = model.node_of("rkisp1_mainpath");
    let first = plan(&model.graph, node, &wish(Size::new(640, 480)), &model).unwrap();
    apply(&model.graph, &[&first.steps[..], &[first.own.clone().unwrap()]].concat(), &model).unwrap();
    model.busy.borrow_mut().push("rkisp1_mainpath".into());
    // The sensor has a larger size, but the second path can only scale what comes.
    let (commands, gives) = set_up(model, "rkisp1_selfpath", &wish(Size::new(1920, 1080)));
    assert_eq!(gives, "NV12 1344x760");
    let touched = ["ov4689", "rkisp1_isp", "mainpath"];
    assert!(!commands.iter().any(|line| touched.iter().any(|name| line.contains(name))), "{commands:#?}");
}

#[test]
fn new_route_keeps_the_formats_of_the_others() {
    let sensor = |name: &str| format!("sensor '{name}'\n codes UYVY8_1X16\n sizes 1280x720\n source 0\n");
    let node = |name: &str| format!("node '{name}' UYVY 1280x720\n sink 0\n offers UYVY8_1X16 UYVY\n");
    let crossbar = "crossbar 'crossbar'\n routes 0->2 1->3\n codes UYVY8_1X16\n sink 0 UYVY8_1X16 1280x720\n \
                    sink 1 UYVY8_1X16 1280x720\n source 2 UYVY8_1X16 1280x720\n source 3 UYVY8_1X16 1280x720\n";
    let links = "link 'A':0 -> 'crossbar':0 on\nlink 'B':0 -> 'crossbar':1 on\n\
                 link 'crossbar':2 -> 'first':0 on\nlink 'crossbar':3 -> 'second':0 on\n";
    let text = [&sensor("A"), &sensor("B"), crossbar, &node("first"), &node("second"), links].concat();
    let wish = Wish { sensor: Some("B"), ..Wish::default() };
    let (commands, _) = set_up(Model::parse(&text), "first", &wish);
    assert!(commands[0].contains(" -R ") && commands.len() > 4, "{commands:#?}");
    // The other node starts as before.
    let model = Model::parse(&text);
    let planned = plan(&model.graph, model.node_of("first"), &wish, &model).unwrap();
    apply(&model.graph, &planned.steps, &model).unwrap();
    assert!(model.start(model.node_of("second")).is_ok());
}

#[test]
fn pipeline_that_fits_keeps_branches_that_lead_nowhere() {
    let text = "sensor 'A'\n codes UYVY8_1X16\n sizes 640x480\n source 0\npass 'statistics'\n codes UYVY8_1X16\n \
                sink 0 UYVY8_1X16 640x480\n source 1\nnode 'video' UYVY 640x480\n sink 0\n offers UYVY8_1X16 UYVY\n\
                link 'A':0 -> 'video':0 on\nlink 'A':0 -> 'statistics':0 on\n";
    let (commands, _) = set_up(Model::parse(text), "video", &Wish::default());
    assert_eq!(commands, [""; 0]);
}

#[test]
fn node_without_a_sensor_says_so() {
    let lonely = "pass 'csi'\n codes UYVY8_1X16\n sink 0\n source 1\nnode 'capture' UYVY 640x480\n sink 0\n\
                  link 'csi':1 -> 'capture':0 on\n";
    let model = Model::parse(lonely);
    let node = (81, 2);
    let e = plan(&model.graph, node, &Wish::default(), &model).unwrap_err();
    assert_eq!(e, "no sensor can reach the node");
}

/// Drivers may list any size.
#[test]
fn shapes_of_huge_pictures_do_not_overflow() {
    let (huge, flat) = (Size::new(u32::MAX, u32::MAX), Size::new(u32::MAX, 1));
    for (size, wanted) in [(huge, flat), (flat, huge), (huge, huge), (Size::new(1, u32::MAX), flat)] {
        assert!(shaped(size, wanted).width > 0 && covering(size, wanted).height > 0);
        centered(wanted, size);
    }
}
