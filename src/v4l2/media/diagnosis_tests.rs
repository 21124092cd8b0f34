//! Tests the texts about pipelines that do not start.

use super::super::drivers::Drivers;
use super::super::model::Model;
use super::*;

/// sensor:0 -> csi:0, csi:1 -> isi:0, isi:1 -> capture
const CHAIN: &str = "
sensor 'ov5640 1-003c'
  codes UYVY8_1X16
  sizes 1920x1080
  source 0 UYVY8_1X16 1920x1080
pass 'csis-32e40000.csi'
  codes UYVY8_1X16
  sink 0 UYVY8_1X16 1920x1080
  source 1 UYVY8_1X16 1920x1080
scale 'mxc_isi.0'
  codes UYVY8_1X16
  sink 0 UYVY8_1X16 1920x1080
  source 1 UYVY8_1X16 1920x1080
node 'mxc_isi.0.capture' NV12 1920x1080
  sink 0
  offers UYVY8_1X16 YUYV NV12
link 'ov5640 1-003c':0 -> 'csis-32e40000.csi':0 on
link 'csis-32e40000.csi':1 -> 'mxc_isi.0':0 on
link 'mxc_isi.0':1 -> 'mxc_isi.0.capture':0 on
";

/// Two cameras of mxc-isi. Sink 2 of the crossbar is for memory.
const CROSSBAR: &str = "
sensor 'csi 0'
  codes UYVY8_1X16
  sizes 640x480
  source 0 UYVY8_1X16 640x480
sensor 'csi 1'
  codes UYVY8_1X16
  sizes 1280x720
  source 0 UYVY8_1X16 1280x720
crossbar 'crossbar'
  codes UYVY8_1X16
  sink 0 UYVY8_1X16 640x480
  sink 1 UYVY8_1X16 640x480
  sink 2
  source 3
  source 4
node 'isi 0' UYVY 640x480
  sink 0
  offers UYVY8_1X16 UYVY
node 'isi 1' UYVY 640x480
  sink 0
  offers UYVY8_1X16 UYVY
link 'csi 0':0 -> 'crossbar':0 on
link 'csi 1':0 -> 'crossbar':1 on
link 'crossbar':3 -> 'isi 0':0 on
link 'crossbar':4 -> 'isi 1':0 on
";

fn diagnosed(text: &str, node: &str) -> Diagnosis {
    let model = Model::parse(text);
    diagnosis(&model.graph, model.node_of(node), &model).unwrap()
}

fn chain(changes: &[(&str, &str)]) -> Diagnosis {
    let text = changes.iter().fold(CHAIN.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    diagnosed(&text, "mxc_isi.0.capture")
}

fn routed(routes: &str) -> String {
    CROSSBAR.replace("crossbar 'crossbar'\n", &format!("crossbar 'crossbar'\n  routes {routes}\n"))
}

#[test]
fn path_text_reads_from_source_to_node() {
    let model = Model::parse(CHAIN);
    assert_eq!(
        path_text(&model.graph, model.node_of("mxc_isi.0.capture"), &model).unwrap(),
        "'ov5640 1-003c':0 [UYVY8_1X16 1920x1080] -> 'csis-32e40000.csi':0 [UYVY8_1X16 1920x1080]; \
         'csis-32e40000.csi':1 [UYVY8_1X16 1920x1080] -> 'mxc_isi.0':0 [UYVY8_1X16 1920x1080]; \
         'mxc_isi.0':1 [UYVY8_1X16 1920x1080] -> 'mxc_isi.0.capture':0"
    );
    assert_eq!(path_text(&model.graph, (81, 99), &model), None);
}

#[test]
fn path_follows_the_routes_of_a_crossbar() {
    let fixed = CROSSBAR.to_owned();
    for (text, sensors) in [
        (fixed, ["'csi 0'", "'csi 1'"]),
        (routed("0->3 1->4"), ["'csi 0'", "'csi 1'"]),
        (routed("1->3 0->4"), ["'csi 1'", "'csi 0'"]),
        (routed("1->3 1->4"), ["'csi 1'", "'csi 1'"]),
        (routed("0->3"), ["'csi 0'", "'crossbar':4"]),
    ] {
        let model = Model::parse(&text);
        for (node, sensor) in ["isi 0", "isi 1"].into_iter().zip(sensors) {
            let path = path_text(&model.graph, model.node_of(node), &model).unwrap();
            assert!(path.starts_with(sensor) && path.ends_with(&format!("'{node}':0")), "{path}");
        }
    }
}

#[test]
fn diagnosis_says_that_a_route_is_assumed_or_missing() {
    let known = diagnosed(&routed("0->3 1->4"), "isi 1").text;
    assert!(known.starts_with("the pads differ: 'csi 1':0") && !known.contains("report"), "{known}");
    assert!(diagnosed(CROSSBAR, "isi 1").text.contains("the kernel does not report its routes"));
    assert!(diagnosed(CROSSBAR, "isi 0").text.starts_with("all pads agree"));
    assert_eq!(
        diagnosed(&routed("0->3"), "isi 1").text.split("; the node").next().unwrap(),
        "no active route leads to 'crossbar':4; try: media-ctl -d /dev/media0 -R '\"crossbar\" [0/0->4/0 [1]]'"
    );
}

#[test]
fn diagnosis_corrects_the_pad_that_takes_the_other_s_format() {
    let other = (
        "sink 0 UYVY8_1X16 1920x1080\n  source 1 UYVY8_1X16 1920x1080\nnode",
        "sink 0 UYVY8_1X16 1920x720\n  source 1 UYVY8_1X16 1920x1080\nnode",
    );
    let text = chain(&[other]).text;
    assert_eq!(
        text,
        "the pads differ: 'csis-32e40000.csi':1 [UYVY8_1X16 1920x1080] -> 'mxc_isi.0':0 [UYVY8_1X16 1920x720]; \
         try: media-ctl -d /dev/media0 -V '\"mxc_isi.0\":0 [fmt:UYVY8_1X16/1920x1080 field:none]'"
    );
    // The debayer takes no other code, so that the sensor must change.
    let sensor = [
        ("codes UYVY8_1X16\n  sizes", "codes RGB888_1X24 UYVY8_1X16\n  sizes"),
        ("source 0 UYVY8_1X16", "source 0 RGB888_1X24"),
    ];
    assert!(chain(&sensor).text.ends_with("-V '\"ov5640 1-003c\":0 [fmt:UYVY8_1X16/1920x1080 field:none]'"));
    let alien =
        [("codes UYVY8_1X16\n  sizes", "codes RGB888_1X24\n  sizes"), ("source 0 UYVY8_1X16", "source 0 RGB888_1X24")];
    assert!(chain(&alien).text.ends_with("; neither takes the other's"));
}

#[test]
fn diagnosis_compares_the_node_with_its_pad() {
    let found = chain(&[]);
    assert!(!found.is_fault && found.text.contains("does not fit UYVY8_1X16 1920x1080"), "{found:?}");
    let small = chain(&[("NV12 1920x1080", "NV12 320x240")]);
    assert!(small.is_fault);
    assert_eq!(
        small.text,
        "the node's format NV12 320x240 does not fit 'mxc_isi.0':1 [UYVY8_1X16 1920x1080]; request 1920x1080, or try: \
         media-ctl -d /dev/media0 -V '\"mxc_isi.0\":1 [fmt:UYVY8_1X16/320x240 field:none]'"
    );
    assert!(chain(&[("NV12 1920x1080", "NV12 8000x8000")]).text.ends_with("; request 1920x1080"));
    let format = chain(&[("NV12 1920x1080", "RGB24 1920x1080")]);
    assert!(format.text.ends_with("; for this pad the node offers YUYV, NV12"), "{format:?}");
}

#[test]
fn diagnosis_compares_fields_as_the_kernel_does() {
    let field = |name: &str, pad: u32| {
        let model = Model::parse(CHAIN);
        let entity = model.graph.entities.iter().find(|e| e.name == name).unwrap();
        let at = (entity, model.graph.pads_of(entity.id).find(|p| p.index == pad).unwrap());
        let format = model.format(Which::Active, at).unwrap();
        model.set_format(Which::Active, at, BusFormat { field: 4, ..format }).unwrap();
        diagnosis(&model.graph, model.node_of("mxc_isi.0.capture"), &model).unwrap()
    };
    // A sink without fields takes any, so that interlaced sensors work with plain bridges.
    assert!(!field("ov5640 1-003c", 0).is_fault);
    let text = field("mxc_isi.0", 0).text;
    assert!(text.contains("-> 'mxc_isi.0':0 [UYVY8_1X16 1920x1080 field:interlaced]"), "{text}");
    assert!(text.ends_with("'\"mxc_isi.0\":0 [fmt:UYVY8_1X16/1920x1080 field:none]'"), "{text}");
}

#[test]
fn diagnosis_looks_at_the_branches_of_a_path() {
    let second = "
scale 'second scaler'
  codes UYVY8_1X16
  sink 0 UYVY8_1X16 640x480
  source 1 UYVY8_1X16 640x480
node 'second' UYVY 640x480
  sink 0
  offers UYVY8_1X16 UYVY
";
    let links = "link 'csis-32e40000.csi':1 -> 'second scaler':0 on\nlink 'second scaler':1 -> 'second':0 on\n";
    let (blocks, own) = CHAIN.split_at(CHAIN.find("link ").unwrap());
    let text = diagnosed(&format!("{blocks}{second}{own}{links}"), "mxc_isi.0.capture").text;
    assert!(
        text.starts_with("the pads differ: 'csis-32e40000.csi':1 [UYVY8_1X16 1920x1080] -> 'second scaler':0"),
        "{text}"
    );
    let fits = second
        .replace("sink 0 UYVY8_1X16 640x480", "sink 0 UYVY8_1X16 1920x1080")
        .replace("UYVY 640x480", "UYVY 320x240");
    let text = diagnosed(&format!("{blocks}{fits}{own}{links}"), "mxc_isi.0.capture").text;
    assert!(text.starts_with("/dev/video6's format UYVY 320x240 does not fit 'second scaler':1"), "{text}");
    let fits = fits.replace("UYVY 320x240", "UYVY 640x480");
    let found = diagnosed(&format!("{blocks}{fits}{own}{links}"), "mxc_isi.0.capture");
    let also = "The kernel also checks 'csis-32e40000.csi':1 -> 'second scaler':0, 'second scaler':1 -> 'second':0";
    assert!(!found.is_fault && found.text.contains(also), "{found:?}");
}

#[test]
fn diagnosis_names_a_disabled_link() {
    let text = chain(&[("'mxc_isi.0':0 on", "'mxc_isi.0':0 off")]).text;
    let line = "media-ctl -d /dev/media0 -l '\"csis-32e40000.csi\":1 -> \"mxc_isi.0\":0 [1]'";
    assert_eq!(text, format!("no link into 'mxc_isi.0' is enabled; try: {line}"));
}

/// Ten layers of eight blocks, each linked to every block of the next layer, and no sensor.
#[test]
fn paths_of_a_dense_graph_without_a_sensor_come_to_an_end() {
    let mut text = String::new();
    let name = |layer: usize, at: usize| format!("'{layer}.{at}'");
    let all = || (0..10usize).flat_map(|layer| (0..8usize).map(move |at| (layer, at)));
    for (layer, at) in all() {
        text += &format!("pass {}\n codes UYVY8_1X16\n sink 0\n source 1\n", name(layer, at));
    }
    text += "node 'capture' UYVY 640x480\n sink 0\n offers UYVY8_1X16 UYVY\n";
    for (layer, at) in all() {
        for next in 0..8 {
            let next = if layer == 9 { "'capture'".to_owned() } else { name(layer + 1, next) };
            text += &format!("link {}:1 -> {next}:0 off\n", name(layer, at));
        }
    }
    let model = Model::parse(&text);
    assert!(model.graph.possible_paths(model.node_of("capture")).is_empty());
}

#[test]
fn path_ends_at_cycles_and_dangling_links() {
    let cyclic = CHAIN
        .replace("sensor 'ov5640 1-003c'", "pass 'ov5640 1-003c'")
        .replace("  source 0 UYVY", "  sink 7\n  source 0 UYVY");
    let cyclic = format!("{cyclic}link 'mxc_isi.0':1 -> 'ov5640 1-003c':7 on\n");
    let mut model = Model::parse(&cyclic);
    model.graph.links.push(super::super::graph::Link { source: 999, sink: 998, enabled: true, ..Default::default() });
    let node = model.node_of("mxc_isi.0.capture");
    assert_eq!(model.graph.path(node).hops.len(), 3);
    assert!(model.graph.possible_paths(node).is_empty());
    model.graph.pads.clear();
    assert!(model.graph.path(node).hops.is_empty());
}
