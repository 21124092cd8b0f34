//! The packets of one stream: which coded buffers are pictures, and the parameter sets that are in force. Knows no device.

use std::sync::Arc;

use crate::bitstream::{head, Codec, Head, ParameterSets};

/// More parameter sets than any stream has: a driver that sends nothing else is not collected for ever.
const MOST_HEADER_BYTES: usize = 1 << 16;

/// Follows an encoder's output buffers in order.
#[derive(Debug)]
pub(super) struct Stream {
    codec: Codec,
    /// Parameter sets that came in buffers of their own, not yet followed by a picture.
    headers: Vec<u8>,
    parameters: Option<Arc<ParameterSets>>,
    count: u64,
}

/// What a coded buffer is.
#[derive(Debug, PartialEq)]
pub(super) enum Coded {
    /// A packet, with its number.
    Picture { head: Head, sequence: u64, parameters: Option<Arc<ParameterSets>> },
    /// Nothing but parameter sets, which are in force now.
    Headers,
    /// Nothing at all.
    Empty,
}

impl Stream {
    pub(super) fn new(codec: Codec) -> Self {
        Self::from(codec, 0)
    }

    /// One whose first packet has this number.
    pub(super) fn from(codec: Codec, count: u64) -> Self {
        Self { codec, headers: Vec::new(), parameters: None, count }
    }

    /// The next packet's number.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// A new stream begins, with parameter sets of its own. Packets are counted on.
    pub(super) fn restart(&mut self) {
        self.headers.clear();
        self.parameters = None;
    }

    /// The parameter sets in force.
    pub(super) fn parameters(&self) -> Option<&Arc<ParameterSets>> {
        self.parameters.as_ref()
    }

    /// Takes the next coded buffer. Damaged ones are pictures, too, however little is left of them.
    pub(super) fn next(&mut self, bytes: &[u8], is_damaged: bool) -> Coded {
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

    /// `true` if this buffer alone has all that a decoder needs.
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
            // The same sets, repeated, stay the same for those who compare pointers.
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
    fn headers_come_joined_separate_or_in_pieces() {
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
            assert!(matches!(again, Coded::Picture { head, .. } if head.has_parameters), "all by itself");
        }
    }

    #[test]
    fn repeated_sets_are_the_same_and_others_replace_them() {
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
    fn nothing_is_not_a_packet_but_a_damaged_buffer_is() {
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
