//! The first backend that can.

use crate::error::{Error, ErrorKind, Result};

use super::converter::{opened, Candidate, Converter, Refusal};
use super::cpu::Cpu;
use super::m2m;
use super::plan::Plan;

/// A backend that will do, and those before it that would not.
#[derive(Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The first that can carry the plan out.
    pub converter: Box<dyn Converter>,
    /// Those before it.
    pub refused: Vec<Refusal>,
}

/// Picks the first backend that can carry `plan` out: libg2d, each V4L2 mem-to-mem device, the CPU.
///
/// # Errors
/// As [`first_of`].
pub fn auto(plan: &Plan) -> Result<Choice> {
    first_of(plan, candidates())
}

/// Every backend of this machine, in the order of [`auto`].
pub fn candidates() -> impl Iterator<Item = Candidate> {
    let cpu = std::iter::once_with(|| opened("cpu", Cpu::new()));
    let rest = std::iter::once_with(m2m::candidates).flatten().chain(cpu);
    #[cfg(feature = "g2d")]
    let rest = std::iter::once_with(|| opened("g2d", super::G2d::open())).chain(rest);
    rest
}

/// Picks the first of `candidates` that can carry `plan` out. Later ones are not opened.
///
/// # Errors
/// `Unsupported` if none can; the text has what each of them said.
pub fn first_of(plan: &Plan, candidates: impl IntoIterator<Item = Candidate>) -> Result<Choice> {
    let mut refused = Vec::new();
    for candidate in candidates {
        match candidate.map(|converter| (converter.check(plan), converter)) {
            Ok((Ok(()), converter)) => return Ok(Choice { converter, refused }),
            Ok((Err(error), converter)) => refused.push(Refusal { backend: converter.name().to_owned(), error }),
            Err(refusal) => refused.push(refusal),
        }
    }
    let said: Vec<String> = refused.iter().map(|r| format!("[{}] {}", r.backend, r.error)).collect();
    let text = match said.is_empty() {
        true => "there is no backend".to_owned(),
        false => format!("no backend converts this: {}", said.join("; ")),
    };
    Err(Error::new(ErrorKind::Unsupported, "convert", text))
}
