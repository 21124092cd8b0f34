//! criterion's measurement by CPU time, user and system, of this process and of its children.

use std::cell::RefCell;
use std::process::Child;
use std::rc::Rc;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::Throughput;
use nix::time::{clock_gettime, ClockId};
use nix::unistd::Pid;

/// Clones share the list of processes.
#[derive(Clone)]
pub struct CpuTime(Rc<RefCell<Vec<Pid>>>);

impl CpuTime {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![Pid::this()])))
    }

    /// From now on these children count, and no others.
    pub fn count(&self, children: &[Child]) {
        let children = children.iter().map(|c| Pid::from_raw(c.id() as i32));
        *self.0.borrow_mut() = children.chain([Pid::this()]).collect();
    }

    fn now_ns(&self) -> i128 {
        let of = |pid: &Pid| {
            let time = ClockId::pid_cpu_clock_id(*pid).and_then(clock_gettime).expect("a process that lives");
            i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec())
        };
        self.0.borrow().iter().map(of).sum()
    }
}

impl Measurement for CpuTime {
    type Intermediate = i128;
    type Value = i128;

    fn start(&self) -> i128 {
        self.now_ns()
    }

    fn end(&self, start: i128) -> i128 {
        self.now_ns() - start
    }

    fn add(&self, a: &i128, b: &i128) -> i128 {
        a + b
    }

    fn zero(&self) -> i128 {
        0
    }

    fn to_f64(&self, ns: &i128) -> f64 {
        *ns as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Microseconds
    }
}

struct Microseconds;

impl ValueFormatter for Microseconds {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|ns| *ns /= 1e3);
        "us CPU"
    }

    fn scale_throughputs(&self, _: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let (count, unit) = match *throughput {
            Throughput::Bytes(n) | Throughput::BytesDecimal(n) => (n, "bytes a CPU second"),
            Throughput::Elements(n) => (n, "frames a CPU second"),
        };
        values.iter_mut().for_each(|ns| *ns = count as f64 * 1e9 / *ns);
        unit
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "ns"
    }
}
