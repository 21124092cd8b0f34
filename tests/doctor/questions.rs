//! As much of the example's module as its answers about libg2d need.

#[path = "../../examples/doctor/questions/g2d.rs"]
pub mod g2d;

use super::common::Result;

pub type Reply = (String, String);

fn reply(value: &str, text: impl Into<String>) -> Result<Reply> {
    Ok((value.into(), text.into()))
}

fn unasked<T>(why: &str) -> Result<T> {
    Err(why.into())
}
