//! The worker's calls: turns jobs into calls on one handle. Stays on one thread.

mod survey;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::convert::MAX_LAYERS;
use crate::dmabuf::DmaBuf;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FourCc, Layout, Rect, Size, FORMATS};
use crate::frame::{Frame, FrameMut, Payload};
use crate::sys::g2d::{cap, Buffer, Handle, Status, Surface, Tiling, Warp as RawWarp, MAX_PAIRS};

use super::import::{ByFile, Imports};
use super::probe::{self, Trial};
use super::report::{Abi, Answer, FormatTrial, Report, Survey, Variant};
use super::rules::{self, Blit, Caps, Matrices, Op, Profile, Program, MATRICES, SWATCH, SWATCH_FORMAT};
use super::warp::WarpMap;
use super::Contiguity;

/// The most pictures of a job: the sources and then the target.
const PICTURES: usize = MAX_LAYERS + 1;

/// Whether the library's `g2d_blit_dmabuf` works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    Untried,
    Work,
    Refused,
}

/// A square of one color in the library's own memory, from which fills are drawn.
struct TestBuffer {
    buffer: Buffer,
    file: Option<OwnedFd>,
    color: Option<[u8; 4]>,
}

/// The result of one attempt to draw.
enum Attempt {
    Done,
    /// The library refused the first call, so nothing was drawn.
    NotBegun(Status, Error),
    /// A later call failed.
    Broken(Error),
}

pub(super) struct Engine {
    handle: Handle,
    name: String,
    abi: Option<Abi>,
    imports: Imports,
    files: Files,
    multi: bool,
    swatch: Option<TestBuffer>,
    caps_known: Profile,
}

impl Engine {
    pub(super) fn new(handle: Handle, forced: Option<Abi>, contiguity: Contiguity) -> (Self, Report) {
        let mut report = probe::report(&handle, forced);
        let trial = report.abi.and_then(|abi| Trial::new(&handle, abi));
        probe::nv12_target(&mut report, trial.as_ref());
        let profile = Profile { matrices: matrices(&handle), ..profile(&report, trial.is_some()) };
        drop(trial);
        let engine = Self {
            name: format!("{}", report.path.display()),
            abi: report.abi,
            imports: Imports::new(contiguity),
            files: Files::Untried,
            multi: true,
            swatch: None,
            caps_known: profile,
            handle,
        };
        (engine, report)
    }

    /// Releases the imports and returns the handle, for the next `G2d`.
    pub(super) fn into_handle(mut self) -> Handle {
        self.imports.clear(&self.handle);
        if let Some(swatch) = self.swatch.take() {
            self.handle.free(swatch.buffer);
        }
        self.handle
    }

    pub(super) fn profile(&self) -> Profile {
        self.caps_known
    }

    /// Releases the imports of buffers that no longer exist.
    pub(super) fn sweep(&mut self) {
        self.imports.sweep(&self.handle);
    }

    /// Waits for all submitted work.
    ///
    /// # Errors
    /// `DeviceLost` if the library does not finish it.
    pub(super) fn finish(&self) -> Result<()> {
        match self.handle.finish() {
            Status::Ok => Ok(()),
            status => Err(self.error(ErrorKind::DeviceLost, "g2d_finish", status, "submitted work is lost")),
        }
    }

    pub(super) fn fence(&self) -> Option<OwnedFd> {
        self.handle.fence()
    }

    fn error(&self, kind: ErrorKind, op: &'static str, status: Status, what: &str) -> Error {
        Error::new(kind, op, format!("{status}: {what}")).on(&self.name)
    }

    /// Submits the calls of a job. The caller must wait before it gives the frames back, also after an error.
    pub(super) fn draw(
        &mut self,
        program: &Program,
        sources: &[Frame],
        target: &FrameMut,
        warp: Option<&Arc<WarpMap>>,
    ) -> Result<()> {
        let Some(abi) = self.abi else { return Err(self.undecided()) };
        let mut first = None;
        if warp.is_none() && self.may_use_files(program, sources, target) {
            match self.by_files(program, sources, target) {
                Attempt::Done => {
                    self.files = Files::Work;
                    self.mark(sources, target, ByFile::Yes);
                    return Ok(());
                }
                Attempt::Broken(error) => return Err(error),
                Attempt::NotBegun(_, error) if self.files == Files::Work && self.all_by_file(sources, target) => {
                    return Err(error);
                }
                Attempt::NotBegun(status, error) => first = Some((status, error)),
            }
        }
        match self.by_addresses(program, sources, target, abi, warp) {
            Ok(()) => {
                match first {
                    Some((Status::NotSupported | Status::Missing, _)) if self.files == Files::Untried => {
                        self.files = Files::Refused;
                    }
                    Some(_) => self.mark(sources, target, ByFile::No),
                    None => {}
                }
                Ok(())
            }
            Err(error) => Err(match first {
                Some((_, by_file)) => {
                    let text = format!("{error}; before that {by_file}");
                    Error::new(error.kind(), error.op(), text)
                }
                None => error,
            }),
        }
    }

    fn undecided(&self) -> Error {
        Error::new(ErrorKind::Unsupported, "g2d_open", "the layout of the library's structs is not known")
            .on(&self.name)
    }

    fn may_use_files(&mut self, program: &Program, sources: &[Frame], target: &FrameMut) -> bool {
        if self.files == Files::Refused || !self.handle.has_blit_dmabuf() {
            return false;
        }
        if target.memory().is_empty() || sources.iter().any(|s| s.memory().is_empty()) {
            return false;
        }
        if program.has_copy || program.has_tiles || program.has_fill && !self.swatch_file() {
            return false;
        }
        let (imports, handle) = (&mut self.imports, &self.handle);
        buffers(sources, target).all(|b| imports.by_file(b, handle) != ByFile::No)
    }

    fn all_by_file(&mut self, sources: &[Frame], target: &FrameMut) -> bool {
        let (imports, handle) = (&mut self.imports, &self.handle);
        buffers(sources, target).all(|b| imports.by_file(b, handle) == ByFile::Yes)
    }

    fn mark(&mut self, sources: &[Frame], target: &FrameMut, is: ByFile) {
        for buffer in buffers(sources, target) {
            // A way that has worked once stays.
            if self.imports.by_file(buffer, &self.handle) == ByFile::Untried {
                self.imports.set_by_file(buffer, &self.handle, is);
            }
        }
    }

    fn by_files(&mut self, program: &Program, sources: &[Frame], target: &FrameMut) -> Attempt {
        let mut begun = false;
        let to_fds = fds(target.layout(), target.memory());
        let to_offsets = offsets(target.layout(), None);
        for op in &program.ops {
            let blits: &[Blit] = match op {
                Op::Blit(blit) => std::slice::from_ref(blit),
                Op::Multi(blits) => blits,
                // Jobs with this step do not use files.
                Op::Copy => &[],
                Op::Fill { color, to, caps, .. } => match self.fill_by_file(*color, to, caps, (to_offsets, to_fds)) {
                    Ok(()) => {
                        begun = true;
                        continue;
                    }
                    Err((status, e)) if !begun => return Attempt::NotBegun(status, e),
                    Err((_, e)) => return Attempt::Broken(e),
                },
            };
            for blit in blits {
                let frame = &sources[blit.source];
                let from = with_planes(&blit.from, offsets(frame.layout(), Some(&frame.meta().payload)));
                let to = with_planes(&blit.to, to_offsets);
                let status = match self.set_caps(&blit.caps) {
                    Ok(()) => self.handle.blit_dmabuf((&from, fds(frame.layout(), frame.memory())), (&to, to_fds)),
                    Err(e) => return Attempt::Broken(e),
                };
                match status {
                    Status::Ok => begun = true,
                    status => {
                        let e = self.call_error("g2d_blit_dmabuf", status, frame.layout(), target.layout());
                        return if begun { Attempt::Broken(e) } else { Attempt::NotBegun(status, e) };
                    }
                }
            }
        }
        Attempt::Done
    }

    fn by_addresses(
        &mut self,
        program: &Program,
        sources: &[Frame],
        target: &FrameMut,
        abi: Abi,
        warp: Option<&Arc<WarpMap>>,
    ) -> Result<()> {
        let mut planes = [[0u64; 3]; PICTURES];
        for (i, (to, frame)) in planes.iter_mut().zip(sources).enumerate() {
            *to = self
                .addresses(frame.layout(), frame.memory(), Some(&frame.meta().payload), abi)
                .map_err(|e| e.on(format!("source {i}")))?;
        }
        let to_planes = self.addresses(target.layout(), target.memory(), None, abi).map_err(|e| e.on("the target"))?;
        let warp = match warp {
            Some(map) => Some(map.raw(self.imports.address(map.table(), &self.handle, abi.raw())?)),
            None => None,
        };
        for op in &program.ops {
            match op {
                Op::Copy => self.copy(sources, target, abi)?,
                Op::Fill { color, to, clear, caps } => {
                    self.fill_by_address(*color, &with_planes(to, to_planes), *clear, caps, abi)?;
                }
                Op::Blit(blit) => {
                    self.blit_by_address(blit, &planes, to_planes, abi, warp.as_ref(), (sources, target))?
                }
                Op::Multi(blits) => {
                    if warp.is_none() && self.multi && self.multi_by_address(blits, &planes, to_planes, abi)? {
                        continue;
                    }
                    for blit in blits {
                        self.blit_by_address(blit, &planes, to_planes, abi, warp.as_ref(), (sources, target))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn blit_by_address(
        &mut self,
        blit: &Blit,
        planes: &[[u64; 3]; PICTURES],
        to_planes: [u64; 3],
        abi: Abi,
        warp: Option<&RawWarp>,
        (sources, target): (&[Frame], &FrameMut),
    ) -> Result<()> {
        self.set_caps(&blit.caps)?;
        if let Some(warp) = warp {
            for status in [self.handle.set_warp(abi.raw(), warp), self.handle.enable(cap::WARPING)] {
                if !status.is_ok() {
                    return Err(self.error(
                        ErrorKind::Unsupported,
                        "g2d_set_warp_coordinates",
                        status,
                        "the dewarping table was refused",
                    ));
                }
            }
        }
        let from = with_planes(&blit.from, planes[blit.source]);
        match self.handle.blit(abi.raw(), &from, &with_planes(&blit.to, to_planes)) {
            Status::Ok => Ok(()),
            status => {
                let op = if from.tiling == Tiling::Linear { "g2d_blit" } else { "g2d_blitEx" };
                Err(self.call_error(op, status, sources[blit.source].layout(), target.layout()))
            }
        }
    }

    fn copy(&mut self, sources: &[Frame], target: &FrameMut, abi: Abi) -> Result<()> {
        let Some(source) = sources.first() else { return Ok(()) };
        let pairs = source.memory().iter().zip(target.memory()).zip(target.layout().memory_bytes());
        for (((from, to), &bytes), payload) in pairs.zip(&source.meta().payload) {
            let refused = |text: String| Error::new(ErrorKind::Unsupported, "g2d_copy", text).on(&self.name);
            if payload.offset_bytes != 0 {
                return Err(refused(format!(
                    "the data begin at byte {}, and it copies from byte 0",
                    payload.offset_bytes
                )));
            }
            let Ok(bytes) = i32::try_from(bytes) else {
                return Err(refused(format!("{bytes} bytes do not fit its int")));
            };
            self.imports.hold(from, &self.handle, abi.raw())?;
            self.imports.hold(to, &self.handle, abi.raw())?;
            let status = match (self.imports.held(from), self.imports.held(to)) {
                (Some(from), Some(to)) => self.handle.copy(to, from, bytes),
                _ => Status::Missing,
            };
            if !status.is_ok() {
                return Err(self.call_error("g2d_copy", status, source.layout(), target.layout()));
            }
        }
        Ok(())
    }

    /// Draws layers in one call. `false`: the library refuses; the layers are drawn one by one, now and in the future.
    fn multi_by_address(
        &mut self,
        blits: &[Blit],
        planes: &[[u64; 3]; PICTURES],
        to_planes: [u64; 3],
        abi: Abi,
    ) -> Result<bool> {
        let Some(first) = blits.first() else { return Ok(true) };
        self.set_caps(&first.caps)?;
        let mut pairs = [(Surface::default(), Surface::default()); MAX_PAIRS];
        for (pair, blit) in pairs.iter_mut().zip(blits) {
            *pair = (with_planes(&blit.from, planes[blit.source]), with_planes(&blit.to, to_planes));
        }
        match self.handle.multi_blit(abi.raw(), &pairs[..blits.len().min(MAX_PAIRS)]) {
            Status::Ok => Ok(true),
            // Nothing was drawn. If the hardware has failed, the single blits show it.
            _ => {
                self.multi = false;
                Ok(false)
            }
        }
    }

    fn fill_by_address(&mut self, color: [u8; 4], to: &Surface, clear: bool, caps: &Caps, abi: Abi) -> Result<()> {
        if clear {
            self.set_caps(caps)?;
            let area = Surface { clear: [color[0], color[1], color[2], 255], ..*to };
            if self.handle.clear(abi.raw(), &area).is_ok() {
                return Ok(());
            }
        }
        self.paint_swatch(color, abi)?;
        let address = match &self.swatch {
            Some(swatch) => swatch_address(&swatch.buffer, abi),
            None => 0,
        };
        self.set_caps(caps)?;
        let status = self.handle.blit(abi.raw(), &swatch_surface(address, Some(to)), to);
        match status {
            Status::Ok => Ok(()),
            status => Err(self.error(status_kind(status), "g2d_blit", status, "a fill")),
        }
    }

    fn fill_by_file(
        &mut self,
        color: [u8; 4],
        to: &Surface,
        caps: &Caps,
        (offsets, fds): ([u64; 3], [BorrowedFd<'_>; 3]),
    ) -> std::result::Result<(), (Status, Error)> {
        let Some(abi) = self.abi else { return Err((Status::Missing, self.undecided())) };
        self.paint_swatch(color, abi).map_err(|e| (Status::Missing, e))?;
        self.set_caps(caps).map_err(|e| (Status::Missing, e))?;
        let Some(file) = self.swatch.as_ref().and_then(|s| s.file.as_ref()) else {
            return Err((Status::Missing, self.undecided()));
        };
        let from = (&swatch_surface(0, Some(to)), [file.as_fd(); 3]);
        match self.handle.blit_dmabuf(from, (&with_planes(to, offsets), fds)) {
            Status::Ok => Ok(()),
            status => Err((status, self.error(status_kind(status), "g2d_blit_dmabuf", status, "a fill"))),
        }
    }

    fn swatch_file(&mut self) -> bool {
        self.ensure_swatch().is_ok() && self.swatch.as_ref().is_some_and(|s| s.file.is_some())
    }

    fn ensure_swatch(&mut self) -> Result<()> {
        if self.swatch.is_some() {
            return Ok(());
        }
        let buffer = self.handle.alloc((SWATCH * SWATCH * 4) as i32).ok_or_else(|| {
            Error::new(ErrorKind::Exhausted, "g2d_alloc", "no memory for the color of a fill").on(&self.name)
        })?;
        let file = self.handle.export(&buffer);
        self.swatch = Some(TestBuffer { buffer, file, color: None });
        Ok(())
    }

    fn paint_swatch(&mut self, color: [u8; 4], abi: Abi) -> Result<()> {
        self.ensure_swatch()?;
        let Some(swatch) = self.swatch.as_ref().filter(|s| s.color != Some(color)) else { return Ok(()) };
        let area = Surface {
            clear: [color[0], color[1], color[2], 255],
            ..swatch_surface(swatch_address(&swatch.buffer, abi), None)
        };
        match self.handle.clear(abi.raw(), &area) {
            Status::Ok => {
                if let Some(swatch) = &mut self.swatch {
                    swatch.color = Some(color);
                }
                Ok(())
            }
            status => Err(self.error(status_kind(status), "g2d_clear", status, "the color of a fill")),
        }
    }

    /// Sets all caps of an operation, every time, because libg2d switches some off by itself.
    fn set_caps(&self, caps: &Caps) -> Result<()> {
        let wanted = [(cap::BLEND, caps.blend), (cap::DITHER, false), (cap::GLOBAL_ALPHA, caps.global_alpha)];
        let matrices = self.caps_known.matrices.caps().map(|m| (m, m == caps.matrix));
        let all = wanted.into_iter().chain(matrices);
        // First off, then on: two matrices are never on together. Older libraries do not know all caps to switch off.
        for (cap, _) in all.clone().filter(|(_, on)| !on) {
            let _ = self.handle.disable(cap);
        }
        if self.caps_known.warp {
            let _ = self.handle.disable(cap::WARPING);
        }
        for (cap, _) in all.filter(|(_, on)| *on) {
            let status = self.handle.enable(cap);
            if !status.is_ok() {
                let name = cap::NAMES.get(cap as usize).copied().unwrap_or("?");
                return Err(self.error(ErrorKind::Unsupported, "g2d_enable", status, name));
            }
        }
        Ok(())
    }

    fn addresses(
        &mut self,
        layout: &Layout,
        memory: &[DmaBuf],
        payload: Option<&[Payload]>,
        abi: Abi,
    ) -> Result<[u64; 3]> {
        let mut planes = offsets(layout, payload);
        for (to, plane) in planes.iter_mut().zip(layout.planes()) {
            let Some(buffer) = memory.get(plane.memory as usize) else {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    "import",
                    format!("{layout} has fewer buffers than planes"),
                ));
            };
            *to += self.imports.address(buffer, &self.handle, abi.raw())?;
        }
        Ok(planes)
    }

    fn call_error(&self, op: &'static str, status: Status, source: &Layout, target: &Layout) -> Error {
        self.error(status_kind(status), op, status, &format!("{source} to {target}"))
    }
}

/// Asks which matrices the library has. The PXP's library and libraries before header 1.5 have no caps for them.
fn matrices(handle: &Handle) -> Matrices {
    let mut known = Matrices::default();
    for cap in MATRICES {
        if handle.enable(cap).is_ok() {
            known.add(cap);
        }
        let _ = handle.disable(cap);
    }
    known
}

fn profile(report: &Report, alloc: bool) -> Profile {
    Profile {
        variant: report.variant,
        nv12_target: report.nv12_target,
        multi_blit: report.has("g2d_multi_blit") && report.feature("MULTI_SOURCE_BLT") == Answer::Yes,
        clear: report.has("g2d_clear"),
        alloc: alloc && report.has("g2d_clear"),
        // The PXP's g2d_copy reads by an address of the CPU that g2d_buf_from_fd does not set: the process would end.
        copy: report.variant != Variant::Pxp
            && ["g2d_copy", "g2d_buf_from_fd", "g2d_free"].into_iter().all(|name| report.has(name)),
        matrices: Matrices::default(),
        yv12: report.has("g2d_blitEx"),
        tiles: report.variant == Variant::Dpu && report.has("g2d_blitEx"),
        warp: report.has("g2d_set_warp_coordinates") && report.feature("WARP_DEWARP") == Answer::Yes,
    }
}

fn status_kind(status: Status) -> ErrorKind {
    match status {
        Status::NotSupported | Status::Missing => ErrorKind::Unsupported,
        Status::Ok | Status::Failed(_) => ErrorKind::Os,
    }
}

fn buffers<'a>(sources: &'a [Frame], target: &'a FrameMut) -> impl Iterator<Item = &'a DmaBuf> {
    sources.iter().flat_map(Frame::memory).chain(target.memory())
}

fn with_planes(surface: &Surface, planes: [u64; 3]) -> Surface {
    Surface { planes, ..*surface }
}

/// Returns the offset of each plane in its buffer.
fn offsets(layout: &Layout, payload: Option<&[Payload]>) -> [u64; 3] {
    let mut out = [0; 3];
    for (to, plane) in out.iter_mut().zip(layout.planes()) {
        let data = payload.and_then(|p| p.get(plane.memory as usize)).map_or(0, |p| p.offset_bytes);
        *to = u64::from(plane.offset_bytes) + u64::from(data);
    }
    out
}

/// Returns the descriptor of each plane. Further planes get that of the first.
fn fds<'a>(layout: &Layout, memory: &'a [DmaBuf]) -> [BorrowedFd<'a>; 3] {
    let of = |i: usize| {
        let plane = layout.planes().get(i).map_or(0, |p| p.memory as usize);
        memory.get(plane).unwrap_or(&memory[0]).as_fd()
    };
    [of(0), of(1), of(2)]
}

fn swatch_address(buffer: &Buffer, abi: Abi) -> u64 {
    let address = buffer.address(abi.raw());
    // As for imported addresses: it went through an `int`.
    if address >> 32 == u64::from(u32::MAX) {
        address & u64::from(u32::MAX)
    } else {
        address
    }
}

/// Describes the square, or the part of it from which a fill of `to` is drawn.
fn swatch_surface(address: u64, to: Option<&Surface>) -> Surface {
    let part = to.map_or(Size::new(SWATCH, SWATCH), |to| {
        let side = |begin: i32, end: i32| u32::try_from(i64::from(end) - i64::from(begin)).unwrap_or(SWATCH);
        rules::swatch_part(Size::new(side(to.left, to.right), side(to.top, to.bottom)))
    });
    let side = SWATCH as i32;
    let rect = Rect::from(part);
    Surface {
        format: SWATCH_FORMAT,
        planes: [address, 0, 0],
        left: 0,
        top: 0,
        right: rect.size.width as i32,
        bottom: rect.size.height as i32,
        stride: side,
        width: side,
        height: side,
        blend: crate::sys::g2d::blend::ONE,
        alpha: 255,
        ..Surface::default()
    }
}
