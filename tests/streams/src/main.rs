//! What `cargo lab streams` and `cargo lab clients` run. Those commands have the help.

mod clients;
mod corpus;
mod decode;

use std::process::exit;

use lexopt::prelude::*;

/// Errors are for people.
type Res<T> = Result<T, String>;

fn main() {
    match run() {
        Ok(0) => {}
        Ok(_) => exit(1),
        Err(why) => {
            eprintln!("{why}");
            exit(2);
        }
    }
}

/// Returns how much was not as expected.
fn run() -> Res<usize> {
    let (mut command, mut filters, mut lists, mut storm) = (String::new(), Vec::new(), false, None);
    let mut parser = lexopt::Parser::from_env();
    let mut parse = || -> Result<(), lexopt::Error> {
        while let Some(arg) = parser.next()? {
            match arg {
                Value(name) => command = name.string()?,
                Long("filter") => filters.push(parser.value()?.string()?),
                Long("list") => lists = true,
                Long("storm") => storm = Some(parser.value()?.parse()?),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(())
    };
    parse().map_err(|e| e.to_string())?;
    match (&*command, storm) {
        ("corpus", None) if lists => {
            corpus::list(&filters);
            Ok(0)
        }
        ("corpus", None) => corpus::run(&filters),
        ("clients", None) => clients::run(&filters),
        ("clients", Some(seconds)) => clients::storm(&filters, seconds),
        _ => Err("corpus [--list] [--filter NAME], or clients [--filter NAME] [--storm SECONDS]".into()),
    }
}
