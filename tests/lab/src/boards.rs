//! `cargo lab boards`: the tables of docs/boards.md, from the reports of `framelease-doctor`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::rivals::insert;
use crate::Res;

const FOLDER: &str = "docs/boards/reports";
const PAGE: &str = "docs/boards.md";
const MARK: &str = "cargo lab boards";
/// Of the reports that this reads: `VERSION` in examples/doctor/report.rs.
const VERSION: u64 = 1;

/// Writes the tables into the page.
pub fn boards(workspace: &Path) -> Res<i32> {
    let text = page(workspace)?;
    let path = workspace.join(PAGE);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(0)
}

/// The page with the tables of the reports.
fn page(workspace: &Path) -> Res<String> {
    let path = workspace.join(PAGE);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    insert(&text, MARK, &tables(&reports(&workspace.join(FOLDER))?))
}

/// Every report by its name, checked.
fn reports(folder: &Path) -> Res<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?.flatten() {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".json")) else { continue };
        let text = fs::read_to_string(&path).map_err(|e| format!("{FOLDER}/{name}.json: {e}"))?;
        let report = report(name, &text).map_err(|why| format!("{FOLDER}/{name}.json: {why}"))?;
        found.insert(name.to_owned(), report);
    }
    Ok(found)
}

/// Reads a report, or says at which place it is damaged, and how.
fn report(name: &str, text: &str) -> Res<Value> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !name.chars().all(is_plain) {
        return Err("the file's name: lower-case letters, digits, '.', '-' and '_'".into());
    }
    let report: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let root = Place { value: &report, path: String::new() };
    if root.text("report")? != "framelease-doctor" {
        return Err("report: not \"framelease-doctor\"".into());
    }
    let version = root.member("version")?;
    if version.value.as_u64() != Some(VERSION) {
        return Err(format!("version: {} is unknown; this release reads {VERSION}", version.value));
    }
    let machine = root.member("machine")?;
    for name in ["model", "kernel", "architecture"] {
        machine.text(name)?;
    }
    for device in root.list("video")? {
        device.text("path")?;
        device.text("role")?;
        device.text("driver")?;
    }
    for display in root.list("displays")? {
        display.text("driver")?;
        display.list("connectors")?;
    }
    root.member("g2d")?;
    for answer in root.list("answers")? {
        answer.text("question")?;
        answer.text("text")?;
        answer.text("device")?;
        let (value, not_asked) = (answer.member("answer")?, answer.member("not_asked")?);
        if value.value.is_string() == not_asked.value.is_string() {
            return Err(format!("{}: neither or both of answer and not_asked", answer.path));
        }
    }
    let paths = root.member("paths")?;
    if !paths.value.is_null() {
        for name in ["width", "height", "fps"] {
            paths.number(name)?;
        }
        for row in paths.list("rows")? {
            row.text("path")?;
            row.text("memory")?;
            if row.member("failed")?.value.is_null() {
                row.number("process_cpu_us")?;
                row.number("machine_cpu_us")?;
            }
        }
    }
    Ok(report)
}

/// A value of a report, and where it is: `paths.rows[3]`.
struct Place<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Place<'a> {
    fn member(&self, name: &str) -> Res<Place<'a>> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        match self.value.get(name) {
            Some(value) => Ok(Place { value, path }),
            None => Err(format!("{path}: missing")),
        }
    }

    fn text(&self, name: &str) -> Res<&'a str> {
        let member = self.member(name)?;
        member.value.as_str().ok_or_else(|| format!("{}: not a text", member.path))
    }

    fn number(&self, name: &str) -> Res<f64> {
        let member = self.member(name)?;
        member.value.as_f64().ok_or_else(|| format!("{}: not a number", member.path))
    }

    fn list(&self, name: &str) -> Res<Vec<Place<'a>>> {
        let member = self.member(name)?;
        let items = member.value.as_array().ok_or_else(|| format!("{}: not a list", member.path))?;
        let place = |(i, value)| Place { value, path: format!("{}[{i}]", member.path) };
        Ok(items.iter().enumerate().map(place).collect())
    }
}

/// Text of a report in a cell: nothing in it is Markdown.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '\n' | '\r' => out.push(' '),
            '<' | '>' | '`' | '[' | ']' | '*' | '_' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn tables(reports: &BTreeMap<String, Value>) -> String {
    let mut out = String::new();
    write_tables(&mut out, reports).unwrap_or_default();
    out
}

fn write_tables(out: &mut String, reports: &BTreeMap<String, Value>) -> std::fmt::Result {
    writeln!(out, "| report | board | kernel | cameras | converters | encoders | decoders | displays | libg2d |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for (name, report) in reports {
        let machine = &report["machine"];
        let model = match text(machine, "model") {
            "" => "not named",
            model => model,
        };
        write!(
            out,
            "| {} | {} | {} {} |",
            cell(name),
            cell(model),
            cell(text(machine, "kernel")),
            cell(text(machine, "architecture"))
        )?;
        for role in ["camera", "converter", "encoder", "decoder"] {
            let mut drivers: Vec<&str> =
                items(report, "video").filter(|v| text(v, "role") == role).map(|v| text(v, "driver")).collect();
            drivers.dedup();
            write!(out, " {} |", cell(&drivers.join(", ")))?;
        }
        let displays: Vec<&str> = items(report, "displays")
            .filter(|d| items(d, "connectors").next().is_some())
            .map(|d| text(d, "driver"))
            .collect();
        let g2d = match text(&report["g2d"], "variant") {
            "" => "no",
            variant => variant,
        };
        writeln!(out, " {} | {} |", cell(&displays.join(", ")), cell(g2d))?;
    }
    write_paths(out, reports)?;
    write_answers(out, reports)
}

fn write_paths(out: &mut String, reports: &BTreeMap<String, Value>) -> std::fmt::Result {
    // A virtual machine's figures mean nothing.
    let boards = || reports.iter().filter(|(name, _)| !name.starts_with("lab-"));
    if boards().next().is_none() {
        return writeln!(out, "\nNo board has reported figures.");
    }
    writeln!(out, "\nCPU of a frame in µs: of the path's processes, and of the whole machine.\n")?;
    writeln!(out, "| report | picture | path | memory | processes | machine |\n|---|---|---|---|---|---|")?;
    for (name, report) in boards() {
        let paths = &report["paths"];
        let picture = format!("{}x{} at {} fps", paths["width"], paths["height"], paths["fps"]);
        for row in items(paths, "rows") {
            write!(
                out,
                "| {} | {picture} | {} | {} |",
                cell(name),
                cell(text(row, "path")),
                cell(text(row, "memory"))
            )?;
            match row["failed"].as_str() {
                Some(why) => writeln!(out, " NOT RUN: {} | |", cell(why))?,
                None => {
                    let count = |name: &str| row[name].as_f64().unwrap_or_default();
                    writeln!(out, " {:.0} | {:.0} |", count("process_cpu_us"), count("machine_cpu_us"))?;
                }
            }
        }
    }
    Ok(())
}

/// The answers of all reports to a question are next to each other.
fn write_answers(out: &mut String, reports: &BTreeMap<String, Value>) -> std::fmt::Result {
    writeln!(out, "\n| question | report | device | answer |\n|---|---|---|---|")?;
    let mut questions: Vec<&str> = Vec::new();
    for answer in reports.values().flat_map(|report| items(report, "answers")) {
        if !questions.contains(&text(answer, "question")) {
            questions.push(text(answer, "question"));
        }
    }
    for question in questions {
        for (name, report) in reports {
            let given = items(report, "answers").filter(|a| text(a, "question") == question && a["answer"].is_string());
            for answer in given {
                let [question, device, answer] = ["text", "device", "answer"].map(|name| cell(text(answer, name)));
                writeln!(out, "| {question} | {} | {device} | {answer} |", cell(name))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    const LAB: &str = include_str!("../../../docs/boards/reports/lab-x86_64.json");

    #[test]
    fn boards_page_has_the_tables_of_its_reports() {
        let now = fs::read_to_string(workspace().join(PAGE)).unwrap();
        assert!(page(workspace()).unwrap() == now, "{PAGE} does not have the tables of {FOLDER}: run cargo lab boards");
    }

    #[test]
    fn report_of_the_lab_is_read() {
        let report = report("lab-x86_64", LAB).unwrap();
        let of_guest = tables(&BTreeMap::from([("lab-x86_64".to_owned(), report.clone())]));
        for text in ["fl\\_scaler", "No board has reported figures.", "| does a drain end | lab-x86\\_64 | /dev/video"]
        {
            assert!(of_guest.contains(text), "{text}: {of_guest}");
        }
        let of_board = tables(&BTreeMap::from([("imx8mp".to_owned(), report)]));
        assert!(of_board.contains("| imx8mp | 640x480 at 30 fps | share-1 | dmabuf | "), "{of_board}");
    }

    #[test]
    fn report_that_is_damaged_is_refused_with_place_and_reason() {
        let cut = &LAB[..LAB.len() / 2];
        let damaged = |from: &str, into: &str| {
            assert!(LAB.contains(from), "{from}");
            LAB.replacen(from, into, 1)
        };
        for (text, why) in [
            (cut.to_owned(), "line "),
            (damaged("\"version\": 1", "\"version\": 2"), "version: 2 is unknown; this release reads 1"),
            (damaged("\"version\": 1,", ""), "version: missing"),
            (damaged("framelease-doctor", "another"), "report: not \"framelease-doctor\""),
            (damaged("\"kernel\": \"", "\"colonel\": \""), "machine.kernel: missing"),
            (damaged("\"role\": \"camera\"", "\"role\": 7"), "video[0].role: not a text"),
            (damaged("\"not_asked\": null", "\"not_asked\": \"x\""), "answers[0]: neither or both"),
            (damaged("\"rows\": [", "\"rows\": 3, \"other\": ["), "paths.rows: not a list"),
            (
                damaged("\"process_cpu_us\": ", "\"process_cpu_us\": null, \"x\": "),
                "paths.rows[0].process_cpu_us: not a number",
            ),
        ] {
            let e = report("lab", &text).unwrap_err();
            assert!(e.starts_with(why) || (why == "line " && e.contains(why)), "{why}: {e}");
        }
        assert!(report("../Lab", LAB).unwrap_err().starts_with("the file's name"));
    }

    #[test]
    fn reports_name_the_file_that_is_damaged() {
        let folder = std::env::temp_dir().join(format!("framelease-boards-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("good.json"), LAB).unwrap();
        fs::write(folder.join("README.md"), "not a report").unwrap();
        assert_eq!(reports(&folder).unwrap().len(), 1);
        fs::write(folder.join("bad.json"), "{").unwrap();
        let e = reports(&folder).unwrap_err();
        fs::remove_dir_all(folder).unwrap();
        assert!(e.starts_with("docs/boards/reports/bad.json: EOF while parsing"), "{e}");
    }

    #[test]
    fn report_cannot_add_markup_to_the_page() {
        assert_eq!(cell("a|b\n<img> [x](y) `z`"), "a b \\<img\\> \\[x\\](y) \\`z\\`");
    }
}
