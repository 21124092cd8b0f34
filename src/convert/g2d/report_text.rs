//! A report as text and as JSON.

use std::fmt::{self, Write};

use super::report::{Abi, Answer, FormatTrial, Report, Survey};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "library: {}", self.path.display())?;
        let forced = if self.abi_forced { ", as chosen" } else { "" };
        match self.abi {
            Some(abi) => writeln!(f, "layout: {abi}{forced}")?,
            None => writeln!(f, "layout: NOT KNOWN: the probes disagree or found nothing; choose one")?,
        }
        for vote in &self.votes {
            writeln!(f, "  {vote}")?;
        }
        writeln!(f, "version: {}", self.version.as_deref().map_or("unknown", str::trim))?;
        writeln!(f, "variant: {}", self.variant)?;
        let symbols = |present| {
            let names: Vec<&str> = self.symbols.iter().filter(|(_, p)| *p == present).map(|(name, _)| *name).collect();
            if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(" ")
            }
        };
        writeln!(f, "symbols: {}\n  missing: {}", symbols(true), symbols(false))?;
        writeln!(f, "hardware: {}", answers(&self.hardware))?;
        writeln!(f, "features: {}", answers(&self.features))?;
        writeln!(f, "NV12 as target: {} ({})", self.nv12_target, self.nv12_why)?;
        self.survey.iter().try_for_each(|survey| trials(f, survey))
    }
}

fn answers(all: &[(&'static str, Answer)]) -> String {
    all.iter().map(|(name, answer)| format!("{name} {answer}")).collect::<Vec<_>>().join(", ")
}

fn trials(f: &mut fmt::Formatter<'_>, survey: &Survey) -> fmt::Result {
    let caps: Vec<String> =
        survey.caps.iter().map(|(name, on, why)| if *on { (*name).into() } else { format!("{name}: {why}") }).collect();
    writeln!(f, "caps: {}", caps.join(", "))?;
    writeln!(f, "fence: {}", if survey.fence { "yes" } else { "no" })?;
    if survey.formats.is_empty() {
        writeln!(f, "formats: not tried, g2d_alloc is missing")?;
    } else {
        writeln!(
            f,
            "formats, by trial blits from and to RGBA32:\n  {:8} {:20} {:20} rules",
            "", "as source", "as target"
        )?;
    }
    for FormatTrial { fourcc, source, target, rules, .. } in &survey.formats {
        writeln!(f, "  {fourcc:8} {:20} {:20} {} {}", source.1, target.1, rules.0, rules.1)?;
    }
    writeln!(f, "imports, in the order in which they are tried:")?;
    for (name, works, why) in &survey.imports {
        writeln!(f, "  {name}: {}, {why}", if *works { "yes" } else { "no" })?;
    }
    if survey.imports.len() < 2 {
        writeln!(f, "  by address: not tried, no CMA heap was found")?;
    }
    Ok(())
}

impl Report {
    /// Returns the report as one JSON object.
    pub fn to_json(&self) -> String {
        let votes = self.votes.iter().map(|v| {
            let (probe, why) = (quoted(v.probe), quoted(&v.why));
            format!("{{\"probe\":{probe},\"abi\":{},\"why\":{why}}}", abi(v.abi))
        });
        let symbols = self.symbols.iter().map(|(name, present)| format!("{}:{present}", quoted(name)));
        let survey = self.survey.as_ref().map_or("null".to_owned(), survey_json);
        format!(
            "{{\"path\":{},\"abi\":{},\"abi_forced\":{},\"votes\":[{}],\"version\":{},\"variant\":{},\
             \"symbols\":{{{}}},\"hardware\":{{{}}},\"features\":{{{}}},\"nv12_target\":{},\"nv12_why\":{},\
             \"survey\":{survey}}}",
            quoted(&self.path.display().to_string()),
            abi(self.abi),
            self.abi_forced,
            list(votes),
            self.version.as_deref().map_or("null".into(), |v| quoted(v.trim())),
            quoted(&self.variant.to_string()),
            list(symbols),
            answers_json(&self.hardware),
            answers_json(&self.features),
            quoted(&self.nv12_target.to_string()),
            quoted(&self.nv12_why),
        )
    }
}

fn survey_json(survey: &Survey) -> String {
    let formats = survey.formats.iter().map(|f| {
        let side = |(works, why): &(bool, String), rule: Answer| {
            format!("{{\"works\":{works},\"answer\":{},\"rule\":{}}}", quoted(why), quoted(&rule.to_string()))
        };
        let (source, target) = (side(&f.source, f.rules.0), side(&f.target, f.rules.1));
        format!("{{\"fourcc\":{},\"source\":{source},\"target\":{target}}}", quoted(&f.fourcc.to_string()))
    });
    let (caps, imports, formats) = (tried(&survey.caps), tried(&survey.imports), list(formats));
    format!("{{\"fence\":{},\"caps\":[{caps}],\"imports\":[{imports}],\"formats\":[{formats}]}}", survey.fence)
}

fn tried(all: &[(&'static str, bool, String)]) -> String {
    list(all.iter().map(|(name, works, why)| {
        format!("{{\"name\":{},\"works\":{works},\"answer\":{}}}", quoted(name), quoted(why))
    }))
}

fn answers_json(all: &[(&'static str, Answer)]) -> String {
    list(all.iter().map(|(name, a)| format!("{}:{}", quoted(name), quoted(&a.to_string()))))
}

fn abi(abi: Option<Abi>) -> &'static str {
    match abi {
        Some(Abi::Legacy) => "\"legacy\"",
        Some(Abi::Modern) => "\"modern\"",
        None => "null",
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

/// Returns a quoted string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }
}
