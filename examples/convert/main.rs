//! Converts, scales, rotates or composes frames by the first backend that can, and says what it cost the CPU.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/picture.rs"]
mod picture;

mod options;
mod sources;

use std::fs::File;
use std::io::BufWriter;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framelease::convert::{candidates, first_of, Layer, Plan, Request};
use framelease::format::{Layout, Rect, Size};
use framelease::frame::{Frame, Pool};
use framelease::stats::{cpu_bytes, process_cpu_time, CpuBytes};

use options::{Compose, Options};
use sources::Source;

/// How long a backend may take for one frame.
const WAIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> common::Result<()> {
    let Some(o) = Options::parse()? else { return Ok(()) };
    let stop = common::stop_flag()?;
    let (allocator, memory) = sources::allocator(o.heap.as_deref())?;
    let mut sources = o.inputs.iter().map(|i| Source::open(i, &o, &allocator)).collect::<common::Result<Vec<_>>>()?;
    let layouts: Vec<Layout> = sources.iter().map(Source::layout).collect::<common::Result<_>>()?;
    let target_size = o.size.unwrap_or_else(|| default_size(&o, &layouts));
    let request = request(&o, &layouts, target_size);

    // The layout that a target should have is the backend's to say.
    let choice = first_of(candidates().filter(|c| o.accepts(c)), |converter| {
        let target = converter.target_layout(o.to, target_size)?.with_colorimetry(o.colorimetry(&layouts[0]));
        Ok(Plan::new(&request, &layouts, &target)?.memory(memory))
    })?;
    let refused: Vec<String> = choice.refused.iter().map(|r| format!("{}: {}", r.backend, r.error)).collect();
    let (mut converter, plan) = (choice.converter, Arc::new(choice.plan));
    let pool = Pool::new(&allocator, *plan.target(), 3)?;

    let (mut frames, mut last): (u64, Option<Frame>) = (0, None);
    let (mut taken, before) = ((Duration::ZERO, Duration::ZERO), cpu_bytes());
    let mut sourced = CpuBytes::default();
    while !common::stopped(&stop) && frames < o.frames {
        let mark = cpu_bytes();
        let inputs = sources.iter_mut().map(Source::next).collect::<common::Result<Vec<Frame>>>()?;
        sourced.read += cpu_bytes().read - mark.read;
        sourced.written += cpu_bytes().written - mark.written;
        // The picture before returns its buffer first.
        drop(last.take());
        let target = pool.acquire(WAIT).ok_or("no target buffer came back")?;
        let (start, cpu) = (Instant::now(), process_cpu_time());
        last = Some(sources::converted(&mut *converter, &plan, &inputs, target)?);
        taken = (taken.0 + start.elapsed(), taken.1 + (process_cpu_time() - cpu));
        frames += 1;
    }
    let after = cpu_bytes();
    let per = |total: Duration| total.as_secs_f64() * 1e6 / frames.max(1) as f64;
    let (read, written) = (after.read - before.read - sourced.read, after.written - before.written - sourced.written);
    if let (Some(path), Some(frame)) = (&o.png, &last) {
        let (size, file) = (frame.layout().size(), File::create(path).map_err(|e| format!("{path}: {e}"))?);
        picture::write_png(BufWriter::new(file), size.width, size.height, &picture::rgb(frame)?)?;
    }
    let name = converter.name();
    let each = frames.max(1);
    if o.json {
        let quoted = |text: &String| common::quoted(text);
        let refused: Vec<String> = refused.iter().map(quoted).collect();
        println!(
            "{{\"backend\":{},\"refused\":[{}],\"from\":[{}],\"to\":{},\"width\":{},\"height\":{},\"memory\":\"{memory:?}\",\
             \"frames\":{frames},\"us_per_frame\":{:.0},\"cpu_us_per_frame\":{:.0},\"cpu_bytes_read_per_frame\":{},\
             \"cpu_bytes_written_per_frame\":{}}}",
            common::quoted(name),
            refused.join(","),
            layouts.iter().map(|l| quoted(&l.to_string())).collect::<Vec<_>>().join(","),
            common::quoted(&plan.target().fourcc().to_string()),
            target_size.width,
            target_size.height,
            per(taken.0),
            per(taken.1),
            read / each,
            written / each,
        );
        return Ok(());
    }
    refused.iter().for_each(|why| println!("not {why}"));
    let from: Vec<String> = layouts.iter().map(Layout::to_string).collect();
    println!("{name}: {} to {}, {memory:?} memory", from.join(" + "), plan.target());
    println!("{frames} frames, {:.0} us each, {:.0} us of them CPU", per(taken.0), per(taken.1));
    println!("{} bytes read and {} written by the CPU a frame", read / each, written / each);
    Ok(())
}

/// The source's size after the rotation; a composition is as large as its first source.
fn default_size(o: &Options, layouts: &[Layout]) -> Size {
    let size = o.crop.map_or(layouts[0].size(), |crop| crop.size);
    if o.rotation.is_quarter() && o.compose.is_none() {
        Size::new(size.height, size.width)
    } else {
        size
    }
}

fn request(o: &Options, layouts: &[Layout], target: Size) -> Request {
    let mut layer = Layer::default().rotation(o.rotation).flip(o.flip).fit(o.fit);
    layer.crop = o.crop;
    let even = |v: u32| v / 2 * 2;
    let layers: Vec<Layer> = match o.compose {
        None => vec![layer],
        Some(Compose::Grid) => {
            let columns = (1..).find(|c| c * c >= layouts.len() as u32).unwrap_or(1);
            let rows = (layouts.len() as u32).div_ceil(columns);
            let cell = Size::new(even(target.width / columns), even(target.height / rows));
            let at = |i: u32| Rect::new((i % columns * cell.width) as i32, (i / columns * cell.height) as i32, cell);
            (0..layouts.len() as u32).map(|i| layer.place(at(i))).collect()
        }
        Some(Compose::PictureInPicture) => {
            let size = Size::new(even(target.width / 4), even(target.height / 4));
            let margin = even(target.width / 32);
            let at = |i: u32| {
                let left = target.width.saturating_sub((size.width + margin) * i) as i32;
                Rect::new(left / 2 * 2, (target.height - size.height - margin) as i32 / 2 * 2, size)
            };
            let inset = |i: u32| layer.place(at(i)).alpha(o.alpha).z_order(i as i32);
            (0..layouts.len() as u32).map(|i| if i == 0 { layer } else { inset(i) }).collect()
        }
    };
    Request::compose(layers).background(Some(o.background))
}
