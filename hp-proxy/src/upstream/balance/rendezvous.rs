//! Highest random weight (Thaler and Ravishankar 1998): each endpoint throws a lot of its own for a key, the highest takes it.
//! Nothing is stored, shares are exact by weight, and only the keys of one that goes move. Each pick looks at all.

use super::Choice;
use super::bounded::Bounds;
use super::member::Member;
use super::mix;

/// What each member throws its lots with.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    name_hashes: Vec<u64>,
}

impl Rendezvous {
    /// For these members.
    #[must_use]
    pub fn of(members: &[Member]) -> Self {
        Self {
            name_hashes: members.iter().map(Member::name_hash).collect(),
        }
    }

    pub(super) fn peek<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
        key: u64,
    ) -> Option<usize> {
        let bounds = Bounds::of(choice)?;
        let best = self.best(choice, key, |member| bounds.lets(choice, member));
        best.or_else(|| self.best(choice, key, |member| choice.may_take(member)))
    }

    fn best<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        &self,
        choice: &Choice<'_, L, U>,
        key: u64,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let members = self.name_hashes.iter().enumerate();
        let scored = members
            .filter(|(member, _)| may(*member))
            .map(|(member, name_hash)| {
                let weight = choice.weight(member) as f64;
                (score(weight, mix(key ^ name_hash)), member)
            });
        let best = scored.max_by(|one, other| one.0.total_cmp(&other.0));
        best.map(|(_, member)| member)
    }
}

/// -weight / ln(lot), with the lot evenly between 0 and 1: the highest of all is each one's as often as its weight says.
fn score(weight: f64, lot: u64) -> f64 {
    let even = ((lot >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / even.ln()
}
