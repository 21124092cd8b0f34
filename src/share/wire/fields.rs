//! A message as bytes: its header, and fields that are appended at the end and read from the front.

use super::messages::{LeaseId, SlotId, MAX_MESSAGE, MAX_SLOTS};

/// A receiver that does not know the type of a message with this flag must end the connection.
pub(super) const CRITICAL: u16 = 1;

/// Bytes that are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the message ends within its fields")]
    Short,
    #[error("the message is longer than {MAX_MESSAGE} bytes")]
    Long,
    #[error("{0} has an impossible value")]
    Field(&'static str),
    #[error("message type {0} is unknown and critical")]
    UnknownCritical(u16),
}

/// An encoded message.
#[derive(Clone, Copy)]
pub(crate) struct Encoded {
    bytes: [u8; MAX_MESSAGE],
    len: usize,
}

impl Encoded {
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        Self { bytes: [0; MAX_MESSAGE], len: 0 }.u16(kind).u16(flags).u32(0)
    }

    fn put(mut self, field: &[u8]) -> Self {
        if let Some(to) = self.bytes.get_mut(self.len..self.len + field.len()) {
            to.copy_from_slice(field);
            self.len += field.len();
        }
        self
    }

    pub(super) fn u8(self, v: u8) -> Self {
        self.put(&[v])
    }

    pub(super) fn u16(self, v: u16) -> Self {
        self.put(&v.to_le_bytes())
    }

    pub(super) fn u32(self, v: u32) -> Self {
        self.put(&v.to_le_bytes())
    }

    pub(super) fn u64(self, v: u64) -> Self {
        self.put(&v.to_le_bytes())
    }

    pub(super) fn slot(self, id: SlotId) -> Self {
        self.u32(id.pool).u32(id.slot)
    }

    pub(super) fn lease(self, id: LeaseId) -> Self {
        self.u32(id.pool).u32(id.slot).u64(id.generation)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads fields from the front of a message.
pub(super) struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        if self.0.len() < N {
            return Err(Malformed::Short);
        }
        let (field, rest) = self.0.split_at(N);
        self.0 = rest;
        field.try_into().map_err(|_| Malformed::Short)
    }

    /// Returns how many bytes were not read.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[v]| v)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn slot(&mut self) -> Result<SlotId, Malformed> {
        let id = SlotId { pool: self.u32()?, slot: self.u32()? };
        check(id.slot < MAX_SLOTS as u32, "slot")?;
        Ok(id)
    }

    pub(super) fn lease(&mut self) -> Result<LeaseId, Malformed> {
        let SlotId { pool, slot } = self.slot()?;
        Ok(LeaseId { pool, slot, generation: self.u64()? })
    }
}

pub(super) fn check(ok: bool, field: &'static str) -> Result<(), Malformed> {
    if ok {
        Ok(())
    } else {
        Err(Malformed::Field(field))
    }
}

/// Splits the header off a message: type, flags, fields.
pub(super) fn open(message: &[u8]) -> Result<(u16, u16, Fields<'_>), Malformed> {
    if message.len() > MAX_MESSAGE {
        return Err(Malformed::Long);
    }
    let mut fields = Fields(message);
    let (kind, flags) = (fields.u16()?, fields.u16()?);
    fields.u32()?;
    Ok((kind, flags, fields))
}

pub(super) fn unknown<T>(kind: u16, flags: u16) -> Result<Option<T>, Malformed> {
    if flags & CRITICAL != 0 {
        return Err(Malformed::UnknownCritical(kind));
    }
    Ok(None)
}
