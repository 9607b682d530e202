//! How much of all requests one endpoint may bear where keys choose: [`EXCESS`] times its fair share. A popular key then
//! spills over to its next choice and does not drown its first (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads).

use super::Choice;

/// The bounds of this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Requests in flight at all who are in service, with this one.
    load: u128,
    /// Weights of the same.
    weight: u128,
}

impl Bounds {
    /// `None` where nobody is in service.
    pub(super) fn of<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        choice: &Choice<'_, L, U>,
    ) -> Option<Self> {
        let mut bounds = Self { load: 1, weight: 0 };
        for member in (0..choice.len()).filter(|member| choice.is_eligible(*member)) {
            bounds.load += u128::from((choice.load)(member));
            bounds.weight += u128::from(choice.weight(member));
        }
        (bounds.weight > 0).then_some(bounds)
    }

    /// Whether a member may take one more: `load + 1 <= ceil(EXCESS * all * weight / weights)`.
    pub(super) fn lets<L: Fn(usize) -> u32, U: Fn(usize) -> bool>(
        self,
        choice: &Choice<'_, L, U>,
        member: usize,
    ) -> bool {
        let (numerator, denominator) = EXCESS;
        let share = self.load * u128::from(choice.weight(member)) * numerator;
        let bound = share.div_ceil(self.weight * denominator);
        choice.may_take(member) && u128::from((choice.load)(member)) < bound
    }
}

/// As a fraction: 1.25.
const EXCESS: (u128, u128) = (5, 4);
