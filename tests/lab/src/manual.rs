//! Whether rustdoc is a manual: each public item is described, functions begin with a verb, and what a user creates has
//! an example.

use std::path::Path;

use serde_json::Value;

use crate::surface::{id, ids, inner, name, rustdoc};
use crate::Res;

/// Prints what is missing. Status 1 if something is.
pub fn manual(workspace: &Path) -> Res<i32> {
    let missing = missing(&rustdoc(workspace)?);
    missing.iter().for_each(|line| println!("{line}"));
    println!("{} places of the public documentation are incomplete", missing.len());
    Ok(i32::from(!missing.is_empty()))
}

fn missing(rustdoc: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for item in rustdoc["index"].as_object().into_iter().flat_map(|index| index.values()) {
        let is_ours = item["crate_id"] == 0 && !item["docs"].is_null() || item["visibility"] == "public";
        let (kind, inner) = inner(item);
        if !is_ours || matches!(kind, "use" | "impl") {
            continue;
        }
        let docs = item["docs"].as_str().unwrap_or_default();
        let place = || {
            let span = &item["span"];
            format!("{}:{}: {}", span["filename"].as_str().unwrap_or("?"), span["begin"][0], name(item))
        };
        let text = docs.split("```").next().unwrap_or_default();
        if text.split_whitespace().count() < 4 {
            found.push(format!("{}: described by fewer than four words: {docs:?}", place()));
        }
        if errors_of_another(docs).any(|link| is_chain(rustdoc, item, link)) {
            found.push(format!("{}: its errors are those of an item whose errors are those of another", place()));
        }
        let first = docs.split_whitespace().next().unwrap_or_default();
        if kind == "function" && !first.ends_with('s') {
            found.push(format!("{}: the first line does not begin with a verb: {first:?}", place()));
        }
        if matches!(kind, "struct" | "enum" | "union")
            && is_created(rustdoc, item, inner)
            && !has_example(rustdoc, item, inner)
        {
            found.push(format!("{}: users create it, and no example shows how", place()));
        }
    }
    found.sort();
    found
}

/// The links of "As [`X`]" under `# Errors`.
fn errors_of_another(docs: &str) -> impl Iterator<Item = &str> {
    let errors = docs.split_once("# Errors").map_or("", |(_, errors)| errors);
    errors.split("As [").skip(1).filter_map(|rest| rest.split(']').next())
}

/// Whether the linked item's errors are those of another item.
fn is_chain(rustdoc: &Value, item: &Value, link: &str) -> bool {
    let links = item["links"].as_object().into_iter().flatten();
    let target = links.filter(|(text, _)| text.contains(link.trim_matches('`'))).map(|(_, target)| id(target)).next();
    let docs = target.and_then(|target| rustdoc["index"][target.as_str()]["docs"].as_str());
    docs.is_some_and(|docs| errors_of_another(docs).next().is_some())
}

/// The type's own public functions and methods.
fn functions<'a>(rustdoc: &'a Value, inner: &Value) -> Vec<&'a Value> {
    let item = |id: String| rustdoc["index"].get(id);
    let blocks = ids(&inner["impls"]).into_iter().filter_map(item).map(|block| &block["inner"]["impl"]);
    let own = blocks.filter(|block| block["trait"].is_null()).flat_map(|block| ids(&block["items"]));
    own.filter_map(item).filter(|item| item["visibility"] == "public").collect()
}

/// Whether one of its functions makes one of nothing of its kind, or it is a builder.
fn is_created(rustdoc: &Value, item: &Value, kind: &Value) -> bool {
    let own = id(&item["id"]);
    let makes = |function: &&Value| {
        let signature = &inner(function).1["sig"];
        signature["inputs"][0][0] != "self" && names_type(&signature["output"], &own)
    };
    name(item).ends_with("Builder") || functions(rustdoc, kind).iter().any(makes)
}

/// `Self` or the type, alone or in a `Result`.
fn names_type(output: &Value, own: &str) -> bool {
    let path = &output["resolved_path"];
    let arguments = path["args"]["angle_bracketed"]["args"].as_array();
    output["generic"] == "Self"
        || !path.is_null() && id(&path["id"]) == own
        || arguments.is_some_and(|all| all.iter().any(|argument| names_type(&argument["type"], own)))
}

fn has_example(rustdoc: &Value, item: &Value, inner: &Value) -> bool {
    let shows = |item: &Value| item["docs"].as_str().is_some_and(|docs| docs.contains("```"));
    shows(item) || functions(rustdoc, inner).into_iter().any(shows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_names_what_is_short_unclear_or_without_example() {
        let span = json!({"filename": "a.rs", "begin": [1, 1]});
        let item = |name: &str, docs: &str, inner: Value| json!({"id": 1, "crate_id": 0, "name": name, "visibility": "public", "docs": docs, "span": span, "inner": inner});
        let made = json!({"function": {"sig": {"inputs": [], "output": {"resolved_path": {"id": 9, "args": {"angle_bracketed": {"args": [{"type": {"generic": "Self"}}]}}}}}}});
        let of = |type_docs: &str, function_docs: &str| {
            missing(&json!({"index": {
                "1": item("Camera", type_docs, json!({"struct": {"impls": [2]}})),
                "2": {"crate_id": 0, "docs": null, "visibility": "default", "inner": {"impl": {"trait": null, "items": [3]}}},
                "3": item("open", function_docs, made.clone()),
            }}))
        };
        assert_eq!(of("A camera that streams.\n```\n```", "Opens the first camera."), [""; 0]);
        assert_eq!(of("A camera that streams.", "Opens the first camera.").len(), 1);
        assert_eq!(of("A camera that streams.", "The first camera here.\n```\n```").len(), 1);
        assert_eq!(of("A camera.\n```\n```", "").len(), 3);
    }

    #[test]
    fn errors_in_a_chain_of_two_steps_are_found() {
        let function = |name: &str, errors: &str, links: Value| {
            let docs = format!("Does something with it.\n\n# Errors\n{errors}");
            json!({"crate_id": 0, "name": name, "visibility": "public", "docs": docs, "links": links,
                "span": {"filename": "a.rs", "begin": [1, 1]}, "inner": {"function": {}}})
        };
        let of = |errors_of_b: &str| {
            missing(&json!({"index": {
                "1": function("a", "As [`b`].", json!({"`b`": 2})),
                "2": function("b", errors_of_b, json!({"`c`": 3})),
                "3": function("c", "`NotFound`.", json!({})),
            }}))
        };
        assert_eq!(of("`Timeout`."), [""; 0]);
        assert_eq!(of("As [`c`].").len(), 1);
    }
}
