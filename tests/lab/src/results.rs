//! What a test run prints: passed on by whole lines, and counted.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::guest::Sink;
use crate::libtest::{self, Tally};
use crate::slowest::Slowest;

/// Runs that print in turn: the first as its lines come, each other when those before it have ended.
pub struct Turns(Mutex<State>);

struct State {
    now: usize,
    runs: Vec<Run>,
}

#[derive(Default)]
struct Run {
    ended: bool,
    waiting: Vec<(bool, Vec<u8>)>,
}

impl Turns {
    pub fn new(runs: usize) -> Self {
        Self(Mutex::new(State { now: 0, runs: (0..runs).map(|_| Run::default()).collect() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, place: usize, is_out: bool, line: Vec<u8>) -> io::Result<()> {
        let mut state = self.state();
        if place == state.now {
            return print(is_out, &line);
        }
        state.runs[place].waiting.push((is_out, line));
        Ok(())
    }

    fn end(&self, place: usize) {
        let mut state = self.state();
        state.runs[place].ended = true;
        while state.runs.get(state.now).is_some_and(|run| run.ended) {
            state.now += 1;
            let now = state.now;
            for (is_out, line) in
                state.runs.get_mut(now).map(|run| std::mem::take(&mut run.waiting)).unwrap_or_default()
            {
                let _ = print(is_out, &line);
            }
        }
    }
}

fn print(is_out: bool, line: &[u8]) -> io::Result<()> {
    if !is_out {
        return io::stderr().lock().write_all(line);
    }
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.flush()
}

/// Prints whole lines and counts what they say.
#[derive(Default)]
pub struct Results<'a> {
    turn: Option<(&'a Turns, usize)>,
    tally: Tally,
    slowest: Slowest,
    finished: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl<'a> Results<'a> {
    pub fn in_turn(turns: &'a Turns, place: usize) -> Self {
        Self { turn: Some((turns, place)), ..Self::default() }
    }

    pub fn title(&self, title: impl Display) {
        let _ = self.print(true, format!("==== {title}\n").into_bytes());
    }

    fn print(&self, is_out: bool, line: Vec<u8>) -> io::Result<()> {
        match self.turn {
            Some((turns, place)) => turns.line(place, is_out, line),
            None => print(is_out, &line),
        }
    }

    fn lines(&mut self, is_out: bool) -> io::Result<()> {
        loop {
            let pending = if is_out { &mut self.out } else { &mut self.err };
            let Some(end) = pending.iter().position(|b| *b == b'\n') else { return Ok(()) };
            let line: Vec<u8> = pending.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            self.tally.line(text);
            self.slowest.line(text, Instant::now());
            self.finished |= libtest::result(text).is_some();
            self.print(is_out, line)?;
        }
    }

    /// What has no line end at the end.
    pub fn flush(&mut self) -> io::Result<()> {
        for is_out in [true, false] {
            let pending = if is_out { &mut self.out } else { &mut self.err };
            if !pending.is_empty() {
                pending.push(b'\n');
                self.lines(is_out)?;
            }
        }
        Ok(())
    }

    /// Prints where the time of one test after the other went.
    pub fn slowest(&self) {
        let _ = self.print(true, self.slowest.to_string().into_bytes());
    }

    /// The counts, and whether a result was among the lines. The next in turn prints.
    pub fn end(self) -> (Tally, bool) {
        if let Some((turns, place)) = self.turn {
            turns.end(place);
        }
        (self.tally, self.finished)
    }
}

impl Sink for Results<'_> {
    fn out(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.extend(bytes);
        self.lines(true)
    }

    fn err(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.err.extend(bytes);
        self.lines(false)
    }
}
