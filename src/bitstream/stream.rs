//! The packets of one stream: which coded buffers are pictures, and which parameter sets are in force. It does not
//! use a device.

use std::sync::Arc;

use super::{head, Codec, Head, ParameterSets};

/// A limit above the parameter sets of any stream, for a driver that sends nothing else.
const MOST_HEADER_BYTES: usize = 1 << 16;

/// Tracks the coded buffers of an encoder or a camera in order.
#[derive(Debug)]
pub(crate) struct Stream {
    codec: Codec,
    /// Parameter sets that came in separate buffers and are not yet followed by a picture.
    headers: Vec<u8>,
    parameters: Option<Arc<ParameterSets>>,
    count: u64,
}

/// The content of a coded buffer.
#[derive(Debug, PartialEq)]
pub(crate) enum Coded {
    /// A packet with its number in the stream.
    Picture { head: Head, sequence: u64, parameters: Option<Arc<ParameterSets>> },
    /// Only parameter sets, which are in force from now on.
    Headers,
    /// An empty buffer.
    Empty,
}

impl Stream {
    pub(crate) fn new(codec: Codec) -> Self {
        Self::from(codec, 0)
    }

    /// Creates a stream whose first packet has this number.
    pub(crate) fn from(codec: Codec, count: u64) -> Self {
        Self { codec, headers: Vec::new(), parameters: None, count }
    }

    /// Returns the codec.
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns the number of the next packet.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Begins a new stream, which has its own parameter sets. The count of packets continues.
    pub(crate) fn restart(&mut self) {
        self.headers.clear();
        self.parameters = None;
    }

    /// Returns the parameter sets in force.
    pub(crate) fn parameters(&self) -> Option<&Arc<ParameterSets>> {
        self.parameters.as_ref()
    }

    /// Takes the next coded buffer. A damaged buffer counts as a picture, however little it contains.
    pub(crate) fn next(&mut self, bytes: &[u8], is_damaged: bool) -> Coded {
        if bytes.is_empty() && !is_damaged {
            return Coded::Empty;
        }
        let mut head = head(self.codec, bytes);
        if head.has_parameters && !is_damaged {
            head.has_parameters = self.learn(bytes, &head);
        }
        if head.has_picture {
            self.headers.clear();
        }
        if !head.has_picture && !is_damaged && head.prefix_bytes > 0 {
            return Coded::Headers;
        }
        let sequence = self.count;
        self.count += 1;
        Coded::Picture { head, sequence, parameters: self.parameters.clone() }
    }

    /// Collects parameter sets. Returns `true` if this buffer alone has all parameter sets that a decoder needs.
    fn learn(&mut self, bytes: &[u8], head: &Head) -> bool {
        let prefix = bytes.get(..head.prefix_bytes).unwrap_or(bytes);
        if self.headers.len() + prefix.len() > MOST_HEADER_BYTES {
            self.headers.clear();
        }
        let is_alone = self.headers.is_empty();
        self.headers.extend_from_slice(prefix);
        let found = ParameterSets::find(self.codec, &self.headers);
        let is_complete = is_alone && found.is_some();
        if let Some(found) = found {
            // Repeated sets keep their `Arc`, for callers that compare pointers.
            if self.parameters.as_deref() != Some(&found) {
                self.parameters = Some(Arc::new(found));
            }
        }
        is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitstream::NalKind;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0xc0, 30];
    const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xce];
    const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x88, 7];
    const P: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 7];

    fn picture(coded: Coded) -> (bool, u64, Option<Arc<ParameterSets>>) {
        match coded {
            Coded::Picture { head, sequence, parameters } => (head.is_key, sequence, parameters),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stream_accepts_headers_joined_separate_or_in_pieces() {
        for buffers in [
            vec![[SPS, PPS, IDR].concat()],
            vec![[SPS, PPS].concat(), IDR.into()],
            vec![SPS.into(), PPS.into(), IDR.into()],
        ] {
            let mut stream = Stream::new(Codec::H264);
            let (last, headers) = buffers.split_last().unwrap();
            headers.iter().for_each(|h| assert_eq!(stream.next(h, false), Coded::Headers));
            let coded = stream.next(last, false);
            let joined = buffers.len() == 1;
            assert!(matches!(&coded, Coded::Picture { head, .. } if head.has_parameters == joined));
            let (is_key, sequence, sets) = picture(coded);
            assert!(is_key && sequence == 0);
            assert_eq!(sets.unwrap().of(NalKind::Pps).next(), Some(&PPS[4..]));
            let (is_key, sequence, sets) = picture(stream.next(P, false));
            assert!(!is_key && sequence == 1 && sets.is_some());
            let again = stream.next(&[SPS, PPS, IDR].concat(), false);
            assert!(matches!(again, Coded::Picture { head, .. } if head.has_parameters), "complete in one buffer");
        }
    }

    #[test]
    fn stream_keeps_repeated_sets_and_replaces_others() {
        let mut stream = Stream::new(Codec::H264);
        let joined = [SPS, PPS, IDR].concat();
        let (_, _, first) = picture(stream.next(&joined, false));
        let (_, _, again) = picture(stream.next(&joined, false));
        assert!(Arc::ptr_eq(first.as_ref().unwrap(), again.as_ref().unwrap()));
        let mut other = joined.clone();
        other[7] = 31;
        let (_, _, third) = picture(stream.next(&other, false));
        assert_ne!(third, first);
        stream.restart();
        assert_eq!(picture(stream.next(P, false)), (false, 3, None));
    }

    #[test]
    fn stream_skips_empty_buffers_but_not_damaged_ones() {
        let mut stream = Stream::new(Codec::H264);
        assert_eq!(stream.next(&[], false), Coded::Empty);
        assert_eq!(picture(stream.next(&[], true)), (false, 0, None));
        assert_eq!(picture(stream.next(SPS, true)), (false, 1, None));
        let mut vp8 = Stream::new(Codec::Vp8);
        assert_eq!(picture(vp8.next(&[0x10, 0], false)), (true, 0, None));
        for _ in 0..20_000 {
            stream.next(SPS, false);
        }
        assert!(stream.headers.len() <= MOST_HEADER_BYTES);
    }
}
