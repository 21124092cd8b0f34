//! The programs in the documents are the examples, word for word.

/// The Rust programs of a Markdown document.
fn programs(document: &str) -> Vec<String> {
    let mut all = Vec::new();
    for part in document.split("```rust").skip(1) {
        let (_attributes, rest) = part.split_once('\n').expect("a line");
        all.push(rest.split("```").next().expect("an end of the block").to_owned());
    }
    all
}

/// An example without what its first lines say of it.
fn example(source: &str) -> String {
    let program = source.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
    program.map(|line| format!("{line}\n")).collect()
}

#[test]
fn readme_shows_the_first_programs() {
    let shown = programs(include_str!("../README.md"));
    let service = example(include_str!("../examples/camera_service.rs"));
    let consumer = example(include_str!("../examples/camera_consumer.rs"));
    assert_eq!(shown, [service.as_str(), consumer.as_str()]);
    for program in [service, consumer] {
        let lines = program.lines().filter(|line| !line.is_empty()).count();
        assert!(lines < 25, "a first program has {lines} lines");
    }
}

#[test]
fn embedding_shows_the_event_loop_and_the_node() {
    let shown = programs(include_str!("../docs/embedding.md"));
    let (event_loop, node) = (include_str!("../examples/event_loop.rs"), include_str!("../examples/camera_node.rs"));
    assert_eq!(shown, [example(event_loop), example(node)]);
    let lines = example(node).lines().filter(|line| !line.is_empty()).count();
    assert!(lines < 70, "the whole node has {lines} lines");
}
