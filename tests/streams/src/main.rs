//! What `cargo lab streams` and `cargo lab clients` run. Those commands have the help.

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
    let mut parser = lexopt::Parser::from_env();
    let (mut filters, mut lists) = (Vec::new(), false);
    while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
        match arg {
            Long("filter") => filters.push(parser.value().and_then(|v| v.string()).map_err(|e| e.to_string())?),
            Long("list") => lists = true,
            Value(command) if command == "corpus" => {}
            _ => return Err(arg.unexpected().to_string()),
        }
    }
    if lists {
        corpus::list(&filters);
        return Ok(0);
    }
    corpus::run(&filters)
}
