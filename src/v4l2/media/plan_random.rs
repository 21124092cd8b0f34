//! Tests plans on random graphs: what can be planned can be set up and started, and what fails leaves no trace.

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::super::model::Model;
use super::super::steps::apply;
use super::*;

const CODES: [&str; 4] = ["SRGGB10_1X10", "UYVY8_1X16", "RGB888_1X24", "YUV8_1X24"];
const SIZES: [&str; 5] = ["640x480", "1280x720", "1920x1080", "2592x1944", "800x600"];
const STATES: [&str; 3] = ["on", "off", "fixed"];
const KINDS: [&str; 4] = ["pass", "convert", "scale", "compose"];

fn codes() -> impl Strategy<Value = String> {
    subsequence(CODES.to_vec(), 1..=4).prop_shuffle().prop_map(|codes| codes.join(" "))
}

fn pad() -> impl Strategy<Value = String> {
    (0..CODES.len(), 0..SIZES.len()).prop_map(|(code, size)| format!("{} {}", CODES[code], SIZES[size]))
}

fn sensor(name: &'static str) -> impl Strategy<Value = String> {
    (codes(), subsequence(SIZES.to_vec(), 1..=3)).prop_map(move |(codes, sizes)| {
        format!("sensor '{name}'\n codes {codes}\n sizes {}\n source 0\n", sizes.join(" "))
    })
}

fn block(name: String) -> impl Strategy<Value = String> {
    (0..KINDS.len(), codes(), codes(), pad()).prop_map(move |(kind, codes, gives, pad)| {
        let kind = KINDS[kind];
        let gives = if kind == "convert" || kind == "compose" { format!(" gives {gives}\n") } else { String::new() };
        format!("{kind} '{name}'\n codes {codes}\n{gives} source 1\n sink 0 {pad}\n")
    })
}

fn node(name: &'static str) -> impl Strategy<Value = String> {
    (0..SIZES.len(), subsequence(CODES.to_vec(), 1..=4)).prop_map(move |(size, codes)| {
        let formats = [("SRGGB10_1X10", "SRGGB10"), ("UYVY8_1X16", "UYVY"), ("RGB888_1X24", "RGB24 BGR24")];
        let of = |code: &&str| formats.iter().find(|(known, _)| known == code).map_or("YUYV NV12", |(_, list)| list);
        let offers: Vec<String> = codes.iter().map(|code| format!(" offers {code} {}\n", of(code))).collect();
        format!("node '{name}' YUYV {}\n sink 0\n{}", SIZES[size], offers.concat())
    })
}

/// Two sensors, of which one is linked to a chain of blocks, each with a node of its own that it may feed; a second
/// chain that leaves the first at its end; and a crossbar between the sensors and the chain, or none.
fn graphs() -> impl Strategy<Value = String> {
    let chain = |prefix: &'static str, most: usize| {
        (0..=most)
            .prop_flat_map(move |count: usize| (0..count).map(|at| block(format!("{prefix}{at}"))).collect::<Vec<_>>())
    };
    let states = || proptest::collection::vec(0..STATES.len(), 8);
    let sensors = (sensor("A"), sensor("B"), node("raw"), 0..3usize);
    let rest = (chain("block ", 3), chain("branch ", 2), node("video"), node("second"), 0..3usize);
    (sensors, rest, states()).prop_map(|((a, b, raw, first), (chain, branch, video, second, crossbar), states)| {
        let state = |at: usize| STATES[states[at]];
        let mut text = [a, b, raw].concat();
        let mut links = vec![format!("link 'A':0 -> 'raw':0 {}", state(0))];
        let names = |chain: &[String]| -> Vec<String> {
            chain.iter().map(|block| block.split('\'').nth(1).unwrap().to_owned()).collect()
        };
        let mut ends = vec!["'A':0".to_owned(), "'B':0".to_owned()];
        if crossbar > 0 {
            let routes = if crossbar == 1 { "" } else { " routes 0->2 1->3\n" };
            let all = CODES.join(" ");
            let pads = " sink 0\n sink 1\n source 2\n source 3\n";
            text += &format!("crossbar 'crossbar'\n{routes} codes {all}\n{pads}");
            links.push(format!("link 'A':0 -> 'crossbar':0 {}", state(1)));
            links.push(format!("link 'B':0 -> 'crossbar':1 {}", state(2)));
            ends = vec!["'crossbar':2".to_owned()];
        }
        text += &chain.concat();
        text += &branch.concat();
        text += &video;
        text += &second;
        let chain = names(&chain);
        let into = chain.first().cloned().unwrap_or("video".into());
        for (at, end) in ends.iter().enumerate() {
            // At most one link into a pad is on.
            let state = if at == first { state(3) } else { "off" };
            links.push(format!("link {end} -> '{into}':0 {state}"));
        }
        for (at, pair) in chain.windows(2).enumerate() {
            links.push(format!("link '{}':1 -> '{}':0 {}", pair[0], pair[1], state(4 + at % 2)));
        }
        if let Some(last) = chain.last() {
            links.push(format!("link '{last}':1 -> 'video':0 {}", state(6)));
            let mut from = last.clone();
            for name in names(&branch).iter().cloned().chain(["second".to_owned()]) {
                links.push(format!("link '{from}':1 -> '{name}':0 {}", state(7)));
                from = name;
            }
        }
        format!("{text}{}\n", links.join("\n"))
    })
}

fn sizes() -> impl Strategy<Value = Option<Size>> {
    let all = [None, Some((640, 480)), Some((1280, 720)), Some((1000, 700)), Some((320, 240)), Some((4000, 3000))];
    (0..all.len()).prop_map(move |at| all[at].map(|(width, height)| Size::new(width, height)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn plan_of_a_random_graph_starts_or_leaves_no_trace(
        text in graphs(),
        size in sizes(),
        formats in subsequence(vec!["NV12", "UYVY", "RGB24", "SRGGB10", "YUYV"], 0..=3),
        sensor in proptest::option::of(prop_oneof![Just("A"), Just("B")]),
        failing in 0..12u32,
        busy in subsequence(vec!["raw", "second"], 0..=2),
    ) {
        let formats: Vec<FourCc> = formats.iter().map(|name| name.parse().unwrap()).collect();
        let wish = Wish { formats: &formats, size, sensor, ..Wish::default() };
        let model = Model::parse(&text);
        let node = model.node_of("video");
        // A node can only stream if its own pipeline is whole.
        let streams = |name: &&str| model.start(model.node_of(name)).is_ok();
        let busy: Vec<&str> = busy.into_iter().filter(streams).collect();
        model.busy.borrow_mut().extend(busy.iter().map(|name| (*name).to_owned()));
        let before = model.snapshot();
        let planned = plan(&model.graph, node, &wish, &model);
        prop_assert_eq!(model.snapshot(), before.clone(), "a plan changes nothing");
        let Ok(planned) = planned else { return Ok(()) };
        if !formats.is_empty() {
            prop_assert!(formats.contains(&planned.fourcc));
        }
        let all: Vec<Step<'_>> = planned.steps.iter().chain(&planned.own).cloned().collect();
        let lines: Vec<String> = all.iter().map(|step| step.command(&model.graph)).collect();

        model.failing.set(Some(failing));
        let result = apply(&model.graph, &all, &model);
        let has_failed = model.failing.take().is_none();
        prop_assert_eq!(result.is_err(), has_failed, "{:#?}", lines);
        if result.is_err() {
            prop_assert_eq!(model.snapshot(), before, "{:#?}", lines);
            apply(&model.graph, &all, &model).unwrap();
        }
        for name in busy {
            prop_assert_eq!(model.start(model.node_of(name)).map(drop), Ok(()), "{:#?}\n{}", lines, text);
        }
        let locked = locked(&model.graph, node, &model);
        let touches = |step: &Step<'_>| match step {
            Step::Node { entity, .. } | Step::Routes { entity, .. } => locked.contains(&entity.id),
            step => step.entity().is_some_and(|entity| locked.contains(&entity.id)),
        };
        prop_assert!(!all.iter().any(touches), "{:#?}\n{}", lines, text);
        let started = model.start(node);
        prop_assert_eq!(started, Ok(vec![planned.sensor.name.clone()]), "{:#?}\n{}", lines, text);
        let gives = (planned.fourcc, planned.size);
        drop(all);
        let model = model.reread();
        let again = plan(&model.graph, node, &wish, &model).unwrap();
        prop_assert!(again.steps.is_empty() && again.own.is_none(), "{:#?}\n{:?}", lines, again);
        prop_assert_eq!((again.fourcc, again.size), gives);
    }
}
