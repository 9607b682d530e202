//! Bodies made to order, a piece at a time.
//!
//! Must not know: connections, tasks, time.

use hp_core::base::units::KIB;

/// Where pieces of made bodies are kept while they are written; grows to [`PIECE_BYTES`] of either kind when first asked.
#[derive(Debug, Default)]
pub(crate) struct Filler {
    plain: Vec<u8>,
    random: Vec<u8>,
    state: u64,
}

/// What a body is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Matter {
    /// One byte again and again.
    Plain,
    /// Bytes that no coding makes shorter; the same sequence in every run.
    Random,
}

impl Filler {
    /// The next piece of a body: `len` bytes, but [`PIECE_BYTES`] at most.
    pub(crate) fn piece(&mut self, matter: Matter, len: u64) -> &[u8] {
        let len = usize::try_from(len).map_or(PIECE_BYTES, |len| len.min(PIECE_BYTES));
        match matter {
            Matter::Plain => {
                if self.plain.len() < len {
                    self.plain.resize(PIECE_BYTES, b'x');
                }
                &self.plain[..len]
            }
            Matter::Random => {
                self.random.resize(PIECE_BYTES, 0);
                for word in self.random[..len.next_multiple_of(8)].chunks_exact_mut(8) {
                    word.copy_from_slice(&split_mix(&mut self.state).to_le_bytes());
                }
                &self.random[..len]
            }
        }
    }
}

/// The next number of the SplitMix64 generator (Steele, Lea, Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Longest piece: what one slow reader holds of a made body.
pub(crate) const PIECE_BYTES: usize = 64 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_length_asked_for_and_a_bound() {
        let mut filler = Filler::default();
        for matter in [Matter::Plain, Matter::Random] {
            for len in [0, 1, 7, 8, 9, 65_535, 65_536] {
                assert_eq!(filler.piece(matter, len).len() as u64, len);
            }
            assert_eq!(filler.piece(matter, u64::MAX).len(), PIECE_BYTES);
        }
        assert!(
            filler
                .piece(Matter::Plain, 100)
                .iter()
                .all(|&byte| byte == b'x')
        );
    }

    #[test]
    fn random_pieces_differ_and_use_every_byte_alike() {
        let mut filler = Filler::default();
        let one = filler.piece(Matter::Random, 65_536).to_vec();
        let mut counts = [0_u32; 256];
        one.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        assert!(
            counts.iter().all(|count| (150..=370).contains(count)),
            "{counts:?}"
        );
        assert_ne!(one, filler.piece(Matter::Random, 65_536));
    }
}
