//! Reads the blocks of a Matroska file without a library.

/// An EBML element's identifier, its size if it is known, and the length of both.
fn element(data: &[u8]) -> Option<(u32, Option<usize>, usize)> {
    let id_bytes = data.first()?.leading_zeros() as usize + 1;
    let id = data.get(..id_bytes)?.iter().fold(0, |id, &b| id << 8 | u32::from(b));
    let size_bytes = data.get(id_bytes)?.leading_zeros() as usize + 1;
    let size = data.get(id_bytes..id_bytes + size_bytes)?.iter().fold(0, |size, &b| size << 8 | usize::from(b));
    let size = size & ((1 << (7 * size_bytes)) - 1);
    Some((id, (size != (1 << (7 * size_bytes)) - 1).then_some(size), id_bytes + size_bytes))
}

/// The complete blocks of a file in a player's order: time in milliseconds, and bytes.
pub fn blocks(file: &[u8]) -> Vec<(u64, &[u8])> {
    let (mut at, mut cluster_ms, mut cluster_end) = (0, 0, None);
    let mut found = Vec::new();
    while let Some((id, size, head)) = element(&file[at..]) {
        let is_cluster = id == 0x1f43_b675;
        if is_cluster || id == 0x1c53_bb6b {
            assert!(cluster_end.map_or(true, |end| end == at), "the next cluster must begin at the end of a cluster");
            cluster_end = size.map(|size| at + head + size).filter(|_| is_cluster);
        }
        at += head;
        // Into the segment and the clusters.
        if is_cluster || id == 0x1853_8067 {
            continue;
        }
        let Some(body) = file.get(at..at + size.expect("only segment and clusters may lack a size")) else { break };
        match (id, body) {
            (0xe7, _) => cluster_ms = body.iter().fold(0, |n, &b| n << 8 | u64::from(b)),
            (0xa3, &[0x81, high, low, _, ref coded @ ..]) => {
                found.push((cluster_ms.wrapping_add_signed(i16::from_be_bytes([high, low]).into()), coded));
            }
            _ => assert_ne!(id, 0xa3, "a block of another track"),
        }
        at += body.len();
    }
    found
}
