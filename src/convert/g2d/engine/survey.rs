//! Trials of every cap, format and import that a library may support. For
//! [`G2dBuilder::inspect`](super::super::G2dBuilder).

use std::os::fd::AsFd;

use super::{cap, DmaBuf, FourCc, Result, FORMATS};
use super::{rules, swatch_surface, Abi, Answer, Caps, Engine, FormatTrial, Status, Surface, Survey, Trial, SWATCH};

impl Engine {
    /// Tries every format and every import with the library's own buffers, and one of the caller's.
    pub(in crate::convert::g2d) fn survey(&mut self, buffer: Option<&DmaBuf>) -> Result<Survey> {
        let Some(abi) = self.abi else { return Err(self.undecided()) };
        let mut survey = Survey::default();
        for (i, name) in (0..).zip(cap::NAMES) {
            let status = self.handle.enable(i);
            let _ = self.handle.disable(i);
            survey.caps.push((name, status.is_ok(), status.to_string()));
        }
        self.set_caps(&Caps { blend: false, global_alpha: false, matrix: cap::BT_601 })?;
        survey.fence = self.handle.fence().is_some();
        if let Some(trial) = Trial::new(&self.handle, abi) {
            let rgba = FourCc::RGBA32;
            let answer = |status: Status| (status.is_ok(), status.to_string());
            for info in FORMATS.iter().filter(|i| i.g2d.is_some() && i.memory_planes == 1) {
                let rule = |target| Answer::from(rules::format_allowed(&self.caps_known, info.fourcc, target));
                survey.formats.push(FormatTrial {
                    fourcc: info.fourcc,
                    source: answer(trial.blit(info.fourcc, rgba)),
                    target: answer(trial.blit(rgba, info.fourcc)),
                    rules: (rule(false), rule(true)),
                });
            }
        }
        self.survey_imports(buffer, abi, &mut survey);
        Ok(survey)
    }

    fn survey_imports(&mut self, buffer: Option<&DmaBuf>, abi: Abi, survey: &mut Survey) {
        let by_file = if !self.handle.has_blit_dmabuf() {
            (false, Status::Missing.to_string())
        } else if self.swatch_file() {
            let fd = self.swatch.as_ref().and_then(|s| s.file.as_ref());
            let status = fd.map_or(Status::Missing, |fd| {
                let half = |left: i32| {
                    let s = swatch_surface(0, None);
                    Surface { left, right: left + SWATCH as i32 / 2, ..s }
                };
                let fds = [fd.as_fd(); 3];
                self.handle.blit_dmabuf((&half(0), fds), (&half(SWATCH as i32 / 2), fds))
            });
            let _ = self.handle.finish();
            (status.is_ok(), status.to_string())
        } else {
            (false, "exported; not tried, g2d_buf_export_fd is missing".to_owned())
        };
        survey.imports.push(("g2d_blit_dmabuf", by_file.0, by_file.1));
        let Some(buffer) = buffer else { return };
        let phys = crate::sys::dma_buf::phys(buffer.as_fd());
        let text = phys.map_or_else(|e| format!("{e:?}"), |a| format!("{a:#x}"));
        survey.imports.push(("DMA_BUF_IOCTL_PHYS", phys.is_ok(), text));
        let from_fd = match self.handle.buf_from_fd(buffer.as_fd()) {
            Some(imported) => {
                let address = imported.address(abi.raw());
                self.handle.free(imported);
                (true, format!("{address:#x}"))
            }
            None if self.handle.has_buf_from_fd() => (false, "NULL".to_owned()),
            None => (false, Status::Missing.to_string()),
        };
        survey.imports.push(("g2d_buf_from_fd", from_fd.0, from_fd.1));
    }
}
