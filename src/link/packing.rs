//! Packing: envelopes with their slots, compressed together, as batches and bodies carry them.
//!
//! Owns the form (zstd over a CBOR array of `[slot, envelope]`; nothing for none), its bounds, and where a sender that
//! gives many ends a pack. Packing is most of what giving an event costs, and a node that gives the same events to many
//! peers packs them once: what was packed last is remembered, by the memory that it lies in, and packs end where the
//! events say so, so that peers at different places of the log come to the same ones. It must never unpack more than it
//! was told to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::few::Few;
use super::frame::FrameError;
use crate::envelope::SeenKey;

/// zstd's fastest usual level: envelopes are text, and much alike.
const LEVEL: i32 = 1;

/// Packs that are remembered, and bytes of envelopes in them, at most.
const REMEMBERED: (usize, usize) = (128, 4 << 20);
/// Bytes of envelopes in one that is, at most.
const LARGEST: usize = 128 << 10;

/// Bytes of envelopes after which a pack may end, and those with which it does.
const ENDS: (usize, usize) = (48 << 10, 80 << 10);
/// One of so many entries may be a pack's last.
const LAST: u8 = 8;

/// Whether a pack with so many bytes ends with the entry that has this key: it looks at nothing but what is given, since
/// by where packs end nobody is to learn of what lies between in the log.
pub(super) fn ends(bytes: usize, last: &SeenKey) -> bool {
    bytes >= ENDS.1 || (bytes >= ENDS.0 && last.0[0].is_multiple_of(LAST))
}

thread_local! {
    static PACKER: RefCell<Packer> = RefCell::new(Packer::new());
    // Made anew for each pack, it would cost as much as a few envelopes.
    static UNPACKER: RefCell<Decompressor<'static>> =
        RefCell::new(Decompressor::new().expect("there is memory for a decompressor"));
}

static LAST_PACKS: Mutex<Packs> = Mutex::new(Packs { packs: VecDeque::new(), bytes: 0 });

/// The newest first.
struct Packs {
    packs: VecDeque<Pack>,
    bytes: usize,
}

struct Pack {
    /// Where the first envelope lies: most others are told apart by it.
    first: usize,
    /// Kept with it, so that their memory can be nobody else's.
    bodies: Vec<(u16, Bytes)>,
    bytes: usize,
    packed: Bytes,
}

fn place(bodies: &[(u16, Bytes)]) -> usize {
    bodies.first().map_or(0, |(_, body)| body.as_ptr() as usize)
}

impl Pack {
    fn is_of(&self, bodies: &[(u16, Bytes)]) -> bool {
        let same = |(one, other): (&(u16, Bytes), &(u16, Bytes))| {
            (one.0, one.1.as_ptr(), one.1.len()) == (other.0, other.1.as_ptr(), other.1.len())
        };
        self.first == place(bodies) && self.bodies.len() == bodies.len() && self.bodies.iter().zip(bodies).all(same)
    }
}

impl Packs {
    fn of(&self, bodies: &[(u16, Bytes)]) -> Option<Bytes> {
        self.packs.iter().find(|pack| pack.is_of(bodies)).map(|pack| pack.packed.clone())
    }

    fn remember(&mut self, pack: Pack) {
        self.bytes += pack.bytes;
        self.packs.push_front(pack);
        while (self.packs.len() > REMEMBERED.0 || self.bytes > REMEMBERED.1)
            && let Some(oldest) = self.packs.pop_back()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

struct Packer {
    compressor: Compressor<'static>,
    plain: Vec<u8>,
    /// With room for what does not compress.
    room: Vec<u8>,
}

impl Packer {
    fn new() -> Packer {
        let compressor = Compressor::new(LEVEL).expect("there is memory for a compressor");
        Packer { compressor, plain: Vec::new(), room: Vec::new() }
    }

    fn pack(&mut self, bodies: &[(u16, Bytes)]) -> Bytes {
        self.plain.clear();
        let list: Vec<(u16, &serde_bytes::Bytes)> =
            bodies.iter().map(|(slot, body)| (*slot, serde_bytes::Bytes::new(body))).collect();
        serde_cbor::to_writer(&mut self.plain, &list).expect("envelopes are plain data");
        self.room.clear();
        self.room.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        self.compressor.compress_to_buffer(&self.plain, &mut self.room).expect("compression into memory");
        let packed = Bytes::copy_from_slice(&self.room);
        if self.plain.len() > LARGEST {
            (self.plain, self.room) = (Vec::new(), Vec::new());
        }
        packed
    }
}

/// Envelopes with their slots. Nothing for none.
pub fn pack(bodies: &[(u16, Bytes)]) -> Bytes {
    if bodies.is_empty() {
        return Bytes::new();
    }
    let packs = || LAST_PACKS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(packed) = packs().of(bodies) {
        return packed;
    }
    let packed = PACKER.with_borrow_mut(|packer| packer.pack(bodies));
    let bytes = bodies.iter().map(|(_, body)| body.len()).sum();
    if bytes <= LARGEST {
        packs().remember(Pack { first: place(bodies), bodies: bodies.to_vec(), bytes, packed: packed.clone() });
    }
    packed
}

/// The reverse of [`pack`], into at most `most` bytes. The envelopes share one allocation.
pub fn unpack(packed: &[u8], most: usize) -> Result<Vec<(u16, Bytes)>, FrameError> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    let content = |what: &str| FrameError::Content(what.to_owned());
    // The declared size is the sender's word: bound it before anything is allocated.
    let size =
        zstd::zstd_safe::get_frame_content_size(packed).ok().flatten().ok_or_else(|| content("no zstd frame"))?;
    if size > most as u64 {
        return Err(FrameError::TooLong(size));
    }
    let plain = UNPACKER.with_borrow_mut(|unpacker| unpacker.decompress(packed, size as usize));
    let plain = Bytes::from(plain.map_err(|_| content("bodies do not decompress"))?);
    let Few(bodies): Few<(u16, &serde_bytes::Bytes)> = serde_cbor::from_slice(&plain)?;
    Ok(bodies.into_iter().map(|(slot, body)| (slot, plain.slice_ref(body))).collect())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::envelope::{Key, SeenKeys};

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let zeros = Bytes::from(vec![0; 1 << 20]);
        let packed = pack(&[(0, zeros.clone())]);
        assert!(packed.len() < 1000);
        assert!(matches!(unpack(&packed, 1 << 19), Err(FrameError::TooLong(_))));
        assert_eq!(unpack(&packed, 1 << 21).unwrap(), [(0, zeros)]);
        assert!(unpack(b"no zstd at all", 1 << 20).is_err());
    }

    #[test]
    fn what_is_packed_again_is_the_same_and_nothing_else_is_taken_for_it() {
        let body = |byte: u8| Bytes::from(vec![byte; 1000]);
        let bodies = [(0, body(1)), (1, body(2))];
        let packed = pack(&bodies);
        assert_eq!(pack(&bodies), packed);
        assert_eq!(unpack(&packed, 1 << 20).unwrap(), bodies);
        // Another slot, another envelope, a part of one, one more or less: whatever is remembered.
        let others = [
            vec![(0, body(1)), (2, bodies[1].1.clone())],
            vec![bodies[0].clone(), (1, body(3))],
            vec![bodies[0].clone(), (1, bodies[1].1.slice(..999))],
            vec![bodies[0].clone()],
            vec![bodies[0].clone(), bodies[1].clone(), (2, body(4))],
        ];
        for other in others {
            assert_eq!(unpack(&pack(&other), 1 << 20).unwrap(), other);
        }
        // In memory that was freed and is used again.
        for byte in 0..100 {
            let one = [(0, body(byte))];
            assert_eq!(unpack(&pack(&one), 1 << 20).unwrap(), one);
        }
    }

    #[test]
    fn who_begins_elsewhere_soon_comes_to_the_same_packs() {
        let entries: Vec<(usize, SeenKey)> = (0..2000u32)
            .map(|n| {
                (
                    600 + (n as usize * 37) % 1500,
                    SeenKeys::of_offer(&Key::default(), Uuid::from_u128(n.into()), 0).insert,
                )
            })
            .collect();
        let last_of_packs = |from: usize| {
            let (mut bytes, mut packs) = (0, Vec::new());
            for (at, (size, key)) in entries.iter().enumerate().skip(from) {
                bytes += size;
                if ends(bytes, key) {
                    assert!((ENDS.0..ENDS.1 + size).contains(&bytes), "{bytes}");
                    packs.push(at);
                    bytes = 0;
                }
            }
            packs
        };
        let all = last_of_packs(0);
        for from in 1..200 {
            let others = last_of_packs(from);
            let met = others.iter().position(|last| all.contains(last)).expect("they never meet");
            assert!(others[met] < from + 600, "{from}: not before {}", others[met]);
            assert!(all.ends_with(&others[met..]), "{from}: they part again");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        for n in 0..600usize {
            let size = if n < 200 { LARGEST - n } else { 10 };
            let _ = pack(&[(0, Bytes::from(vec![n as u8; size]))]);
            let packs = LAST_PACKS.lock().unwrap();
            let held: usize =
                packs.packs.iter().map(|pack| pack.bodies.iter().map(|(_, body)| body.len()).sum::<usize>()).sum();
            assert_eq!(held, packs.bytes);
            assert!(held <= REMEMBERED.1 && packs.packs.len() <= REMEMBERED.0);
        }
    }
}
