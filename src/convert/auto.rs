//! Chooses the first backend that can carry out a plan.

use crate::error::{Error, ErrorKind, Result};

use super::converter::{opened, Candidate, Converter, Refusal};
use super::cpu::Cpu;
use super::m2m;
use super::plan::Plan;

/// The backend that can carry out a plan, and the backends that cannot.
#[derive(Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The first backend that can carry out the plan.
    pub converter: Box<dyn Converter>,
    /// The plan for this backend.
    pub plan: Plan,
    /// The backends before it, which refused the plan.
    pub refused: Vec<Refusal>,
}

/// Picks the first backend that can carry out `plan`: libg2d, each V4L2 mem-to-mem device, the CPU.
///
/// # Errors
/// `Unsupported` if no backend can. The text has the answer of each.
pub fn auto(plan: &Plan) -> Result<Choice> {
    first_of(candidates(), |_| Ok(plan.clone()))
}

/// Returns every backend of this machine, in the order of [`auto`].
pub fn candidates() -> impl Iterator<Item = Candidate> {
    let cpu = std::iter::once_with(|| opened("cpu", Cpu::new()));
    let rest = std::iter::once_with(m2m::candidates).flatten().chain(cpu);
    #[cfg(feature = "g2d")]
    let rest = std::iter::once_with(|| opened("g2d", super::G2d::open())).chain(rest);
    rest
}

/// Picks the first of `candidates` that can carry out the plan that is made for it. Later candidates are not opened.
///
/// A plan is for one layout of the target. Each backend knows which layout suits it:
///
/// ```
/// use framelease::convert::{candidates, first_of, Layer, Plan, Request};
/// use framelease::format::{FourCc, Layout, Size};
///
/// let source = Layout::packed(FourCc::YUYV, Size::new(640, 480))?;
/// let request = Request::convert(Layer::default());
/// let choice = first_of(candidates(), |converter| {
///     let target = converter.target_layout(FourCc::NV12, Size::new(320, 240))?;
///     Plan::new(&request, &[source], &target)
/// })?;
/// println!("{} writes {}", choice.converter.name(), choice.plan.target());
/// # Ok::<(), framelease::Error>(())
/// ```
///
/// # Errors
/// `Unsupported` if no backend can. The text has the answer of each.
pub fn first_of(
    candidates: impl IntoIterator<Item = Candidate>,
    mut plan: impl FnMut(&dyn Converter) -> Result<Plan>,
) -> Result<Choice> {
    let mut refused = Vec::new();
    for candidate in candidates {
        let converter = match candidate {
            Ok(converter) => converter,
            Err(refusal) => {
                refused.push(refusal);
                continue;
            }
        };
        match plan(&*converter).and_then(|plan| converter.check(&plan).map(|()| plan)) {
            Ok(plan) => return Ok(Choice { converter, plan, refused }),
            Err(error) => refused.push(Refusal { backend: converter.name().to_owned(), error }),
        }
    }
    let said: Vec<String> = refused.iter().map(|r| format!("[{}] {}", r.backend, r.error)).collect();
    let text = match said.is_empty() {
        true => "found no backend".to_owned(),
        false => format!("no backend converts this: {}", said.join("; ")),
    };
    Err(Error::new(ErrorKind::Unsupported, "convert", text))
}
