//! Chooses the first backend that can carry out a plan.

use crate::error::{Error, ErrorKind, Result};

use super::converter::{opened, Candidate, Converter, Refusal};
use super::cpu::Cpu;
use super::m2m;
use super::plan::Plan;

/// The backend that was chosen, and the backends that could not be used.
#[derive(Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The first backend that can carry out the plan.
    pub converter: Box<dyn Converter>,
    /// The plan for this backend.
    pub plan: Plan,
    /// The candidates before the chosen backend. Each of them could not be opened, or refused the plan.
    pub refused: Vec<Refusal>,
}

/// Picks the first backend that can carry out `plan`: libg2d, each V4L2 mem-to-mem device, a GPU by
/// Vulkan (feature `vulkan`), the CPU.
///
/// # Errors
/// `Unsupported` if no backend can carry out the plan. The text has the reason of each backend.
pub fn auto(plan: &Plan) -> Result<Choice> {
    first_of(candidates(), |_| Ok(plan.clone()))
}

/// Returns every backend of this machine, in the order of [`auto`].
pub fn candidates() -> impl Iterator<Item = Candidate> {
    let cpu = std::iter::once_with(|| opened("cpu", Cpu::new()));
    #[cfg(feature = "vulkan")]
    let cpu = std::iter::once_with(|| opened("vulkan", super::Vulkan::open())).chain(cpu);
    let rest = std::iter::once_with(m2m::candidates).flatten().chain(cpu);
    #[cfg(feature = "g2d")]
    let rest = std::iter::once_with(|| opened("g2d", super::G2d::open())).chain(rest);
    rest
}

/// Calls `plan` for each of `candidates` in turn, and picks the first that can carry out its plan. Later candidates are
/// not opened.
///
/// A plan is made for one layout of the target. The best layout depends on the backend ([`Converter::target_layout`]):
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
/// `Unsupported` if no backend can carry out the plan. The text has the reason of each backend.
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
